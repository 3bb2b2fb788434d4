"""From an exported program to a graph: one walk over its nodes, by the table."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, IRError, Reason
from hetc.frontends.torch_export import (
    table_bag,
    table_conv,
    table_distance,
    table_elementwise,
    table_fft,
    table_grid,
    table_index,
    table_mask,
    table_nn,
    table_norm,
    table_norm_backward,
    table_pool,
    table_random,
    table_reduce,
    table_resample,
    table_shape,
    table_source,
)
from hetc.frontends.torch_export.context import Context, Pairs, Unsupported
from hetc.frontends.torch_export.functional import (
    decomposable,
    decomposed,
    functional,
    wrapped_module,
)
from hetc.frontends.torch_export.inputs import bind_all, bind_inputs
from hetc.frontends.torch_export.opaque import opaque
from hetc.frontends.torch_export.outputs import all_outputs, check_stateless, choose_logits
from hetc.frontends.torch_export.places import Places, describe, place, wrapper_of
from hetc.frontends.torch_export.registry import COMPLEX, TABLE, Handler
from hetc.frontends.torch_export.symbols import NotAPolynomial, Symbols
from hetc.frontends.torch_export.table_complex import view_as_real
from hetc.frontends.torch_export.weights import WeightTable
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.model import SizeRange, WeightData
from hetc.ir.op import Op, Value
from hetc.ir.ops.source import Weight

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

# Imported for what they put into TABLE.
_TABLES = (
    table_bag,
    table_conv,
    table_distance,
    table_elementwise,
    table_fft,
    table_grid,
    table_index,
    table_mask,
    table_nn,
    table_norm,
    table_norm_backward,
    table_pool,
    table_random,
    table_reduce,
    table_resample,
    table_shape,
    table_source,
)

# Keyword arguments that say where and how a tensor lies, not what is in it.
_PLACEMENT = {
    "device",
    "layout",
    "pin_memory",
    "memory_format",
    "non_blocking",
    "copy",
    "generator",
}

# Ops whose result is a number that data decides: a tensor without axes in the IR.
_NUMBERS = ("aten._local_scalar_dense.default", "aten.item.default")


@dataclass(frozen=True)
class ImportedGraph:
    """A program as imported.

    `graph` is `forward(tokens i64[B,S]) -> logits f[B,S,V]`, or for `import_whole` the program with
    its own inputs and outputs; `weights` holds the data of its weight ops, by name. `max_sequence`
    is the upper bound that the export declared for S, None where it declared none. `opaque` says
    for every op that no table knows why it was kept as it is; `notes` are sentences that the user
    should read. `sizes` is the range of every symbol of the inputs.
    """

    graph: Graph
    weights: Mapping[str, WeightData]
    max_sequence: int | None
    opaque: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, SizeRange] = field(default_factory=dict)


def import_exported(
    program: ExportedProgram, *, name: str = "forward", source: str = ""
) -> ImportedGraph:
    """Import an exported program that maps tokens to logits and keeps no state.

    Ops that no table knows are first expressed by others with PyTorch's own decompositions, and
    where those know none either, kept as opaque ops. `source` names the file in errors. Raises
    InputError (HETC-I201 to HETC-I214).
    """
    return _imported(program, name, source, whole=False)


def import_whole(
    program: ExportedProgram, *, name: str = "forward", source: str = ""
) -> ImportedGraph:
    """Import an exported program as the function that it is: every tensor input stays an input
    under its own name, every tensor output an output, in order.

    A complex one is real here, with a last axis for the real and the imaginary part, as
    `torch.view_as_real` has it.
    Sizes that differ from call to call are called N0, N1, ... as the inputs show them. Ops that no
    table knows are treated as by `import_exported`. Raises InputError.
    """
    return _imported(program, name, source, whole=True)


def _imported(program: ExportedProgram, name: str, source: str, *, whole: bool) -> ImportedGraph:
    program = functional(program)
    tried: set[Any] = set()
    while True:
        attempt = _Import(program, name, source, whole)
        imported = attempt.run()
        targets = {target for target, _, _ in attempt.unknown} - tried
        tried |= targets
        replaceable = decomposable(targets) if targets else set()
        if not replaceable:
            return imported
        program = decomposed(program, replaceable)


@dataclass
class _Import:
    """One walk over one program."""

    program: ExportedProgram
    name: str
    source: str
    whole: bool
    unknown: list[tuple[Any, Reason, Op]] = field(default_factory=list)
    weights: WeightTable = field(default_factory=WeightTable)
    _handlers: dict[Any, tuple[Handler | None, Handler | None, bool]] = field(default_factory=dict)
    _pairs: bool = False

    def run(self) -> ImportedGraph:
        program = self.program
        bounds = {key: _range(found) for key, found in program.range_constraints.items()}
        self.ctx = ctx = Context(Symbols(bounds), GraphBuilder(self.name))
        self.places = Places(wrapper_of(program))
        self.weights.wrapper = self.places.wrapper
        self.weights.name_all(program.state_dict)
        user_inputs, buffers = self._bind_tensors()
        outputs = self._whole(user_inputs) if self.whole else self._language(user_inputs)
        graph = ctx.builder.finish(outputs.values(), tuple(outputs)).prune()
        check_stateless(program, graph, buffers, self.source)
        used = {op.name for op in graph.ops if isinstance(op, Weight)}
        weights = {key: data for key, data in self.weights.found.items() if key in used}
        longest = ctx.symbols.ranges.get("S", (1.0, math.inf))[1]
        bound = int(longest) if longest < 2**31 else None
        placed = {id(op) for op in graph.ops}
        kept = tuple(reason for _, reason, op in self.unknown if id(op) in placed)
        sizes = {name: _bounds(found) for name, found in ctx.symbols.ranges.items()}
        return ImportedGraph(graph, weights, bound, kept, tuple(ctx.notes), sizes)

    def _language(self, user_inputs: list[Node]) -> dict[str, Value]:
        tokens = bind_inputs(self.ctx, user_inputs, self.source)
        results = self._walk(self.program.graph_module)
        return {"logits": choose_logits(self.ctx, self.program, results, tokens, self.source)}

    def _whole(self, user_inputs: list[Node]) -> dict[str, Value]:
        bind_all(self.ctx, user_inputs, self.source)
        self._pairs |= any(isinstance(value, Pairs) for value in self.ctx.values.values())
        results = self._walk(self.program.graph_module)
        real = (view_as_real(self.ctx, x) if isinstance(x, Pairs) else x for x in results)
        return all_outputs(self.program, tuple(real))

    def _bind_tensors(self) -> tuple[list[Node], dict[str, str]]:
        """Bind the program's tensors; return the user inputs and the buffers' weight names."""
        program = self.program
        nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        tensors = {**program.constants, **program.state_dict}
        user_inputs, buffers = [], {}
        for spec in program.graph_signature.input_specs:
            node = nodes.get(getattr(spec.arg, "name", ""))
            kind = spec.kind.name
            if kind == "USER_INPUT":
                if node is not None:
                    user_inputs.append(node)
                continue
            if kind not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR") or node is None:
                raise InputError(
                    "HETC-I214",
                    "the program carries an object that is no tensor",
                    at=self.source,
                    found=f"{spec.target} ({kind.lower()})",
                    do="export the model without custom classes and effects",
                )
            # Buffers outside the checkpoint, such as rotary frequencies, are numbers of the program
            # itself.
            literal = kind == "CONSTANT_TENSOR" or (kind == "BUFFER" and spec.persistent is False)
            target = str(spec.target)
            value = self.weights.value(target, tensors[target], literal=literal)
            self._pairs |= isinstance(value, Pairs)
            self.ctx.values[node] = value
            if isinstance(value, Value) and kind == "BUFFER":
                buffers[target] = getattr(value.op, "name", "")
        return user_inputs, buffers

    def _walk(self, module: GraphModule) -> tuple[Any, ...]:
        values = self.ctx.values
        for node in module.graph.nodes:
            if node.op == "call_function":
                if node not in values:
                    self._call(module, node)
            elif node.op == "output":
                results = self._resolve(node.args[0])
                return results if isinstance(results, tuple) else (results,)
        return ()

    def _call(self, module: GraphModule, node: Node) -> None:
        values, target = self.ctx.values, node.target
        if target is operator.getitem and node.args[0] in values:
            values[node] = values[node.args[0]][node.args[1]]  # type: ignore[index]
            return
        if inner := wrapped_module(module, node):
            for placeholder, argument in zip(
                inner[0].graph.find_nodes(op="placeholder"), inner[1], strict=True
            ):
                values[placeholder] = self._resolve(argument)
            values[node] = self._walk(inner[0])
            return
        val = node.meta.get("val")
        is_tensor = isinstance(val, tuple | list) or hasattr(val, "dtype")
        if not is_tensor and str(target) not in _NUMBERS:
            # Sizes are read where they are used; assertions say nothing about values.
            return
        self.ctx.node = node
        self.ctx.loc = self.places.loc(node)
        try:
            values[node] = result = self._apply(node)
            self._check(result, val)
        except Unsupported as error:
            raise self._stuck(node, str(error), "express it by other ops") from error
        except NotAPolynomial as error:
            raise self._stuck(
                node, str(error), "rewrite the line, or declare other dims"
            ) from error
        except IRError as error:
            raise self._stuck(node, f"{error.what} {error.found}".strip(), "") from error

    def _stuck(self, node: Node, found: str, remedy: str) -> InputError:
        place = describe(node, self.ctx.loc)
        what = f"{node.target} cannot be imported"
        return InputError("HETC-I211", what, at=place, found=found, do=remedy)

    def _apply(self, node: Node) -> Any:
        plain, by_pairs, mutable = self._handlers.get(node.target) or self._find(node)
        args = tuple([self._resolve(item) for item in node.args])
        kwargs = {
            key: self._resolve(item) for key, item in node.kwargs.items() if key not in _PLACEMENT
        }
        makes_pairs = not plain and by_pairs is not None
        if makes_pairs or (self._pairs and any(_has_pairs(item) for item in args)):
            self._pairs = True
            result = by_pairs(self.ctx, *args, **kwargs) if by_pairs else NotImplemented
        else:
            result = plain(self.ctx, *args, **kwargs) if plain else NotImplemented
        if result is NotImplemented:
            result = opaque(self.ctx, node, args, kwargs)
            text = f"{node.target} is not in hetc's table and PyTorch does not decompose it"
            reason = Reason("HETC-I210", text, at=place(node, self.ctx.loc))
            self.unknown.append((node.target, reason, self.ctx.builder.ops[-1]))
        if mutable:
            self.ctx.values[node.args[0]] = result  # type: ignore[index]
        return result

    def _find(self, node: Node) -> tuple[Handler | None, Handler | None, bool]:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise InputError(
                "HETC-I212",
                "control flow and other higher-order ops cannot be imported",
                at=describe(node, self.ctx.loc),
                found=node.target,
                do="export the model without torch.cond, while_loop and the like",
            )
        name = str(node.target).removeprefix("aten.")
        if schema.is_mutable:
            # `functional` made sure that nobody else sees the write.
            name = name.replace("_.", ".", 1)
        found = (TABLE.get(name), COMPLEX.get(name), bool(schema.is_mutable))
        self._handlers[node.target] = found
        return found

    def _resolve(self, item: Any) -> Any:
        values = self.ctx.values
        if type(item) is int or item is None:
            return item
        if isinstance(item, list | tuple):
            return tuple([self._resolve(part) for part in item])
        if not hasattr(item, "meta"):
            return item
        if item in values:
            return values[item]
        val = item.meta.get("val")
        if isinstance(val, int | float | bool):
            return val
        if hasattr(val, "node") and type(val).__name__ == "SymInt":
            return self.ctx.symbols.dim(val)
        raise NotAPolynomial(f"{item.name} is a number that depends on sizes or data: {val}")

    def _check(self, result: Any, val: Any) -> None:
        """Hold the result against the type that PyTorch recorded: mistakes in a table stop here."""
        if isinstance(result, Value) and hasattr(val, "shape"):
            shape = self.ctx.shape_of(val)
            if result.type.shape != shape or result.type.dtype is not self.ctx.dtype:
                wanted = f"{self.ctx.dtype}[{','.join(map(str, shape))}]"
                raise IRError("HETC-X012", f"hetc made {result.type}, PyTorch {wanted}")


def _has_pairs(item: Any) -> bool:
    return isinstance(item, Pairs) or (
        isinstance(item, tuple) and any(isinstance(part, Pairs) for part in item)
    )


def _bounds(found: tuple[float, float]) -> SizeRange:
    low, high = found
    return math.ceil(low), math.floor(high) if high < 2**31 else None


def _range(found: Any) -> tuple[float, float]:
    def end(bound: Any, unbounded: float) -> float:
        return float(int(bound)) if getattr(bound, "is_Integer", False) else unbounded

    return end(found.lower, 1.0), end(found.upper, float("inf"))
