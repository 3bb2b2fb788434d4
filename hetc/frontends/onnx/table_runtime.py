"""Fused operators of language models in ONNX Runtime's own domain (`com.microsoft`)."""

from __future__ import annotations

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem, is_stored, loader
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_elementwise import converted
from hetc.frontends.onnx.table_index import gather
from hetc.frontends.onnx.table_nn import matmul
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import product
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import TopK
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.norm import LayerNorm
from hetc.ir.ops.quant import unpacked4
from hetc.ir.ops.reduce import Softmax, Sum
from hetc.ir.ops.shape import Broadcast, Slice, Split, Transpose
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I32, U8, Array, DType


@onnx_op("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(
    ctx: Context,
    node: Node,
    ids: Item,
    segments: Item | None,
    words: Item,
    places: Item,
    kinds: Item | None,
    gamma: Item,
    beta: Item,
    mask: Item | None = None,
    positions: Item | None = None,
) -> tuple[Item, ...]:
    """Words, places and, where there are any, kinds of segments: added, then normalized."""
    if positions is None:
        positions = ctx.emit(Iota, ids.shape[1])
    total = ctx.emit(ew.Add, gather(ctx, node, words, ids), gather(ctx, node, places, positions))
    if segments is not None and kinds is not None:
        total = ctx.emit(ew.Add, total, gather(ctx, node, kinds, segments))
    normal = ctx.emit(LayerNorm, total, gamma, beta, eps=node.get("epsilon", 1e-12))
    if mask is not None:
        lengths = ctx.emit(Sum, converted(ctx, mask, I32), (1,))
    else:
        lengths = ctx.emit(Full, 0, (ids.shape[0],), I32)
    return (normal, lengths, total)[: max(1, len(node.outputs))]


@onnx_op("com.microsoft::FusedMatMul")
def fused_matmul(ctx: Context, node: Node, a: Item, b: Item) -> Item:
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise Unsupported("a product whose batch axes are turned")
    left = _turned(ctx, a) if node.get("transA", 0) and a.rank > 1 else a
    turned = bool(node.get("transB", 0)) and b.rank > 1
    if turned and isinstance(b, WeightItem) and b.rank == 2:
        made = ctx.emit(Linear, left, b)
    else:
        made = matmul(ctx, node, left, _turned(ctx, b) if turned else b)
    alpha = node.get("alpha", 1.0)
    return made if alpha == 1.0 else ctx.emit(ew.Mul, made, alpha)


def _turned(ctx: Context, x: Item) -> Item:
    perm = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    return ctx.emit(Transpose, x, perm)


@onnx_op("com.microsoft::MoE")
def mixture_of_experts(
    ctx: Context,
    node: Node,
    x: Item,
    router: Item,
    up: Item,
    up_bias: Item | None,
    down: Item,
    down_bias: Item | None = None,
    gate: Item | None = None,
    gate_bias: Item | None = None,
) -> Item:
    """For each token the `k` experts of largest score: `down(act(up(x)))`, weighted and added.

    Matrices are `[E, N, K]`. SwiGLU has gates and values in one matrix, each gate before its value
    (`swiglu_fusion` 1) or all gates first (2).
    """
    kind, k = node.get("activation_type", "relu"), node.get("k", 1)
    if node.get("use_sparse_mixer", 0) or node.get("swiglu_limit_after_activation", 0):
        raise Unsupported("experts that are mixed sparsely, or bounded after their activation")
    rows = product(x.shape[:-1])
    flat = reshaped(ctx, x, (rows, x.shape[-1]))
    shares = ctx.emit(Softmax, reshaped(ctx, router, (rows, router.shape[-1])), -1)
    best, ids = ctx.emit_all(TopK, shares, k)
    if node.get("normalize_routing_weights", 0):
        best = ctx.emit(ew.Div, best, ctx.emit(Sum, best, (-1,), True))
    wide = reshaped(ctx, flat, (rows, 1, flat.shape[1]))
    each = reshaped(
        ctx, ctx.emit(Broadcast, wide, (rows, k, flat.shape[1])), (rows * k, flat.shape[1])
    )
    chosen = reshaped(ctx, ids, (rows * k,))
    inner = ctx.emit(ExpertLinear, each, up, chosen, up_bias)
    if kind == "swiglu":
        inner = _swiglu(ctx, node, inner)
    else:
        inner = _activated(ctx, kind, inner)
        if gate is not None:
            inner = ctx.emit(ew.Mul, inner, ctx.emit(ExpertLinear, each, gate, chosen, gate_bias))
    made = ctx.emit(ExpertLinear, inner, down, chosen, down_bias)
    weighted = ctx.emit(ew.Mul, made, reshaped(ctx, best, (rows * k, 1)))
    split = reshaped(ctx, weighted, (rows, k, made.shape[-1]))
    return reshaped(ctx, ctx.emit(Sum, split, (1,)), x.shape)


