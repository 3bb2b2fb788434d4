"""Hypothesis strategies for sizes, types and whole graphs."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from hetc.ir.dims import Dim, DimLike, product, symbol
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.control import Call, Opaque
from hetc.ir.ops.elementwise import Add, Cast, Mul, Silu, Where
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.reduce import Sum
from hetc.ir.ops.shape import Concat, Reshape, Slice, Split, Transpose
from hetc.ir.ops.source import Constant, Full, Iota, Weight
from hetc.ir.types import BOOL, DTYPES, F32, I64, TensorType

SYMBOLS = ("B", "S", "T", "P", "W4095", "K4095")
B, S = symbol("B"), symbol("S")

monomials = st.lists(st.sampled_from(SYMBOLS), max_size=3)
terms = st.tuples(st.integers(-50, 50), monomials)


@st.composite
def polynomials(draw: st.DrawFn) -> DimLike:
    """Any size, also a constant and a negative one."""
    total: DimLike = 0
    for factor, names in draw(st.lists(terms, max_size=4)):
        total = total + factor * product(symbol(name) for name in names)
    return total


sizes = st.one_of(st.integers(0, 10**12), polynomials().filter(lambda d: isinstance(d, Dim)))
tensor_types = st.builds(
    TensorType, st.sampled_from(list(DTYPES.values())), st.lists(sizes, max_size=4).map(tuple)
)
floats = st.floats(allow_nan=True, allow_infinity=True)
numbers = st.one_of(st.integers(-(10**40), 10**40), floats, st.booleans())
nested = st.recursive(numbers, lambda part: st.lists(part, min_size=1, max_size=3).map(tuple))
locations = st.one_of(st.just(""), st.just("model.layers.3.mlp.up_proj"), st.text(max_size=12))
Step = Callable[[GraphBuilder, list[Value], st.DrawFn], None]


def _pick(pool: list[Value], draw: st.DrawFn) -> Value:
    return draw(st.sampled_from(pool))


def _elementwise(builder: GraphBuilder, pool: list[Value], draw: st.DrawFn) -> None:
    x, y, loc = _pick(pool, draw), _pick(pool, draw), draw(locations)
    literal = draw(st.one_of(floats, st.integers(-(10**20), 10**20), polynomials()))
    made = [Add(x, y, loc=loc), Mul(x, literal), Mul(literal, x), Silu(x, loc=loc)]
    pool.append(builder.add(draw(st.sampled_from(made))))


def _project(builder: GraphBuilder, pool: list[Value], draw: st.DrawFn) -> None:
    weight = builder.add(Weight(draw(st.text(max_size=8)), TensorType(F32, (4, 4))))
    scale = builder.add(Full(draw(st.one_of(floats, st.integers(0, 9))), (4,)))
    bias = draw(st.sampled_from([None, scale]))
    pool.append(builder.add(Linear(_pick(pool, draw), weight, bias)))
    pool.append(builder.add(RMSNorm(_pick(pool, draw), scale, eps=draw(floats))))


def _move(builder: GraphBuilder, pool: list[Value], draw: st.DrawFn) -> None:
    flat = Reshape(_pick(pool, draw), (B * S, 4))
    turned = Transpose(flat.result, (1, 0))
    back = Transpose(turned.result, (1, 0), loc=draw(locations))
    pool.append(builder.add(Reshape(back.result, (B, S, 4))))
    first = builder.add(Split(_pick(pool, draw), -1, (1, 3)))
    second = first.op.results[1] if first.op else first
    pool.append(builder.add(Concat((second, first), 2)))
    last = Slice(_pick(pool, draw), 1, S - 1)
    pool.append(builder.add(Add(last.result, _pick(pool, draw))))


def _attend(builder: GraphBuilder, pool: list[Value], draw: st.DrawFn) -> None:
    q, k, v = (builder.add(Reshape(_pick(pool, draw), (B, 1, S, 4))) for _ in range(3))
    start: DimLike = symbol("P") if draw(st.booleans()) else 0
    index = builder.add(Iota(S, start))
    mask = builder.add(Reshape(builder.add(Cast(index, BOOL)), (1, 1, 1, S)))
    made = Attention(
        q,
        k,
        v,
        mask=draw(st.sampled_from([None, mask])),
        scale=draw(floats),
        causal=draw(st.booleans()),
        window=draw(st.sampled_from([None, 7])),
    )
    pool.append(builder.add(Reshape(builder.add(made), (B, S, 4))))


def _strange(builder: GraphBuilder, pool: list[Value], draw: st.DrawFn) -> None:
    builder.add(Constant(draw(st.one_of(numbers, nested.filter(_rectangular)))))
    types = tuple(draw(st.lists(tensor_types, min_size=1, max_size=3)))
    name, target, arguments = (draw(st.text(max_size=20)) for _ in range(3))
    builder.add(Opaque(tuple(pool[:2]), name, target, arguments, types))
    reduced = builder.add(Sum(_pick(pool, draw), (-1,), keepdim=True))
    chosen = Where(builder.add(Cast(reduced, BOOL)), _pick(pool, draw), draw(floats))
    pool.append(builder.add(chosen))


def _rectangular(data: object) -> bool:
    # A constant is read by NumPy as f32, so it must be a rectangle of numbers in its range.
    flat = [data]
    while flat and isinstance(flat[0], tuple):
        lengths = {len(part) if isinstance(part, tuple) else -1 for part in flat}
        if len(lengths) > 1:
            return False
        flat = [item for part in flat if isinstance(part, tuple) for item in part]
    return not any(isinstance(item, tuple) for item in flat)


STEPS: tuple[Step, ...] = (_elementwise, _project, _move, _attend, _strange)


@st.composite
def graphs(draw: st.DrawFn, steps: tuple[Step, ...] = STEPS, *, calls: bool = True) -> Graph:
    """Well-typed graphs of `forward`'s shape over values f32[B,S,4], sometimes with a callee."""
    builder = GraphBuilder(draw(st.sampled_from(["forward", "a.b", "0", "odd name", 'q"'])))
    names = st.lists(st.text(max_size=6), min_size=2, max_size=2, unique=True)
    one, two = draw(names)
    pool = [builder.input(name, TensorType(F32, (B, S, 4))) for name in (one, two)]
    builder.input("past", TensorType(I64, ()))
    for step in draw(st.lists(st.sampled_from(steps), min_size=1, max_size=6)):
        step(builder, pool, draw)
    if calls and draw(st.booleans()):
        callee = draw(graphs(steps, calls=False))
        past = builder.add(Constant(0, I64))
        pool.append(builder.add(Call(callee, (pool[-1], pool[0], past))))
    outputs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
    labels = draw(st.sampled_from([(), ("logits", "k.out", "%")]))
    return builder.finish(outputs, labels[: len(outputs)])
