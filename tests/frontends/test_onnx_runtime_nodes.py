"""Fused and quantized operators of ONNX Runtime's domain, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.ir.ops.index import Embedding
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array
from tests.frontends.runtime_nodes import assert_agree, model_of

EXAMPLES = settings(max_examples=15)
SEEDS = st.integers(0, 2**32 - 1)


class Random:
    """Sizes and numbers from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, *items: Any) -> Any:
        return items[self.rng.integers(len(items))]

    def f32(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def integers(self, low: int, high: int, *shape: int, dtype: Any = np.int64) -> Array:
        return self.rng.integers(low, high, shape).astype(dtype)


@EXAMPLES
@given(SEEDS)
def test_activations_and_their_biases(seed: int) -> None:
    r = Random(seed)
    x, bias = r.f32(r.pick(1, 3), 4, 8), r.f32(8)
    for kind in ("Gelu", "QuickGelu"):
        assert_agree(model_of(kind, ["x"], {"x": x}, {}), {"x": x})
    for kind in ("BiasGelu", "FastGelu"):
        names = ["x", "b"] if kind == "BiasGelu" or r.pick(True, False) else ["x"]
        model = model_of(kind, names, {"x": x}, {"b": bias} if "b" in names else {})
        # ONNX Runtime's error function is a polynomial of f32.
        assert_agree(model, {"x": x}, tolerance=1e-4)


@EXAMPLES
@given(SEEDS)
def test_normalisations_of_sums(seed: int) -> None:
    r = Random(seed)
    width = r.pick(4, 8)
    shape = (r.pick(1, 2), r.pick(1, 3), width)
    arrays = {"x": r.f32(*shape), "skip": r.f32(*shape)}
    weights = {"gamma": r.f32(width)}
    simplified = r.pick(True, False)
    names = ["x", "skip", "gamma"]
    if not simplified:
        names.append("beta" if r.pick(True, False) else "")
    names.append("bias" if r.pick(True, False) else "")
    weights |= {name: r.f32(width) for name in ("beta", "bias") if name in names}
    kind = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    outputs = ("y", "", "", "total") if r.pick(True, False) else ("y",)
    assert_agree(model_of(kind, names, arrays, weights, outputs, epsilon=1e-3), arrays)


@EXAMPLES
@given(SEEDS)
def test_simplified_layer_normalization(seed: int) -> None:
    r = Random(seed)
    x, gamma = r.f32(2, r.pick(1, 3), 8), r.f32(8)
    model = model_of(
        "SimplifiedLayerNormalization",
        ["x", "gamma"],
        {"x": x},
        {"gamma": gamma},
        domain="",
        epsilon=1e-3,
    )
    assert_agree(model, {"x": x})


@EXAMPLES
@given(SEEDS)
def test_embedding_and_normalisation(seed: int) -> None:
    r = Random(seed)
    batch, rows, width = r.pick(1, 2), r.pick(1, 4), 8
    arrays = {"ids": r.integers(0, 9, batch, rows, dtype=np.int32)}
    weights = {"words": r.f32(9, width), "places": r.f32(6, width)}
    weights |= {"gamma": r.f32(width), "beta": r.f32(width)}
    segments, mask, positions = (r.pick(True, False) for _ in range(3))
    if segments:
        arrays["segments"] = r.integers(0, 2, batch, rows, dtype=np.int32)
        weights["kinds"] = r.f32(2, width)
    if mask:
        arrays["mask"] = np.ones((batch, rows), np.int32)
    if positions:
        arrays["positions"] = r.integers(0, 6, batch, rows, dtype=np.int32)
    order = ("ids", "segments", "words", "places", "kinds", "gamma", "beta", "mask", "positions")
    names = [name if name in arrays or name in weights else "" for name in order]
    model = model_of("EmbedLayerNormalization", names, arrays, weights, ("y", "lengths", "total"))
    assert_agree(model, arrays)


@EXAMPLES
@given(SEEDS)
def test_fused_matmul(seed: int) -> None:
    r = Random(seed)
    rows, inner, columns, batch = r.pick(1, 3), r.pick(2, 5), r.pick(1, 4), r.pick((), (2,), (2, 3))
    left, right = r.pick(True, False), r.pick(True, False)
    a = r.f32(*batch, *((inner, rows) if left else (rows, inner)))
    stored = r.pick(True, False)
    b = r.f32(*(() if stored else batch), *((columns, inner) if right else (inner, columns)))
    arrays, weights = ({"a": a}, {"b": b}) if stored else ({"a": a, "b": b}, {})
    attributes = {"transA": int(left), "transB": int(right), "alpha": r.pick(1.0, 0.5)}
    assert_agree(model_of("FusedMatMul", ["a", "b"], arrays, weights, **attributes), arrays)


@EXAMPLES
@given(SEEDS)
def test_mixture_of_experts(seed: int) -> None:
    r = Random(seed)
    rows, width, inner, experts = r.pick(1, 5), 8, 16, 4
    kind = r.pick("relu", "silu", "gelu", "identity", "swiglu")
    arrays = {"x": r.f32(rows, width), "router": r.f32(rows, experts)}
    wide = 2 * inner if kind == "swiglu" else inner
    weights = {"up": r.f32(experts, wide, width), "down": r.f32(experts, width, inner)}
    if r.pick(True, False):
        weights |= {"up_bias": r.f32(experts, wide), "down_bias": r.f32(experts, width)}
    attributes = {"activation_type": kind, "k": r.pick(1, 2, 4)}
    attributes["normalize_routing_weights"] = r.pick(0, 1)
    if kind == "swiglu":
        attributes |= {"swiglu_fusion": 1, "activation_alpha": 1.702, "activation_beta": 1.0}
        attributes["swiglu_limit"] = 2.0
    order = ("x", "router", "up", "up_bias", "down", "down_bias")
    names = [name if name in arrays or name in weights else "" for name in order]
    assert_agree(model_of("MoE", names, arrays, weights, **attributes), arrays, tolerance=2e-4)


@EXAMPLES
@given(SEEDS)
def test_quantized_mixture_of_experts(seed: int) -> None:
    r = Random(seed)
    bits, rows, width, inner, experts = r.pick(4, 8), r.pick(1, 5), 32, 32, 4
    arrays = {"x": r.f32(rows, width), "router": r.f32(rows, experts)}
    block, step = r.pick(0, 16), 0.16 / 2**bits
    sizes = (1,) if not block else (width // block,)
    weights = {
        "up": r.integers(0, 256, experts, 2 * inner, width * bits // 8, dtype=np.uint8),
        "up_scales": np.abs(r.f32(experts, 2 * inner, *sizes)) * step,
        "down": r.integers(0, 256, experts, width, inner * bits // 8, dtype=np.uint8),
        "down_scales": np.abs(r.f32(experts, width, *sizes)) * step,
    }
    if not block:
        weights |= {name: weights[name][..., 0] for name in ("up_scales", "down_scales")}
    attributes = {"activation_type": "swiglu", "swiglu_fusion": 1, "k": r.pick(1, 2)}
    attributes |= {"expert_weight_bits": bits, "normalize_routing_weights": 1}
    attributes |= {"activation_alpha": 1.0, "activation_beta": 0.0}
    if block:
        attributes["block_size"] = block
    names = ["x", "router", "up", "up_scales", "", "down", "down_scales"]
    # In blocks of 8 bits ONNX Runtime rounds the tokens to 8 bits as well; results are near 0.1.
    tolerance = 1e-2 if bits == 8 and block else 1e-5
    model = model_of("QMoE", names, arrays, weights, **attributes)
    imported = assert_agree(model, arrays, tolerance=tolerance)
    assert len(imported.notes) == 2


@EXAMPLES
@given(SEEDS)
def test_gather_of_a_quantized_table(seed: int) -> None:
    r = Random(seed)
    bits, block, rows = r.pick(4, 8), r.pick(16, 32), 6
    columns = 2 * block
    weights = {
        "table": r.integers(0, 256, rows, columns * bits // 8, dtype=np.uint8),
        "scales": r.f32(rows, columns // block),
    }
    if r.pick(True, False):
        width = columns // block * bits // 8
        weights["zeros"] = r.integers(0, 256, rows, width, dtype=np.uint8)
    arrays = {"ids": r.integers(0, rows, 2, 3)}
    names = ["table", "ids", "scales", *(["zeros"] if "zeros" in weights else [])]
    attributes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    model = model_of("GatherBlockQuantized", names, arrays, weights, **attributes)
    imported = assert_agree(model, arrays)
    weight, embedding = imported.graph.ops
    assert isinstance(weight, Weight)
    assert isinstance(embedding, Embedding)
    assert imported.weights[weight.name].groups is not None


@EXAMPLES
@given(SEEDS)
def test_products_of_integers(seed: int) -> None:
    r = Random(seed)
    rows, inner, columns = r.pick(1, 3), 8, r.pick(2, 5)
    kind = r.pick(np.uint8, np.int8)
    b = r.integers(*((0, 256) if kind is np.uint8 else (-128, 128)), inner, columns, dtype=kind)
    per_column = r.pick(True, False)
    weights = {"b": b, "b_scale": np.abs(r.f32(*((columns,) if per_column else ()))) + 0.01}
    weights["b_zero"] = np.zeros(weights["b_scale"].shape, kind)
    a = {"a": r.f32(2, rows, inner)}
    names = ["a", "b", "b_scale", r.pick("b_zero", "")]
    if r.pick(True, False):
        names.append("bias")
        weights["bias"] = r.f32(columns)
    kept = {name: array for name, array in weights.items() if name in names}
    model = model_of("DynamicQuantizeMatMul", names, a, kept)
    # One step of the quantization moves a result by a step of both scales.
    step = float(np.ptp(np.append(a["a"], 0))) / 255 * float(weights["b_scale"].max()) * 256
    assert_agree(model, a, tolerance=max(1e-3, step * 1e-2))
    codes = {"a": r.integers(0, 256, rows, inner, dtype=np.uint8)}
    weights |= {"a_scale": np.array(0.02, np.float32), "a_zero": np.array(7, np.uint8)}
    names = ["a", "b", "a_scale", "b_scale", "a_zero", "b_zero"]
    kept = {name: array for name, array in weights.items() if name in names}
    assert_agree(model_of("MatMulIntegerToFloat", names, codes, kept), codes, tolerance=1e-4)
    names, kept = ["a", "b", "a_zero"], {"b": b, "a_zero": weights["a_zero"]}
    assert_agree(model_of("MatMulInteger", names, codes, kept, domain=""), codes)


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
@EXAMPLES
@given(seed=SEEDS)
def test_quantize_and_dequantize(domain: str, seed: int) -> None:
    r = Random(seed)
    dtype = r.pick(np.uint8, np.int8, np.uint16, np.int16)
    limits = np.iinfo(dtype)
    form = r.pick("tensor", "axis", "block") if not domain else r.pick("tensor", "axis")
    shape = (4, 6)
    sizes = {"tensor": (), "axis": (6,), "block": (4, 3)}[form]
    attributes: dict[str, Any] = {"axis": 1} if form != "tensor" else {}
    if form == "block":
        attributes["block_size"] = 2
    x = {"x": 40 * r.f32(*shape)}
    weights = {"scale": np.abs(r.f32(*sizes)) + 0.05}
    names = ["x", "scale"]
    if r.pick(True, False) or dtype is not np.uint8:
        names.append("zero")
        weights["zero"] = r.integers(0, 9, *sizes, dtype=dtype)
    model = model_of("QuantizeLinear", names, x, weights, domain=domain, **attributes)
    assert_agree(model, x, tolerance=0)
    codes = {"x": r.integers(limits.min, int(limits.max) + 1, *shape, dtype=dtype)}
    model = model_of("DequantizeLinear", names, codes, weights, domain=domain, **attributes)
    assert_agree(model, codes)
