"""Whether an exported program is a language model, by its inputs and outputs alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, Reason
from hetc.frontends.no_phases import HIDDEN_STATES
from hetc.frontends.torch_export.inputs import choose_tokens
from hetc.frontends.torch_export.outputs import output_keys

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def why_no_language_model(program: ExportedProgram) -> Reason | None:
    """Why `program` maps no tokens to logits (HETC-I205, HETC-I208); None where it may.

    Tokens are integers [B,S]; logits are floats [B,S,V] that the program does not call hidden
    states, without a vector for each sequence beside them.
    """
    inputs = [
        node
        for spec, node in zip(
            program.graph_signature.input_specs,
            program.graph.find_nodes(op="placeholder"),
            strict=True,
        )
        if spec.kind.name == "USER_INPUT"
    ]
    try:
        tokens = choose_tokens(inputs, "").meta["val"]
    except InputError as error:
        shown = ", ".join(f"{node.name} {_shown(node.meta.get('val'))}" for node in inputs)
        return Reason(error.code, f"no input is tokens, but {shown or 'there are none'}")
    outputs = list(_outputs(program))
    named = any(key == "logits" for key, _ in outputs)
    # A vector for each sequence beside what stands for each token: an encoder.
    pools = not named and any(f.ndim == 2 and f.dtype.is_floating_point for _, f in outputs)
    rows = any(_is_logits(fake, tokens) and key not in HIDDEN_STATES for key, fake in outputs)
    if rows and not pools:
        return None
    shown = ", ".join(f"{key} {_shown(fake)}".strip() for key, fake in outputs)
    return Reason("HETC-I208", f"no output is logits [B,S,V], but {shown or 'there are none'}")


def _outputs(program: ExportedProgram) -> Iterator[tuple[str, Any]]:
    """The key of every output that is a tensor, where it has one, and the tensor itself."""
    made = {node.name: node for node in program.graph.nodes}
    specs = [
        spec for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"
    ]
    keys = output_keys(program, len(specs))
    for index, spec in enumerate(specs):
        node = made.get(getattr(spec.arg, "name", ""))
        fake = None if node is None else node.meta.get("val")
        if hasattr(fake, "dtype"):
            yield keys.get(index, ""), fake


def _shown(fake: Any) -> str:
    """The type of a recorded tensor; sizes that vary are `*`, for PyTorch numbers its symbols."""
    if not hasattr(fake, "dtype"):
        return type(fake).__name__
    sizes = ",".join(str(size) if isinstance(size, int) else "*" for size in fake.shape)
    return f"{str(fake.dtype).removeprefix('torch.')}[{sizes}]"


def _is_logits(fake: Any, tokens: Any) -> bool:
    # As text: comparing two symbolic sizes would make PyTorch assume the answer.
    rows = [str(size) for size in tokens.shape]
    leading = [str(size) for size in fake.shape[:2]]
    return fake.ndim == 3 and fake.dtype.is_floating_point and leading == rows
