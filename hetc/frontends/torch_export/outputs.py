"""The outputs of an exported program: which one is the logits, and what happens to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.inputs import Tokens
from hetc.ir.graph import Graph
from hetc.ir.op import Value
from hetc.ir.ops.source import Weight

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def choose_logits(
    ctx: Context, program: ExportedProgram, results: tuple[Any, ...], tokens: Tokens, source: str
) -> Value:
    """The result named `logits`, or the first float one of shape [B, S, V]; the others are noted as
    dropped.

    Raises InputError (HETC-I208) where there is none.
    """
    kinds = [spec.kind.name for spec in program.graph_signature.output_specs]
    users = [result for kind, result in zip(kinds, results, strict=True) if kind == "USER_OUTPUT"]
    preferred = _named_logits(program, len(users))
    order = [preferred] if preferred is not None else range(len(users))
    for index in order:
        value = users[index]
        if isinstance(value, Value) and _is_logits(value, tokens):
            dropped = sum(isinstance(item, Value) for item in users) - 1
            if dropped:
                ctx.notes.append(
                    f"{dropped} other output{'s' if dropped > 1 else ''} of the program dropped"
                )
            return value
    raise InputError(
        "HETC-I208",
        "no output of the program is logits",
        at=source,
        expected=f"a float output [{tokens.batch},{tokens.length},V]",
        found=", ".join(str(item.type) for item in users if isinstance(item, Value))
        or "no tensors",
        do="export a forward that returns the logits of every position (logits_to_keep=0)",
    )


def all_outputs(program: ExportedProgram, results: tuple[Any, ...]) -> dict[str, Value]:
    """Every tensor that the program returns, in order: by its key where the program returns a
    mapping, else by the name of the node that made it."""
    specs = program.graph_signature.output_specs
    users = [
        (spec.arg.name, result)
        for spec, result in zip(specs, results, strict=True)
        if spec.kind.name == "USER_OUTPUT"
    ]
    keys = output_keys(program, len(users))
    tensors = [
        (keys.get(index, name), value)
        for index, (name, value) in enumerate(users)
        if isinstance(value, Value)
    ]
    names = [name for name, _ in tensors]
    return {
        name if names.count(name) == 1 else f"{name}.{index}": value
        for index, (name, value) in enumerate(tensors)
    }


def _is_logits(value: Value, tokens: Tokens) -> bool:
    return (
        value.rank == 3
        and value.dtype.is_float
        and value.shape[:2] == (tokens.batch, tokens.length)
    )


def _named_logits(program: ExportedProgram, count: int) -> int | None:
    """Position of the output with the key `logits` where the model returns a mapping."""
    keys = output_keys(program, count)
    return next((index for index, key in keys.items() if key == "logits"), None)


def output_keys(program: ExportedProgram, count: int) -> dict[int, str]:
    """Position -> key of the outputs, of which there are `count`, that stand in a mapping."""
    spec = program.call_spec.out_spec
    if spec is None or spec.num_leaves != count:
        return {}
    tree = spec.unflatten(list(range(count)))
    if not isinstance(tree, Mapping):
        return {}
    return {index: str(key) for key, index in tree.items() if isinstance(index, int)}


def check_stateless(
    program: ExportedProgram, graph: Graph, buffers: Mapping[str, str], source: str
) -> None:
    """Refuse a program whose result depends on a buffer that it also writes (HETC-I209): a second
    call would differ.

    `buffers` maps the targets of the signature to the names of the graph's weights.
    """
    read = {op.name for op in graph.ops if isinstance(op, Weight)}
    for spec in program.graph_signature.output_specs:
        kind = spec.kind.name
        if kind == "BUFFER_MUTATION" and buffers.get(str(spec.target)) in read:
            raise InputError(
                "HETC-I209",
                "the model keeps state in a buffer that it reads and writes",
                at=source,
                found=spec.target,
                do="export it without its cache (use_cache=False): hetc derives the state",
            )
        if kind == "USER_INPUT_MUTATION":
            raise InputError(
                "HETC-I209", "the model writes into its input", at=source, found=spec.target
            )
