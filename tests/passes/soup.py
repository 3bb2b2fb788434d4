"""Random graphs out of pieces that nearly fit the patterns of the passes."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.binary import Add, Div, Le, Mul, Pow, Sub
from hetc.ir.ops.elementwise import Where
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.reduce import Mean, Softmax
from hetc.ir.ops.shape import Concat, Reshape, Slice, Transpose
from hetc.ir.ops.source import Iota
from hetc.ir.ops.unary import Cast, Cos, Erf, Neg, Rsqrt, Sigmoid, Sin, Tanh
from hetc.ir.types import BF16, F32, TensorType
from tests.passes.blocks import B, S, weight

WIDTH = 8


class _Soup:
    """Draws operands [B, S, WIDTH] from what was made before; often the last ones."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.builder = GraphBuilder("soup")
        self.pool = [self.builder.input(name, TensorType(F32, (B, S, WIDTH))) for name in "ab"]

    def row(self) -> Value:
        return self.pool[-1 - self.draw(st.integers(0, min(3, len(self.pool) - 1)))]

    def pair(self) -> tuple[Value, Value]:
        """Twice the same, or two that only nearly make a pattern."""
        x = self.row()
        return (x, x) if self.draw(st.integers(0, 3)) else (x, self.row())

    def one_of(self, *items: float) -> float:
        return self.draw(st.sampled_from(items))

    def vector(self) -> Value:
        return weight(f"vector{self.draw(st.integers(0, 1))}", WIDTH)

    def matrix(self) -> Value:
        return weight(f"matrix{self.draw(st.integers(0, 1))}", WIDTH, WIDTH)

    def keep(self, op: Op) -> None:
        self.builder.add(op)
        self.pool.append(op.result)


def _arithmetic(soup: _Soup) -> Op:
    x, y = soup.row(), soup.row()
    literal = soup.one_of(0.0, 0.5, 1.0)
    made = [Add(x, y), Sub(x, y), Add(x, literal), Mul(literal, x), Mul(x, soup.vector())]
    return soup.draw(st.sampled_from([*made, Add(soup.vector(), x), Tanh(x)]))


def _normalise(soup: _Soup) -> Op:
    x, y = soup.pair()
    square = soup.draw(st.sampled_from([Pow(y, 2.0), Mul(y, y)])).result
    axis = soup.draw(st.sampled_from([-1, -1, 2, 1]))
    variance = Add(Mean(square, (axis,), True).result, soup.one_of(1e-5, 1e-3)).result
    return Mul(x, Rsqrt(variance).result)


def _centre(soup: _Soup) -> Op:
    x, y = soup.pair()
    return Sub(x, Mean(y, (-1,), True).result)


def _scale(soup: _Soup) -> Op:
    offset = Add(soup.vector(), soup.one_of(0.0, 1.0)).result
    return Mul(soup.row(), soup.draw(st.sampled_from([offset, soup.vector()])))


def _activate(soup: _Soup) -> Op:
    x, y = soup.pair()
    erf = Erf(Div(y, soup.one_of(math.sqrt(2), 2.0)).result).result
    gelu = Mul(Mul(x, 0.5).result, Add(erf, 1.0).result)
    return soup.draw(st.sampled_from([Mul(x, Sigmoid(y).result), gelu]))


def _rotate(soup: _Soup) -> Op:
    x, y = soup.pair()
    cut = soup.draw(st.sampled_from([4, 4, 2]))
    low, high = Slice(y, 2, 0, cut).result, Slice(y, 2, cut).result
    parts = soup.draw(st.sampled_from([(Neg(high).result, low), (high, Neg(low).result)]))
    positions = Reshape(Cast(Iota(S).result, F32).result, (S, 1)).result
    table = Mul(positions, weight("rates", WIDTH)).result
    turned = Mul(Concat(parts, -1).result, Sin(table).result).result
    return Add(Mul(x, Cos(table).result).result, turned)


def _project(soup: _Soup) -> Op:
    x = soup.row()
    flat = Reshape(x, (B * S, WIDTH)).result
    product = MatMul(flat, Transpose(soup.matrix(), (1, 0)).result).result
    biased = Add(product, soup.vector()).result
    made = [
        Reshape(soup.draw(st.sampled_from([product, biased])), (B, S, WIDTH)),
        Linear(x, soup.matrix(), soup.vector()),
        MatMul(x, soup.matrix()),
    ]
    return soup.draw(st.sampled_from(made))


def _attend(soup: _Soup) -> Op:
    (q, k), v = soup.pair(), soup.row()
    scores = Mul(MatMul(q, Transpose(k, (0, 2, 1)).result).result, soup.one_of(0.5, 2.0)).result
    query, key = (Reshape(Iota(S).result, shape).result for shape in ((S, 1), (1, S)))
    seen = Le(key, query).result
    capped = Mul(Tanh(Mul(scores, 0.25).result).result, soup.one_of(4.0, 3.0)).result
    masked = [
        scores,
        Where(seen, scores, -math.inf).result,
        Where(seen, capped, soup.one_of(-1e30, -1.0)).result,
        Add(scores, Where(seen, 0.0, -1e30, F32).result).result,
    ]
    return MatMul(Softmax(soup.draw(st.sampled_from(masked)), -1).result, v)


def _views(soup: _Soup) -> Op:
    x = soup.row()
    there = Transpose(Reshape(x, (B, S, 2, 4)).result, (0, 2, 1, 3)).result
    back = Transpose(there, (0, 2, 1, 3)).result
    made = [Reshape(back, (B, S, WIDTH)), Cast(Cast(x, BF16).result, F32)]
    return soup.draw(st.sampled_from(made))


_STEPS = (
    _arithmetic,
    _normalise,
    _normalise,
    _centre,
    _scale,
    _activate,
    _rotate,
    _project,
    _attend,
    _views,
)


@st.composite
def soups(draw: st.DrawFn) -> Graph:
    """A graph over two inputs f32[B,S,WIDTH]; its outputs are the last values made."""
    soup = _Soup(draw)
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=7)):
        soup.keep(step(soup))
    return soup.builder.finish(soup.pool[-2:])
