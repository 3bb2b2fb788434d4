"""What both halves of a model share: its graph in blocks, and what is known of the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hetc.backends.dataflow.blocks import Run, find_blocks
from hetc.backends.native.coded import Coded
from hetc.backends.native.groups import format_of, lookups_of_matrices
from hetc.backends.native.normal_form import normal_form
from hetc.backends.native.scope import Scope
from hetc.backends.native.storage import Experts, Matrix, Region, Storage
from hetc.backends.native.tiles import TileForm
from hetc.errors import Reason
from hetc.ir.dims import DimLike, symbol
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.passes.inline import inline_calls

# The position at which a table is tried out.
_TRIED = 3


class Refused(Exception):
    """The engine cannot do something; `reason` says what."""

    def __init__(self, code: str, text: str, op: Op) -> None:
        super().__init__(text)
        self.reason = Reason(code, text, at=op.loc)


@dataclass
class Model:
    """What both halves share: the graph in blocks, what is known of its values, and the weights."""

    graph: Graph
    positions: int
    weights: WeightLookup | None = None
    state_element: str | None = None
    storage: Storage = field(default_factory=Storage)
    scopes: list[Scope] = field(default_factory=list)
    matrices: dict[Op, tuple[Linear, ...]] = field(default_factory=dict)
    # Products whose matrices are stored in 12 bits.
    coded: dict[Op, Coded] = field(default_factory=dict)

    @staticmethod
    def of(
        graph: Graph,
        positions: int,
        weights: WeightLookup | None = None,
        state_element: str | None = None,
        *,
        lossless: bool = True,
    ) -> Model:
        """`graph` is a decode half with its layers outlined; it runs at up to so many positions,
        with states in memory as `state_element` (as the contract has them where None). With
        `lossless` and weights, matrices of bf16 are stored in 12 bits where they fit."""
        graph = normal_form(lookups_of_matrices(graph))
        runs = find_blocks(graph)
        if _share_a_graph(runs):
            graph = inline_calls(graph)
            runs = find_blocks(graph)
        model = Model(graph, positions, weights, state_element)
        for run in runs:
            scope = Scope(graph, run)
            model.scopes.append(scope)
            model.storage.regions.append(Region(scope))
            groups = _products_of_one_input(scope)
            model.matrices.update(groups)
            if weights is not None and lossless:
                model.coded.update(_coded(scope, groups, weights))
        return model

    def matrix(self, op: Linear) -> Matrix:
        """How the weights of `op`, and of all products of its input, are stored."""
        group = self.matrices[op]
        weights, biases = tuple(op.weight for op in group), tuple(op.bias for op in group)
        form = form_of(op.weight, op.weight.shape[1])
        return Matrix(weights, biases, replace(form, coded=self.coded.get(op)))

    @property
    def uncoded(self) -> int:
        """How many matrices of products keep the 16 bits of their bf16, of all layers."""
        return sum(
            scope.run.repeat
            for scope in self.scopes
            for op in scope.run.ops
            if isinstance(op, Linear) and op in self.matrices and op not in self.coded
            if form_of(op.weight, op.weight.shape[1]).is_plain_bf16
        )

    def is_table(self, value: Value, axis: int) -> bool:
        """Whether a positional value has the same row at a position, whichever tokens are new.

        Tried out, on a few of them, with two sequences; true where there are no weights to try.
        """
        scope = next((scope for scope in self.scopes if scope.kind(value) == "positional"), None)
        if self.weights is None or scope is None or self.positions < 2 * _TRIED:
            return True
        first = {"B": 1, "T": 2 * _TRIED, "P": 0}
        behind = {"B": 2, "T": 2, "P": _TRIED}
        rows = scope.evaluate(value, 0, self.weights, first)
        later = scope.evaluate(value, 0, self.weights, behind)
        wanted = np.take(rows, range(_TRIED, _TRIED + 2), axis=axis)
        for place, size in enumerate(value.shape):
            if size == symbol("P") + symbol("T"):
                wanted = np.take(wanted, range(_TRIED + 2), axis=place)
        # NumPy may round the ends of an array otherwise than its middle.
        return np.allclose(wanted, later, rtol=1e-5, atol=1e-6, equal_nan=True)

    def experts(self, op: ExpertLinear) -> Experts:
        """How the weights of all experts are stored."""
        form = form_of(op.weight, op.weight.shape[op.inner_outer[0]], blocks=not op.transposed)
        return Experts(op.weight, op.bias, op.transposed, form)

    def groups(self, op: MatMul) -> Experts:
        """How the stored matrices [G, K, N] of a product are stored."""
        return Experts(op.b, None, True, form_of(op.b, op.b.shape[1], blocks=False))


def _share_a_graph(runs: Sequence[Run]) -> bool:
    """Whether two blocks call one graph: each of its values would have to be in two places."""
    called = [run.graph for run in runs if run.calls]
    return len(set(map(id, called))) < len(called)


def form_of(weight: Value, inner: DimLike, *, blocks: bool = True) -> TileForm:
    """How a matrix of so many inputs lies in tiles; in blocks where its groups run along them."""
    assert isinstance(inner, int), "what is stored has a known size"
    return TileForm(inner, weight.dtype.name, format_of(weight) if blocks else None)


def _products_of_one_input(scope: Scope) -> dict[Op, tuple[Linear, ...]]:
    """Each product -> all products of its block that read the same x, in one form: they run as
    one."""
    by_input: dict[tuple[Value, TileForm], list[Linear]] = {}
    for op in scope.run.ops:
        if isinstance(op, Linear):
            stored = [value for value in (op.weight, op.bias) if value is not None]
            if all(scope.kind(value) == "static" for value in stored):
                form = form_of(op.weight, op.weight.shape[1])
                by_input.setdefault((op.x, form), []).append(op)
    return {op: tuple(group) for group in by_input.values() for op in group}


def _coded(
    scope: Scope, groups: Mapping[Op, tuple[Linear, ...]], weights: WeightLookup
) -> dict[Op, Coded]:
    """The products whose matrices of bf16 fit in 12 bits, those of every layer and of all products
    of one input: one form serves them."""
    found: dict[Op, Coded] = {}
    for group in set(groups.values()):
        form = form_of(group[0].weight, group[0].weight.shape[1])
        coded = Coded.of(form.inner) if form.is_plain_bf16 else None
        if coded is not None and all(
            coded.fits(scope.evaluate(op.weight, iteration, weights, {}))
            for iteration in range(scope.run.repeat)
            for op in group
        ):
            found.update(dict.fromkeys(group, coded))
    return found
