"""Attention and rotary position embedding."""

from __future__ import annotations

import math

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import exact_div
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.index import Gather
from hetc.ir.ops.shape import Broadcast, Concat, Transpose


def split_heads(ctx: Context, x: Item, heads: int | None) -> Item:
    """`[B, T, H*D]` as `[B, H, T, D]`; four axes stay as they are."""
    if x.rank == 4:
        return x
    if not heads:
        raise Unsupported("attention without a number of heads")
    batch, rows, width = x.shape
    split = reshaped(ctx, x, (batch, rows, heads, exact_div(width, heads)))
    return ctx.emit(Transpose, split, (0, 2, 1, 3))


def merge_heads(ctx: Context, x: Item) -> Item:
    """`[B, H, T, D]` as `[B, T, H*D]`."""
    batch, heads, rows, width = x.shape
    return reshaped(ctx, ctx.emit(Transpose, x, (0, 2, 1, 3)), (batch, rows, heads * width))


@onnx_op("Attention")
def attention(
    ctx: Context,
    node: Node,
    q: Item,
    k: Item,
    v: Item,
    mask: Item | None = None,
    past_key: Item | None = None,
    past_value: Item | None = None,
    lengths: Item | None = None,
) -> tuple[Item, ...]:
    if lengths is not None or any(node.outputs[3:]):
        raise Unsupported("attention over padded keys, or that shows its scores")
    flat = q.rank == 3
    query = split_heads(ctx, q, node.get("q_num_heads"))
    key = split_heads(ctx, k, node.get("kv_num_heads"))
    value = split_heads(ctx, v, node.get("kv_num_heads"))
    causal = bool(node.get("is_causal", 0))
    if causal and query.shape[2] != key.shape[2]:
        # ONNX counts queries and new keys from one position; the IR's attention puts the last query
        # at the last key.
        raise Unsupported("causal attention of queries that do not end with the keys")
    if past_key is not None and past_value is not None:
        key = ctx.emit(Concat, (past_key, key), 2)
        value = ctx.emit(Concat, (past_value, value), 2)
    left, right = node.get("left_window_size", -1), node.get("right_window_size", -1)
    if right > 0 or (left >= 0 and not causal) or (right == 0 and not causal):
        raise Unsupported("a window without causality")
    width = query.shape[-1]
    scale = node.get("scale") or (1 / math.sqrt(width) if isinstance(width, int) else None)
    if scale is None:
        raise Unsupported("heads of a width that is not fixed")
    result = ctx.emit(
        Attention,
        query,
        key,
        value,
        mask=mask,
        scale=scale,
        softcap=node.get("softcap") or None,
        causal=causal,
        window=left + 1 if left >= 0 else None,
    )
    return (merge_heads(ctx, result) if flat else result, key, value)[: len(node.outputs)]


@onnx_op("RotaryEmbedding")
def rotary_embedding(
    ctx: Context, node: Node, x: Item, cos: Item, sin: Item, positions: Item | None = None
) -> Item:
    interleaved = bool(node.get("interleaved", 0))
    cos, sin = (_table(ctx, part, positions, interleaved) for part in (cos, sin))
    if x.rank == 4:
        # [B, H, S, D] against [B, 1, S, R].
        cos, sin = (reshaped(ctx, part, (part.shape[0], 1, *part.shape[1:])) for part in (cos, sin))
        return ctx.emit(Rope, x, cos, sin, interleaved=interleaved)
    heads = node.get("num_heads", 0)
    if not heads:
        raise Unsupported("a rotary embedding without a number of heads")
    batch, rows, width = x.shape
    split = reshaped(ctx, x, (batch, rows, heads, exact_div(width, heads)))
    cos, sin = (reshaped(ctx, part, (*part.shape[:2], 1, part.shape[2])) for part in (cos, sin))
    return reshaped(ctx, ctx.emit(Rope, split, cos, sin, interleaved=interleaved), x.shape)


def _table(ctx: Context, part: Item, positions: Item | None, interleaved: bool) -> Item:
    """The angles `[B, S, R/2]`, for both halves of a pair: `[B, S, R]`."""
    if positions is not None:
        part = ctx.emit(Gather, part, positions, 0)
    return half_table(ctx, part, interleaved)


def half_table(ctx: Context, part: Item, interleaved: bool) -> Item:
    """Angles `[..., R/2]` for both halves of a pair: `[..., R]`."""
    if not interleaved:
        return ctx.emit(Concat, (part, part), -1)
    shape = part.shape
    pairs = ctx.emit(Broadcast, reshaped(ctx, part, (*shape, 1)), (*shape, 2))
    return reshaped(ctx, pairs, (*shape[:-1], shape[-1] * 2))
