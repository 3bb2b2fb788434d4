"""From an exported program to a graph: one walk over its nodes, by the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, Reason
from hetc.frontends.torch_export.context import Context, Pairs
from hetc.frontends.torch_export.functional import decomposable, decomposed, functional
from hetc.frontends.torch_export.inputs import bind_all, bind_inputs
from hetc.frontends.torch_export.outputs import all_outputs, check_stateless, choose_logits
from hetc.frontends.torch_export.places import Places, wrapper_of
from hetc.frontends.torch_export.symbols import Symbols
from hetc.frontends.torch_export.table_complex import view_as_real
from hetc.frontends.torch_export.walk import Walk
from hetc.frontends.torch_export.weights import WeightTable
from hetc.ir.dims import symbols_of
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.model import SizeRange, WeightData
from hetc.ir.op import Value
from hetc.ir.ops.source import Weight

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


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
        targets = {target for target, _, _ in attempt.walk.unknown} - tried
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
    weights: WeightTable = field(default_factory=WeightTable)

    def run(self) -> ImportedGraph:
        program = self.program
        bounds = {key: _range(found) for key, found in program.range_constraints.items()}
        self.ctx = ctx = Context(Symbols(bounds), GraphBuilder(self.name))
        places = Places(wrapper_of(program))
        self.walk = Walk(ctx, places)
        self.weights.wrapper = places.wrapper
        self.weights.name_all(program.state_dict)
        user_inputs, buffers = self._bind_tensors()
        outputs = self._whole(user_inputs) if self.whole else self._language(user_inputs)
        graph = ctx.builder.finish(outputs.values(), tuple(outputs)).prune()
        check_stateless(program, graph, buffers, self.source)
        if not self.whole:
            self._check_sizes(graph)
        used = {op.name for op in graph.ops if isinstance(op, Weight)}
        weights = {key: data for key, data in self.weights.found.items() if key in used}
        longest = ctx.symbols.ranges.get("S", (1.0, math.inf))[1]
        bound = int(longest) if longest < 2**31 else None
        placed = {id(op) for op in graph.ops}
        kept = tuple(reason for _, reason, op in self.walk.unknown if id(op) in placed)
        for length, expression in ctx.symbols.narrowed[-1:]:
            ctx.notes.append(
                f"the program is one for at most {length} tokens: beyond them"
                f" {expression} takes another path"
            )
        sizes = {name: _bounds(found) for name, found in ctx.symbols.ranges.items()}
        return ImportedGraph(graph, weights, bound, kept, tuple(ctx.notes), sizes)

    def _check_sizes(self, graph: Graph) -> None:
        """Refuse sizes that data decides: no half could be made for them (HETC-I211)."""
        for op in graph.ops:
            for value in op.results:
                sizes = frozenset().union(*map(symbols_of, value.shape)) - {"B", "S"}
                if sizes:
                    raise InputError(
                        "HETC-I211",
                        f"{op.kind} cannot be part of a language model: data decides its size",
                        at=op.loc or self.source,
                        found=str(value.type),
                        do="compute every token, and choose afterwards with a mask",
                    )

    def _language(self, user_inputs: list[Node]) -> dict[str, Value]:
        tokens = bind_inputs(self.ctx, user_inputs, self.source)
        results = self.walk.run(self.program.graph_module)
        return {"logits": choose_logits(self.ctx, self.program, results, tokens, self.source)}

    def _whole(self, user_inputs: list[Node]) -> dict[str, Value]:
        bind_all(self.ctx, user_inputs, self.source)
        self.walk.has_pairs |= any(isinstance(value, Pairs) for value in self.ctx.values.values())
        results = self.walk.run(self.program.graph_module)
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
            self.walk.has_pairs |= isinstance(value, Pairs)
            self.ctx.values[node] = value
            if isinstance(value, Value) and kind == "BUFFER":
                buffers[target] = getattr(value.op, "name", "")
        return user_inputs, buffers


def _bounds(found: tuple[float, float]) -> SizeRange:
    low, high = found
    return math.ceil(low), math.floor(high) if high < 2**31 else None


def _range(found: Any) -> tuple[float, float]:
    def end(bound: Any, unbounded: float) -> float:
        return float(int(bound)) if getattr(bound, "is_Integer", False) else unbounded

    return end(found.lower, 1.0), end(found.upper, float("inf"))
