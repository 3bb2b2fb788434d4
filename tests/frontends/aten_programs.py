"""Exported programs of one ATen call each: what `torch.export` would give, without its tracing."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._export.verifier import TrainingIRVerifier
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_map, tree_structure


@dataclass(frozen=True)
class Sample:
    """One call of an ATen op: `target(*args, **kwargs)`."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the arguments, in order."""
        found: list[torch.Tensor] = []
        _map_tensors(found.append, (self.args, self.kwargs))
        return found

    def eager(self) -> list[torch.Tensor]:
        """The tensors that PyTorch gives, on copies of the arguments; a number stands twice in a
        vector."""
        args, kwargs = _map_tensors(_copied, (self.args, self.kwargs))
        with torch.no_grad():
            made = self.target(*args, **kwargs)
        if isinstance(made, bool | int | float):
            return [torch.full([2], made)]
        parts = made if isinstance(made, tuple | list) else (made,)
        return [part for part in parts if isinstance(part, torch.Tensor)]

    def text(self) -> str:
        """The arguments as people write them; tensors by type and shape."""
        return ", ".join(
            [*map(_told, self.args), *(f"{key}={_told(item)}" for key, item in self.kwargs.items())]
        )


def _map_tensors(change: Any, tree: Any) -> Any:
    return tree_map(lambda item: change(item) if isinstance(item, torch.Tensor) else item, tree)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides."""
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return copy.copy_(tensor)


def _told(item: Any) -> str:
    if isinstance(item, torch.Tensor):
        return f"{str(item.dtype).removeprefix('torch.')}{list(item.shape)}"
    if isinstance(item, tuple | list):
        return f"[{', '.join(map(_told, item))}]"
    return str(item)


def program_of(sample: Sample, results: int = 0) -> ExportedProgram:
    """The sample's call as an exported program with its tensors as inputs, and its first `results`
    results as outputs, or all of them.

    Sizes are static; a size that data decides is an unbacked symbol, as in an export. What the op
    writes to is copied first.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv())
    graph = Graph()
    inputs: list[Node] = []

    def placeholder(tensor: torch.Tensor) -> Node:
        node = graph.placeholder(f"x{len(inputs)}")
        node.meta["val"] = mode.from_tensor(tensor.detach(), static_shapes=True)
        inputs.append(node)
        return node

    args, kwargs = _map_tensors(placeholder, (sample.args, sample.kwargs))
    args, kwargs = _copies_of_written(graph, sample.target, list(args), dict(kwargs))
    call = graph.call_function(sample.target, tuple(args), dict(kwargs))
    with mode:
        # Of what is written to a copy: the node keeps the type from before.
        fake_args, fake_kwargs = tree_map(lambda item: _fake(item, sample.target), (args, kwargs))
    with mode, torch.no_grad():
        call.meta["val"] = made = sample.target(*fake_args, **fake_kwargs)
        if not isinstance(made, torch.Tensor | tuple | list):
            # A number is no output of a program: a tensor of it is.
            call = graph.call_function(torch.ops.aten.full.default, ([2], call))
            call.meta["val"] = made = torch.full([2], made)
    outputs = _outputs(graph, call, made, results)
    graph.output(tuple(outputs))
    signature = ExportGraphSignature(
        [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in inputs],
        [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in outputs],
    )
    takes, gives = tree_structure((tuple(inputs), {})), tree_structure(tuple(outputs))
    called = ModuleCallSignature([], [], takes, gives)
    entry = ModuleCallEntry("", called)
    return ExportedProgram(
        # As `torch.export` makes them: ops that write may stand in a program.
        torch.nn.Module(),
        graph,
        signature,
        {},
        {},
        [entry],
        verifiers=[TrainingIRVerifier],
    )


def _fake(item: Any, target: Any) -> Any:
    if not isinstance(item, Node):
        return item
    return item.meta["val"].clone() if target._schema.is_mutable else item.meta["val"]


def _copies_of_written(
    graph: Graph, target: Any, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    for place, argument in enumerate(target._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        holder: Any = kwargs if argument.name in kwargs else args
        key = argument.name if argument.name in kwargs else place
        copy = graph.call_function(torch.ops.aten.clone.default, (holder[key],))
        copy.meta["val"] = holder[key].meta["val"].clone()
        holder[key] = copy
    return args, kwargs


def _outputs(graph: Graph, call: Node, made: Any, results: int) -> list[Node]:
    if not isinstance(made, tuple | list):
        return [call]
    outputs = []
    for index, part in enumerate(made[: results or None]):
        if isinstance(part, torch.Tensor):
            node = graph.call_function(operator.getitem, (call, index))
            node.meta["val"] = part
            outputs.append(node)
    return outputs