@onnx_op("com.microsoft::QMoE")
def quantized_mixture_of_experts(
    ctx: Context,
    node: Node,
    x: Item,
    router: Item,
    up: Item,
    up_scales: Item,
    up_bias: Item | None,
    down: Item,
    down_scales: Item,
    down_bias: Item | None = None,
    gate: Item | None = None,
    gate_scales: Item | None = None,
    gate_bias: Item | None = None,
    *more: Item | None,
) -> Item:
    """`MoE` with matrices of integers, which are widened when they are loaded."""
    if node.get("quant_type", "int") != "int" or any(more) or node.get("weights_prepacked", -1) > 0:
        raise Unsupported("experts with zeros, in floats of few bits, or packed for one device")
    matrices = [
        _expert_matrix(ctx, node, w, s, x.dtype) for w, s in ((up, up_scales), (down, down_scales))
    ]
    third = None
    if gate is not None and gate_scales is not None:
        third = _expert_matrix(ctx, node, gate, gate_scales, x.dtype)
    return mixture_of_experts(
        ctx, node, x, router, matrices[0], up_bias, matrices[1], down_bias, third, gate_bias
    )


def _expert_matrix(ctx: Context, node: Node, w: Item, scales: Item, dtype: DType) -> Item:
    """Matrices `[E, N, K]` of codes around their middle, two of 4 bits in a byte, the low half
    first; a scale for each row, or for each block of it.
    """
    bits = node.get("expert_weight_bits", 4)
    if not isinstance(w, WeightItem) or not is_stored(scales) or bits not in (4, 8):
        raise Unsupported("experts that are no initializers of 4 or 8 bits")
    experts, rows, width = (int(str(size)) for size in w.shape)
    inner = width * 8 // bits
    factors = loader(scales)

    def change(data: Array) -> Array:
        codes = unpacked4(data, U8) if bits == 4 else data
        centred = codes.astype(np.float32) - 2 ** (bits - 1)
        each = factors().astype(np.float32).reshape(experts, rows, -1)
        wide: Array = centred * np.repeat(each, inner // each.shape[-1], axis=-1)
        return wide.astype(dtype.numpy)

    ctx.notes.append(f"{w.name}: experts of {bits} bits are widened to {dtype}")
    return ctx.derive(w, "dequantized", (experts, rows, inner), dtype, change)


def _activated(ctx: Context, kind: str, x: Item) -> Item:
    kinds = {"relu": ew.Relu, "silu": ew.Silu}
    if kind == "identity":
        return x
    if kind == "gelu":
        # ONNX Runtime computes experts with the tanh approximation.
        return ctx.emit(ew.Gelu, x, tanh=True)
    if kind not in kinds:
        raise Unsupported(f"experts with the activation {kind}")
    return ctx.emit(kinds[kind], x)


def _swiglu(ctx: Context, node: Node, x: Item) -> Item:
    """`gate * sigmoid(alpha * gate) * (value + beta)`, both bounded by `swiglu_limit`."""
    alpha, beta = node.get("activation_alpha", 1.0), node.get("activation_beta", 0.0)
    limit, fusion = node.get("swiglu_limit"), node.get("swiglu_fusion", 0)
    width = x.shape[-1]
    if not isinstance(width, int) or fusion not in (1, 2):
        raise Unsupported("a SwiGLU of gates and values in two matrices")
    if fusion == 1:
        gate, value = (ctx.emit(Slice, x, 1, start, width, 2) for start in range(2))
    else:
        gate, value = ctx.emit_all(Split, x, 1, (width // 2, width // 2))
    if limit is not None:
        gate = ctx.emit(ew.Minimum, gate, limit)
        value = ctx.emit(ew.Minimum, ctx.emit(ew.Maximum, value, -limit), limit)
    open_ = ctx.emit(ew.Sigmoid, ctx.emit(ew.Mul, gate, alpha))
    return ctx.emit(ew.Mul, ctx.emit(ew.Mul, gate, open_), ctx.emit(ew.Add, value, beta))
