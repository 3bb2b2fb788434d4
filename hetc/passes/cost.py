"""What every op takes: flops and bytes, as functions of the sizes, and what a workload makes of
them.

Bytes are split by where they come from: weights (read whatever the batch), state (grows with the
context) and activations. Ops that run inside the kernel of a neighbour are `fused`: their flops
count, their bytes only where an op is looked at alone. Views and sources cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hetc.ir.dims import DimLike, evaluate
from hetc.ir.graph import Graph, Program, Whole
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Source
from hetc.passes.inline import inline_calls
from hetc.passes.op_names import op_names
from hetc.passes.origins import Origin, origins
from hetc.passes.tensor_parallel import reduced
from hetc.passes.workload import Phase

# One kernel each, or one stage of a dataflow device; all others run inside a neighbour's.
HEAVY = frozenset(
    {"linear", "matmul", "expert_linear", "attention", "rms_norm", "layer_norm", "embedding"}
    | {"conv1d_causal", "scan", "topk", "sort", "softmax", "log_softmax", "cumsum", "index_put"}
    | {"conv", "conv_transpose", "max_pool", "avg_pool", "linear_attention", "opaque"}
)
# What matrix units do; everything else runs on vector units, at the rate of f32.
MATRIX = frozenset(
    {"linear", "matmul", "expert_linear", "attention", "conv1d_causal", "conv", "conv_transpose"}
)
# What mixes positions: one op in every decoder layer.
MIXERS = frozenset({"attention", "linear_attention", "scan"})


@dataclass(frozen=True)
class Experts:
    """The expert matrices that an expert_linear may read: `count`, of which a token picks `picks`.

    `rows` is tokens times picks; `matrix_bytes` one matrix as stored.
    """

    count: int
    picks: int
    rows: DimLike
    matrix_bytes: float

    def bytes_at(self, bindings: Mapping[str, int]) -> float:
        """Expected bytes read: those of the matrices that are picked."""
        return self.matrix_bytes * self.picked_at(bindings)

    def picked_at(self, bindings: Mapping[str, int]) -> float:
        """Expected matrices read under uniform random routing: E (1 - (1 - k/E)^tokens)."""
        tokens = evaluate(self.rows, bindings) / self.picks
        missed: float = (1 - min(self.picks, self.count) / self.count) ** tokens
        return self.count * (1 - missed)


@dataclass(frozen=True)
class Amounts:
    """The work of one execution as numbers: flops and bytes.

    `reduced_bytes` is the vector that an all-reduce sums over the devices of a machine,
    `sequences` how many sequences attention serves (0 for other ops). `rows` are those of the
    result of each of `matrices` products: the tokens, or an expert's part of them; of attention,
    the queries of one head. 0 where neither.
    """

    flops: float
    weight_bytes: float
    state_bytes: float
    activation_bytes: float
    bytes_written: float
    reduced_bytes: float
    sequences: int
    rows: float
    matrices: float

    @property
    def bytes_read(self) -> float:
        return self.weight_bytes + self.state_bytes + self.activation_bytes

    @property
    def bytes_moved(self) -> float:
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float:
        """Operational intensity in FLOP/B (Williams et al. 2009); 0 where nothing is moved."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0


@dataclass(frozen=True, eq=False)
class Work:
    """What an op does in one execution, as polynomials of the sizes; equal ops share one object.

    `weight_bytes` of an expert_linear is the bound of one matrix a row; `at` gives the expectation.
    `dtype` is what is multiplied. `fused`: runs inside a neighbour's kernel. `launches`: has a
    kernel or a stage of its own. `matrix`: runs on matrix units. `mixes`: the one op of a decoder
    layer that mixes positions. `rows` x `columns` is the result of a product with weights;
    attention has `heads` of queries on `kv_heads`, and `rows` queries a head.
    """

    kind: str
    dtype: str
    flops: DimLike = 0
    weight_bytes: DimLike = 0
    state_bytes: DimLike = 0
    activation_bytes: DimLike = 0
    bytes_written: DimLike = 0
    reduced_bytes: DimLike = 0
    sequences: DimLike = 0
    rows: DimLike = 0
    columns: int = 0
    heads: int = 0
    kv_heads: int = 0
    experts: Experts | None = None
    fused: bool = False
    launches: bool = False
    matrix: bool = False
    mixes: bool = False

    @property
    def bytes_read(self) -> DimLike:
        return self.weight_bytes + self.state_bytes + self.activation_bytes

    @property
    def is_free(self) -> bool:
        """Whether it takes nothing anywhere: a view."""
        return not self.launches and self.flops == 0 and self.bytes_read + self.bytes_written == 0

    def at(self, bindings: Mapping[str, int]) -> Amounts:
        """The numbers at these sizes; raises IRError (HETC-X002) for a size without a value."""
        matrices = self.experts.picked_at(bindings) if self.experts else 1.0
        return Amounts(
            flops=float(evaluate(self.flops, bindings)),
            weight_bytes=self.experts.bytes_at(bindings)
            if self.experts
            else float(evaluate(self.weight_bytes, bindings)),
            state_bytes=float(evaluate(self.state_bytes, bindings)),
            activation_bytes=float(evaluate(self.activation_bytes, bindings)),
            bytes_written=float(evaluate(self.bytes_written, bindings)),
            reduced_bytes=float(evaluate(self.reduced_bytes, bindings)),
            sequences=evaluate(self.sequences, bindings),
            rows=evaluate(self.rows, bindings) / matrices,
            matrices=matrices,
        )


