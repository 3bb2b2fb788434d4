"""Attention to a latent state itself, without the keys and values of every head (DeepSeek-V2,
section 2.1.2: the matrices that would expand the latent are absorbed into queries and outputs)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Split, Transpose


@dataclass(frozen=True)
class _Expanded:
    """`width` numbers of each head from `start` on of `latent` [B, L, R] times `weight`."""

    latent: Value
    weight: Value
    heads: int
    start: int
    width: int


@dataclass(frozen=True)
class _Shared:
    """Numbers [B, 1, L, D] that all heads have in common."""

    rows: Value

    @property
    def width(self) -> int:
        width = self.rows.shape[3]
        assert isinstance(width, int)
        return width


def absorb(op: Op) -> Op | None:
    """Heads whose keys and values one product makes of a latent attend to the latent.

    q . (W c) = (W^T q) . c, and a weighted sum of W c is W times that of c: one key head, as wide
    as the latent, for all.
    """
    if not isinstance(op, Attention):
        return None
    joined = op.k.op
    parts = joined.xs if isinstance(joined, Concat) and joined.axis % 4 == 3 else (op.k,)
    found = [_expanded(part) or _shared(part) for part in parts]
    value = _expanded(op.v)
    keys = [part for part in found if part is not None]
    expanded = [part for part in keys if isinstance(part, _Expanded)]
    if value is None or len(keys) != len(parts) or len(expanded) != 1:
        return None
    if expanded[0].latent is not value.latent:
        return None
    queries, rows = [], []
    starts = accumulate((part.width for part in keys), initial=0)
    for part, start in zip(keys, starts, strict=False):
        query = Slice(op.q, 3, start, start + part.width, loc=op.loc).result
        if isinstance(part, _Expanded):
            query = MatMul(query, _matrices(part, op), loc=op.loc).result
        queries.append(query)
        rows.append(part.rows if isinstance(part, _Shared) else _one_head(part.latent, op))
    q, k = (
        several[0] if len(several) == 1 else Concat(tuple(several), 3, loc=op.loc).result
        for several in (queries, rows)
    )
    attended = op.replace(q=q, k=k, v=_one_head(value.latent, op)).result
    outputs = Transpose(_matrices(value, op), (0, 2, 1), loc=op.loc).result
    return MatMul(attended, outputs, loc=op.loc)


def _expanded(value: Value) -> _Expanded | None:
    """`value` [B, H, L, D] as a part of a product of a latent state, if it is one."""
    start, width, whole = 0, value.shape[3], value
    match value.op:
        case Split(x=x, axis=axis, sizes=sizes) if axis % 4 == 3:
            before = sum(size for size in sizes[: value.index] if isinstance(size, int))
            start, whole = before, x
        case Slice(x=x, axis=axis, start=int(first), step=1) if axis % 4 == 3:
            start, whole = first, x
    match whole.op:
        case Transpose(x=heads, perm=(0, 2, 1, 3)):
            product = heads.op.operands[0].op if isinstance(heads.op, Reshape) else None
        case _:
            return None
    if not isinstance(product, Linear) or product.bias is not None:
        return None
    latent = product.x
    while isinstance(latent.op, Reshape):
        latent = latent.op.x
    count = heads.shape[2]
    known = isinstance(width, int) and isinstance(count, int)
    if not known or not isinstance(latent.op, KVAppend):
        return None
    assert isinstance(width, int)
    assert isinstance(count, int)
    return _Expanded(latent, product.weight, count, start, width)


def _shared(value: Value) -> _Shared | None:
    if isinstance(value.op, Broadcast) and value.op.x.rank == 4 and value.op.x.shape[1] == 1:
        return _Shared(value.op.x)
    return None


def _matrices(part: _Expanded, op: Op) -> Value:
    """The matrices [H, width, R] of a part."""
    rows, rank = part.weight.shape
    assert isinstance(rows, int)
    shape = (part.heads, rows // part.heads, rank)
    heads = Reshape(part.weight, shape, loc=op.loc).result
    return Slice(heads, 1, part.start, part.start + part.width, loc=op.loc).result


def _one_head(latent: Value, op: Op) -> Value:
    """A latent [B, L, R] or [B, 1, L, R] as the rows of one head."""
    if latent.rank == 4:
        return latent
    batch, length, rank = latent.shape
    return Reshape(latent, (batch, 1, length, rank), loc=op.loc).result
