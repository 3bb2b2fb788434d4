"""From a config to the graph of `forward(tokens) -> logits`, without weights."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.recurrences import supplied
from hetc.frontends.sources.depth import truncated
from hetc.frontends.sources.experts import EXPERTS
from hetc.frontends.sources.indexers import INDEXERS
from hetc.frontends.sources.libraries import first_line, require
from hetc.frontends.sources.replacement import replace_methods
from hetc.frontends.sources.skeleton import buffer_values, build_skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

# Any batch above 1 and length will do; torch.export takes an example of 1 for a constant.
_EXAMPLE_BATCH = 2
_EXAMPLE_LENGTH = 12


def export_program(config: Any, *, layers: int | None = None) -> torch.export.ExportedProgram:
    """Export `forward(input_ids i64[B,S]) -> logits [B,S,V]` of the model that `config` describes.

    The program is functional. Its parameters are fake CPU tensors under the names of the module's
    state dict; buffers outside the state dict and lifted constants have their values. Axis 0 of the
    input is B >= 1, axis 1 is S, from 1 to the config's longest position (one less where the model
    treats its longest sequence apart); the program's range constraints say which. `layers` exports
    a model of that many layers instead (see `plan_depth`). A model without a language head gives
    its hidden states.

    Masks keep the test for packed sequences that transformers puts in every exported mask: dropping
    it would change models whose positions depend on data.

    Errors: HETC-I054, HETC-I055 (the config), HETC-I069 (torch.export cannot follow the model).
    """
    require("torch", "transformers", needed_for="reading a model's graph")
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    model = build_skeleton(config if layers is None else truncated(config, layers))
    buffers = buffer_values(model)
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    as_fake_cpu(model, mode, keep=set(buffers))
    bound = replace_methods(model, EXPERTS | INDEXERS)
    model.forward = _logits_only(model)
    longest = min((n for n in (max_positions(config), bound) if n is not None), default=None)
    try:
        with torch.no_grad(), supplied(model), warnings.catch_warnings():
            # torch and transformers warn about their own internals here.
            warnings.simplefilter("ignore")
            return functional_program(_exported(model, longest))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "HETC-I069",
            "torch.export cannot follow the model's forward",
            at=f"{config.model_type} ({type(model).__name__})",
            expected="a forward without branches or loops over the token axis",
            found=_reason(error),
            do="export a variant that torch.export accepts and compile its .pt2 or .onnx file",
        ) from error


def _exported(model: Any, longest: int | None) -> torch.export.ExportedProgram:
    """The program for as many lengths as torch can prove it right for."""
    from torch._dynamo.exc import UserError

    attempts = [(longest, False), (longest, True)]
    if longest is not None and longest > 1:
        # A model that slices a table of `longest` rows behaves apart where S reaches it.
        attempts.append((longest - 1, False))
    first: UserError | None = None
    for length, deferred in attempts:
        try:
            return _export(model, length, deferred=deferred)
        except UserError as error:
            first = first or error
    assert first is not None
    raise first


def _export(model: Any, longest: int | None, *, deferred: bool) -> torch.export.ExportedProgram:
    """`deferred`: what torch cannot prove of the sizes stands in the program as assertions, which
    the importer holds it to."""
    import torch

    length = min(_EXAMPLE_LENGTH, longest or _EXAMPLE_LENGTH)
    example = torch.zeros(_EXAMPLE_BATCH, length, dtype=torch.int64)
    axes = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("S", min=1, max=longest)}
    return torch.export.export(
        model,
        (example,),
        dynamic_shapes={"input_ids": axes},
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=deferred,
    )


def as_fake_cpu(model: Any, mode: FakeTensorMode, keep: set[str]) -> None:
    """Make the meta tensors of `model` fake CPU ones: constants made beside them stay real."""
    import torch

    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        # Tied parameters stay one object.
        if id(tensor) not in fakes:
            with mode:
                value = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, torch.nn.Parameter):
                value = torch.nn.Parameter(value, requires_grad=False)
            fakes[id(tensor)] = value
        return fakes[id(tensor)]

    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[leaf] = fake(parameter)
        for leaf, buffer in module._buffers.items():
            if buffer is not None and f"{path}.{leaf}".removeprefix(".") not in keep:
                module._buffers[leaf] = fake(buffer)


def _reason(error: Exception) -> str:
    """The line of torch's message that names the violated constraint, else its first line."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    telling = ("Not all values", "solving the guards")
    return next((line for line in lines if line.startswith(telling)), first_line(error))


def max_positions(config: Any) -> int | None:
    """The longest sequence that the config allows, None where it sets no limit (ALiBi)."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "max_seq_len", "n_positions"):
        longest = getattr(text, name, None)
        if isinstance(longest, int) and longest > 0:
            return longest
    return None


def _logits_only(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A forward with one input and one output.

    It replaces the bound method, rather than wrapping the model in another module, so that
    parameters and module paths keep the model's own names.
    """
    forward = model.forward
    options = {"use_cache": False} if "use_cache" in inspect.signature(forward).parameters else {}

    def logits(input_ids: torch.Tensor) -> torch.Tensor:
        output = forward(input_ids=input_ids, **options)
        values: torch.Tensor = output["logits" if "logits" in output else "last_hidden_state"]
        return values

    return logits


def functional_program(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """`program` without ops that write into their operands."""
    return program if _is_functional(program) else program.run_decompositions({})


def _is_functional(program: torch.export.ExportedProgram) -> bool:
    """Whether no op writes into its operand and none holds a subgraph.

    Only then is `run_decompositions({})` needed; it takes as long as the export again, or twice.
    """
    import torch

    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return False
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            return False
    return True