@dataclass(frozen=True)
class OpCost:
    """One op of a phase: its unique name, its place in the graph's ops, and its work.

    `weights` and `states` are the names of what it reads of them.
    """

    name: str
    phase: Phase
    index: int
    op: Op
    work: Work
    weights: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        return self.op.kind


@dataclass(frozen=True)
class PhaseCosts:
    """A phase's graph with all calls inlined, and the cost of each of its ops that is no source.

    `OpCost.index` counts in `graph.ops`. `origin` says of every value where its data come from.
    """

    phase: Phase
    graph: Graph
    ops: tuple[OpCost, ...]
    origin: Mapping[Value, Origin]

    def __iter__(self) -> Iterator[OpCost]:
        return iter(self.ops)


def program_costs(program: Program | Whole) -> dict[Phase, PhaseCosts]:
    """The costs of both halves of `program`, or of the one graph of a model without phases."""
    if isinstance(program, Whole):
        return {"forward": phase_costs(program.forward, "forward")}
    states = frozenset(spec.name for spec in program.states)
    return {
        "prefill": phase_costs(program.prefill, "prefill", states),
        "decode": phase_costs(program.decode, "decode", states),
    }


def phase_costs(graph: Graph, phase: Phase, states: frozenset[str] = frozenset()) -> PhaseCosts:
    """The cost of every op of `graph` but sources; `states` are the inputs that are state.

    A `call` is inlined: its ops cost what they cost, once a call, under the names of their layers.
    """
    graph = inline_calls(graph)
    origin = origins(graph, states)
    vectors = reduced(graph, origin)
    names = op_names(graph)
    shared: dict[tuple[Any, ...], Work] = {}
    costs = []
    for index, op in enumerate(graph.ops):
        if isinstance(op, Source):
            continue
        read = [origin[value] for value in op.operands]
        key = _signature(op, read, op in vectors)
        work = shared.get(key)
        if work is None:
            turned = origin[op.results[0]].place == "weight"
            work = shared[key] = _work(op, read, op in vectors, turned)
        weights = frozenset[str]().union(*(o.names for o in read if o.place == "weight"))
        held = frozenset[str]().union(*(o.names for o in read if o.place == "state"))
        costs.append(OpCost(names[op], phase, index, op, work, weights, held))
    return PhaseCosts(phase, graph, tuple(costs), origin)


def _signature(op: Op, read: list[Origin], is_reduced: bool) -> tuple[Any, ...]:
    return (
        type(op),
        tuple([value.type for value in op.operands]),
        tuple([value.type for value in op.results]),
        tuple(op.attributes()),
        # Optional operands are told apart by their names: a bias is no mask.
        tuple([n for n, _ in op.operand_fields if isinstance(getattr(op, n), Value)]),
        tuple([(origin.place, origin.stored_bytes) for origin in read]),
        is_reduced,
    )


