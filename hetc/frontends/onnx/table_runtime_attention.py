"""Attention and rotary embedding as ONNX Runtime's own operators (`com.microsoft`) have them.

Their specification is ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_attention import half_table, merge_heads, split_heads
from hetc.frontends.onnx.table_elementwise import converted
from hetc.frontends.onnx.table_nn import matmul
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.uniform import uniform
from hetc.ir.dims import DimLike, exact_div
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.index import Gather
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.shape import Concat, Slice, Split
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import BOOL, I64


def _scale(node: Node, query: Item) -> float:
    width = query.shape[-1]
    given = float(node.get("scale") or 0.0)
    if not given and not isinstance(width, int):
        raise Unsupported("heads of a width that is not fixed")
    return given or 1 / math.sqrt(int(str(width)))


def _extended(ctx: Context, past: Item | None, new: Item) -> Item:
    return new if past is None else ctx.emit(Concat, (past, new), 2)


@onnx_op("com.microsoft::GroupQueryAttention")
def group_query_attention(
    ctx: Context,
    node: Node,
    query: Item,
    key: Item | None,
    value: Item | None,
    past_key: Item | None,
    past_value: Item | None,
    ends: Item,
    total: Item,
    cos: Item | None = None,
    sin: Item | None = None,
    positions: Item | None = None,
    bias: Item | None = None,
    sinks: Item | None = None,
    k_scale: Item | None = None,
    v_scale: Item | None = None,
    q_norm: Item | None = None,
    k_norm: Item | None = None,
    query_lengths: Item | None = None,
) -> tuple[Item, ...]:
    quantized = {node.get(name, "NONE") for name in ("k_quant_type", "v_quant_type")} != {"NONE"}
    if quantized or query_lengths is not None or node.get("sliding_window_cache", 0):
        raise Unsupported("a cache that is quantized, cut to a window, or of packed sequences")
    if len(node.outputs) > 3 and node.outputs[3]:
        raise Unsupported("attention that shows its scores")
    heads, groups = node.get("num_heads"), node.get("kv_num_heads")
    if key is None or value is None:
        width = exact_div(query.shape[-1], heads + 2 * groups)
        sizes = (heads * width, groups * width, groups * width)
        query, key, value = ctx.emit_all(Split, query, -1, sizes)
    q, k, v = (
        split_heads(ctx, x, count) for x, count in ((query, heads), (key, groups), (value, groups))
    )
    q, k = _normed(ctx, node, q, q_norm, "q"), _normed(ctx, node, k, k_norm, "k")
    rows = q.shape[2]
    past: DimLike = 0 if past_key is None else past_key.shape[2]
    last = uniform(ends)
    if last is None or last + 1 != past + rows:
        raise Unsupported("sequences that do not fill their cache up to its end")
    if node.get("do_rotary", 0):
        if cos is None or sin is None:
            raise Unsupported("a rotary embedding without its table")
        if positions is None:
            positions = ctx.emit(Iota, rows, start=past)
            _bound(ctx, cos, past + rows)
        interleaved = bool(node.get("rotary_interleaved", 0))
        q, k = (_rotated(ctx, x, cos, sin, positions, interleaved=interleaved) for x in (q, k))
    k, v = _extended(ctx, past_key, k), _extended(ctx, past_value, v)
    if sinks is None and node.get("smooth_softmax", -1) == 1:
        # One more logit of 0 in every row.
        sinks = ctx.emit(Full, 0.0, (heads,), q.dtype)
    window = node.get("local_window_size", -1)
    made = ctx.emit(
        Attention,
        q,
        k,
        v,
        mask=bias,
        sinks=sinks,
        scale=_scale(node, q),
        softcap=node.get("softcap") or None,
        causal=bool(node.get("causal", 1)),
        window=window if window > 0 else None,
    )
    return (merge_heads(ctx, made), k, v)[: max(1, len(node.outputs))]


def _normed(ctx: Context, node: Node, x: Item, weight: Item | None, which: str) -> Item:
    if weight is None:
        return x
    eps = node.get(f"{which}_norm_epsilon") or node.get("qk_norm_epsilon", 1e-6)
    return ctx.emit(RMSNorm, x, weight, eps=eps)


def _bound(ctx: Context, table: Item, count: DimLike) -> None:
    """Positions up to `count` must have a row in the table."""
    if isinstance(table, WeightItem):
        ctx.limit(count, table.data.shape[0])


def _rotated(
    ctx: Context, x: Item, cos: Item, sin: Item, positions: Item, *, interleaved: bool
) -> Item:
    """`x [B, H, S, D]` turned by the rows of two tables `[rows, R/2]` at `positions`, `[S]` or
    `[B, S]`.
    """
    angles = []
    for table in (cos, sin):
        rows = half_table(ctx, ctx.emit(Gather, table, positions, 0), interleaved)
        if rows.rank == 3:
            rows = reshaped(ctx, rows, (rows.shape[0], 1, *rows.shape[1:]))
        angles.append(rows)
    return ctx.emit(Rope, x, *angles, interleaved=interleaved)


@onnx_op("com.microsoft::RotaryEmbedding")
def rotary_embedding(
    ctx: Context, node: Node, x: Item, positions: Item, cos: Item, sin: Item
) -> Item:
    if node.get("scale", 1.0) != 1.0 or node.get("is_packed_batching", 0):
        raise Unsupported("a rotary embedding that scales, or of packed sequences")
    heads = node.get("num_heads", 0)
    if not heads and x.rank == 3:
        heads = exact_div(x.shape[-1], 2 * cos.shape[-1])
    rows = x.shape[2] if x.rank == 4 else x.shape[1]
    if positions.rank == 1 or positions.shape == (1, 1):
        start = positions.literal()
        if isinstance(start, float) or start is None:
            steps = ctx.emit(Iota, rows)
            positions = ctx.emit(ew.Add, steps, reshaped(ctx, converted(ctx, positions, I64), (1,)))
        else:
            positions = ctx.emit(Iota, rows, start=start)
            _bound(ctx, cos, start + rows)
    interleaved = bool(node.get("interleaved", 0))
    turned = _rotated(ctx, split_heads(ctx, x, heads), cos, sin, positions, interleaved=interleaved)
    return turned if x.rank == 4 else merge_heads(ctx, turned)


@onnx_op("com.microsoft::MultiHeadAttention")
def multi_head_attention(
    ctx: Context,
    node: Node,
    query: Item,
    key: Item | None = None,
    value: Item | None = None,
    bias: Item | None = None,
    padding: Item | None = None,
    scores: Item | None = None,
    past_key: Item | None = None,
    past_value: Item | None = None,
    past_length: Item | None = None,
    indirection: Item | None = None,
) -> tuple[Item, ...]:
    if past_length is not None or indirection is not None:
        raise Unsupported("a cache that is shared between calls or beams")
    if len(node.outputs) > 3 and node.outputs[3]:
        raise Unsupported("attention that shows its scores")
    heads = node.get("num_heads")
    if key is None or value is None:
        raise Unsupported("queries, keys and values in one tensor")
    parts = [query, key, value]
    if bias is not None:
        if any(x.rank != 3 for x in parts):
            raise Unsupported("a bias of queries, keys and values that are split already")
        sizes = tuple(x.shape[-1] for x in parts)
        biases = ctx.emit_all(Split, bias, 0, sizes)
        parts = [ctx.emit(ew.Add, x, b) for x, b in zip(parts, biases, strict=True)]
    q, k, v = (split_heads(ctx, x, heads) for x in parts)
    k, v = _extended(ctx, past_key, k), _extended(ctx, past_value, v)
    mask = None if padding is None else _visible(ctx, padding, k.shape[2])
    made = ctx.emit(
        Attention,
        q,
        k,
        v,
        mask=_masked(ctx, mask, scores),
        scale=_scale(node, q),
        causal=bool(node.get("unidirectional", 0)),
    )
    return (merge_heads(ctx, made), k, v)[: max(1, len(node.outputs))]


def _visible(ctx: Context, mask: Item, length: DimLike) -> Item:
    """A padding mask of integers, for each key or as a number of keys, as bools `[B, 1, ., L]`."""
    if mask.rank == 1:
        ends = reshaped(ctx, converted(ctx, mask, I64), (mask.shape[0], 1, 1, 1))
        return ctx.emit(ew.Lt, ctx.emit(Iota, length), ends)
    if mask.rank not in (2, 3) or mask.shape[-1] != length:
        raise Unsupported(f"an attention mask {mask.type}")
    flags = mask if mask.dtype is BOOL else ctx.emit(ew.Gt, mask, 0)
    middle = (1, 1) if mask.rank == 2 else (1, mask.shape[1])
    return reshaped(ctx, flags, (mask.shape[0], *middle, length))


def _masked(ctx: Context, mask: Item | None, scores: Item | None) -> Item | None:
    if mask is None or scores is None:
        return scores if mask is None else mask
    hidden = ctx.emit(ew.Where, mask, 0.0, float("-inf"), dtype=scores.dtype)
    return ctx.emit(ew.Add, hidden, scores)


@onnx_op("com.microsoft::Attention")
def packed_attention(
    ctx: Context,
    node: Node,
    x: Item,
    weight: Item,
    bias: Item | None = None,
    mask: Item | None = None,
    past: Item | None = None,
    scores: Item | None = None,
    past_length: Item | None = None,
) -> tuple[Item, ...]:
    if node.get("do_rotary", 0) or past_length is not None:
        raise Unsupported("attention with a rotary embedding inside, or a shared cache")
    heads, total = node.get("num_heads"), weight.shape[-1]
    sizes: Sequence[DimLike] = node.get("qkv_hidden_sizes") or (exact_div(total, 3),) * 3
    made = matmul(ctx, node, x, weight)
    if bias is not None:
        made = ctx.emit(ew.Add, made, bias)
    q, k, v = (
        split_heads(ctx, part, heads) for part in ctx.emit_all(Split, made, -1, tuple(sizes))
    )
    if past is not None:
        # [2, B, N, P, H]: keys, then values.
        kept = [reshaped(ctx, ctx.emit(Slice, past, 0, i, i + 1), past.shape[1:]) for i in range(2)]
        k, v = _extended(ctx, kept[0], k), _extended(ctx, kept[1], v)
    visible = None if mask is None else _visible(ctx, mask, k.shape[2])
    result = ctx.emit(
        Attention,
        q,
        k,
        v,
        mask=_masked(ctx, visible, scores),
        scale=_scale(node, q),
        causal=bool(node.get("unidirectional", 0)),
    )
    output = merge_heads(ctx, result)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return (output,)
    both = tuple(reshaped(ctx, part, (1, *part.shape)) for part in (k, v))
    return output, ctx.emit(Concat, both, 0)