def _work(op: Op, read: list[Origin], is_reduced: bool, is_turned: bool) -> Work:
    """The work of an op. `is_turned`: it turns weights on their way to whoever reads them, who pays
    for what is stored."""
    cost = op.cost()
    split = dict.fromkeys(("weight", "state", "activation"), _ZERO)
    if not isinstance(op, View) and not is_turned:
        for place, nbytes in _reads(op, read, cost.bytes_read):
            split[place] = split[place] + nbytes
    heavy = op.kind in HEAVY and not _is_outer_product(op)
    rows, columns = _product(op)
    return Work(
        kind=op.kind,
        dtype=_operand_dtype(op),
        flops=cost.flops,
        weight_bytes=split["weight"],
        state_bytes=split["state"],
        activation_bytes=split["activation"],
        bytes_written=0 if is_turned else cost.bytes_written,
        reduced_bytes=op.results[0].nbytes if is_reduced else 0,
        sequences=op.operands[0].shape[0] if op.kind == "attention" else 0,
        rows=rows,
        columns=columns,
        heads=_static(op.q.shape[1]) if isinstance(op, Attention) else 0,
        kv_heads=_static(op.k.shape[1]) if isinstance(op, Attention) else 0,
        experts=_experts(op, read[1]) if isinstance(op, ExpertLinear) else None,
        fused=not heavy and not isinstance(op, View | KVAppend),
        launches=heavy,
        matrix=op.kind in MATRIX and heavy,
        mixes=op.kind in MIXERS,
    )


def _product(op: Op) -> tuple[DimLike, int]:
    """Rows and columns of the result of a product with weights; queries a head of attention."""
    if isinstance(op, Attention):
        return op.q.shape[2], 0
    if not isinstance(op, Linear | ExpertLinear):
        return 0, 0
    rows: DimLike = 1
    *leading, columns = op.results[0].shape
    for dim in leading:
        rows = rows * dim
    return rows, _static(columns)


def _static(dim: DimLike) -> int:
    assert isinstance(dim, int), "widths are static"
    return dim


_ZERO: DimLike = 0


def _reads(op: Op, read: list[Origin], total: DimLike) -> Iterator[tuple[str, DimLike]]:
    """Where the bytes that `op` reads come from. Weights count as they are stored."""
    whole: DimLike = 0
    for value in op.operands:
        whole = whole + value.nbytes
    if total == whole:
        for value, origin in zip(op.operands, read, strict=True):
            stored = origin.stored_bytes if origin.place == "weight" else value.nbytes
            yield origin.paid_as, stored
        return
    # Ops that read a part of their operands: the table of a lookup, the matrices of experts. The
    # part comes from the operand in which rows are picked, the rest is read whole.
    picked = 1 if isinstance(op, ExpertLinear | KVAppend) else 0
    rest: DimLike = 0
    for place, (value, origin) in enumerate(zip(op.operands, read, strict=True)):
        # Lookups by ids count what they find; a cost that leaves operands out leaves out ids.
        if place != picked and _divides(op, place):
            rest = rest + value.nbytes
            yield origin.paid_as, value.nbytes
    part = total - rest
    if read[picked].place == "weight":
        part = _scaled(part, read[picked].ratio)
    yield read[picked].paid_as, part


def _divides(op: Op, place: int) -> bool:
    """Whether the cost of a lookup counts this operand whole."""
    if isinstance(op, ExpertLinear):
        return place in (0, 2)
    return op.kind in ("embedding", "gather") and place == 1


def _scaled(nbytes: DimLike, ratio: tuple[int, int]) -> DimLike:
    """`nbytes` times a ratio of stored bytes to bytes in the graph, rounded up a term."""
    stored, shown = ratio
    if isinstance(nbytes, int):
        return -(-nbytes * stored // shown)
    scaled: DimLike = 0
    for monomial, factor in nbytes.terms:
        term = type(nbytes)(((monomial, -(-factor * stored // shown)),)) if monomial else factor
        scaled = scaled + term
    return scaled


def _experts(op: ExpertLinear, weight: Origin) -> Experts:
    rows = op.x.shape[0]
    # The rows are tokens x picks, so that the factor before the symbols is the picks.
    picks = 1 if isinstance(rows, int) else rows.terms[0][1] if len(rows.terms) == 1 else 1
    count = op.weight.shape[0]
    assert isinstance(count, int), "weights have static shapes"
    stored = weight.stored_bytes if weight.place == "weight" else op.weight.nbytes
    assert isinstance(stored, int), "weights have static shapes"
    return Experts(count, picks, rows, stored / count)


def _is_outer_product(op: Op) -> bool:
    # Angles of rotary embeddings are frequencies times positions: a matmul over an axis of one.
    return op.kind == "matmul" and op.operands[0].shape[-1] == 1


def _operand_dtype(op: Op) -> str:
    for value in op.operands:
        if value.dtype.is_float:
            return value.dtype.name
    return op.results[0].dtype.name
