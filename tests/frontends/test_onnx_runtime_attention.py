"""Attention and rotary embedding of ONNX Runtime's domain, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hetc.frontends.onnx import import_whole
from hetc.ir.ops.attention import Attention
from hetc.ir.types import Array
from tests.frontends.runtime_nodes import assert_agree, by_hetc, by_runtime, model_of

EXAMPLES = settings(max_examples=20)
GQA = (
    *("query", "key", "value", "past_key", "past_value", "ends", "total", "cos", "sin"),
    *("positions", "bias", "sinks", "k_scale", "v_scale", "q_norm", "k_norm"),
)
MHA = (
    *("query", "key", "value", "bias", "padding", "scores", "past_key", "past_value"),
    *("past_length", "indirection"),
)


def draw_array(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def angles(rows: int, width: int) -> dict[str, Array]:
    """Tables of cosines and sines `[rows, width / 2]`."""
    rates = 100.0 ** (-np.arange(0, width, 2) / width)
    turns = np.arange(rows)[:, None] * rates
    return {"cos": np.cos(turns).astype(np.float32), "sin": np.sin(turns).astype(np.float32)}


@EXAMPLES
@given(data=st.data())
def test_group_query_attention(data: st.DataObject) -> None:
    def pick(*items: Any) -> Any:
        return data.draw(st.sampled_from(items))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, groups, repeat, width = pick(1, 2), pick(1, 2), pick(1, 3), pick(16, 32)
    past, rows, heads = pick(0, 1, 5), pick(1, 4), groups * repeat
    if past:
        # ONNX Runtime takes several tokens beside a past for one sequence only.
        rows = rows if batch == 1 else 1
    packed, rotary = pick(True, False), pick("", "half", "pairs")
    arrays = {
        "past_key": draw_array(rng, batch, groups, past, width),
        "past_value": draw_array(rng, batch, groups, past, width),
        "ends": np.full(batch, past + rows - 1, np.int32),
        "total": np.array(past + rows, np.int32),
    }
    if packed:
        arrays["query"] = draw_array(rng, batch, rows, (heads + 2 * groups) * width)
    else:
        arrays["query"] = draw_array(rng, batch, rows, heads * width)
        arrays["key"] = draw_array(rng, batch, rows, groups * width)
        arrays["value"] = draw_array(rng, batch, rows, groups * width)
    attributes: dict[str, Any] = {"num_heads": heads, "kv_num_heads": groups}
    weights: dict[str, Array] = {}
    if rotary:
        weights |= angles(16, width)
        attributes |= {"do_rotary": 1, "rotary_interleaved": int(rotary == "pairs")}
    if pick(True, False):
        attributes["softcap"] = 5.0
    if pick(True, False):
        attributes["local_window_size"] = 3
    if pick(True, False):
        attributes["scale"] = 0.3
    if pick(True, False):
        arrays["bias"] = draw_array(rng, 1, heads, rows, past + rows)
    sink = pick("", "weights", "smooth")
    if sink == "weights":
        weights["sinks"] = draw_array(rng, heads)
    elif sink:
        attributes["smooth_softmax"] = 1
    names = [name if name in arrays or name in weights else "" for name in GQA]
    outputs = ("y", "present_key", "present_value")
    model = model_of("GroupQueryAttention", names, arrays, weights, outputs, **attributes)
    imported = assert_agree(model, arrays, ("ends", "total"), tolerance=1e-4)
    (attention,) = (op for op in imported.graph.ops if isinstance(op, Attention))
    assert attention.causal


def test_norms_of_queries_and_keys_come_before_the_rotation() -> None:
    rng = np.random.default_rng(4)
    arrays = {name: draw_array(rng, 1, 3, 32) for name in ("query", "key", "value")}
    arrays |= {"ends": np.array([2], np.int32), "total": np.array(3, np.int32)}
    weights = {"q_norm": draw_array(rng, 16), "k_norm": draw_array(rng, 16), **angles(8, 16)}
    attributes: dict[str, Any] = {"num_heads": 2, "kv_num_heads": 2, "do_rotary": 1}
    outputs = ("y", "present_key", "present_value")
    names = [name if name in arrays or name in weights else "" for name in GQA]
    inside = model_of(
        "GroupQueryAttention", names, arrays, weights, outputs, qk_norm_epsilon=1e-3, **attributes
    )
    # ONNX Runtime has those norms for GPUs only; on the CPU it runs them as nodes of their own.
    names = [name if name not in ("q_norm", "k_norm") else "" for name in names]
    names[:2] = ["query_normal", "key_normal"]
    apart = model_of("GroupQueryAttention", names, arrays, weights, outputs, **attributes)
    split = numpy_helper.from_array(np.array([1, 3, 2, 16]), "split")
    joined = numpy_helper.from_array(np.array([1, 3, 32]), "joined")
    apart.graph.initializer.extend([split, joined])
    before = []
    for name in ("query", "key"):
        norm = helper.make_node(
            "SimplifiedLayerNormalization",
            [f"{name}_heads", f"{name[0]}_norm"],
            [f"{name}_scaled"],
            epsilon=1e-3,
        )
        before += [
            helper.make_node("Reshape", [name, "split"], [f"{name}_heads"]),
            norm,
            helper.make_node("Reshape", [f"{name}_scaled", "joined"], [f"{name}_normal"]),
        ]
    after = list(apart.graph.node)
    del apart.graph.node[:]
    apart.graph.node.extend([*before, *after])
    _, found = by_hetc(inside, arrays, ("ends", "total"))
    for ours, theirs in zip(found, by_runtime(apart, arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sequences_of_different_lengths_are_kept_as_they_are() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "query": draw_array(rng, 2, 3, 16),
        "key": draw_array(rng, 2, 3, 16),
        "value": draw_array(rng, 2, 3, 16),
        "ends": np.array([2, 1], np.int32),
        "total": np.array(3, np.int32),
    }
    names = [name if name in arrays else "" for name in GQA]
    outputs = ("y", "present_key", "present_value")
    model = model_of("GroupQueryAttention", names, arrays, {}, outputs, num_heads=2, kv_num_heads=2)
    for info, shape in zip(
        model.graph.output, ((2, 3, 16), (2, 2, 3, 8), (2, 2, 3, 8)), strict=True
    ):
        info.type.tensor_type.elem_type = 1
        for size in shape:
            info.type.tensor_type.shape.dim.add(dim_value=size)
    imported = import_whole(model)
    (reason,) = imported.opaque
    assert reason.text.endswith("sequences that do not fill their cache up to its end")


@EXAMPLES
@given(data=st.data())
def test_multi_head_attention(data: st.DataObject) -> None:
    def pick(*items: Any) -> Any:
        return data.draw(st.sampled_from(items))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, heads, width, rows = pick(1, 2), pick(1, 3), pick(4, 8), pick(1, 3)
    length, past = pick(rows, rows + 2), 0
    arrays = {
        "query": draw_array(rng, batch, rows, heads * width),
        "key": draw_array(rng, batch, length, heads * width),
        "value": draw_array(rng, batch, length, heads * width),
    }
    if pick(True, False):
        past = pick(1, 4)
        arrays["past_key"] = draw_array(rng, batch, heads, past, width)
        arrays["past_value"] = draw_array(rng, batch, heads, past, width)
    weights: dict[str, Array] = {}
    if pick(True, False):
        weights["bias"] = draw_array(rng, 3 * heads * width)
    total = past + length
    if pick(True, False):
        mask = rng.integers(0, 2, (batch, total)).astype(np.int32)
        mask[:, 0] = 1
        arrays["padding"] = mask
    if pick(True, False):
        arrays["scores"] = draw_array(rng, pick(1, batch), pick(1, heads), rows, total)
    attributes: dict[str, Any] = {"num_heads": heads}
    if "padding" not in arrays and length == rows and pick(True, False):
        attributes["unidirectional"] = 1
    if pick(True, False):
        attributes["scale"] = 0.4
    names = [name if name in arrays or name in weights else "" for name in MHA]
    outputs = ("y", "present_key", "present_value") if past else ("y",)
    model = model_of("MultiHeadAttention", names, arrays, weights, outputs, **attributes)
    assert_agree(model, arrays, tolerance=1e-4)


@EXAMPLES
@given(data=st.data())
def test_packed_attention(data: st.DataObject) -> None:
    def pick(*items: Any) -> Any:
        return data.draw(st.sampled_from(items))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, heads, width, rows, past = pick(1, 2), pick(1, 2), 4, pick(1, 3), pick(0, 2)
    inner = heads * width
    arrays = {"x": draw_array(rng, batch, rows, 6)}
    weights = {"w": draw_array(rng, 6, 3 * inner), "b": draw_array(rng, 3 * inner)}
    form = pick("", "keys", "rows", "lengths")
    total = past + rows
    if form == "keys":
        mask = rng.integers(0, 2, (batch, total)).astype(np.int32)
        mask[:, 0] = 1
        arrays["mask"] = mask
    elif form == "rows":
        each = rng.integers(0, 2, (batch, rows, total)).astype(np.int32)
        each[..., 0] = 1
        arrays["mask"] = each
    elif form == "lengths" and not past:
        arrays["mask"] = rng.integers(1, total + 1, batch).astype(np.int32)
    if past:
        arrays["past"] = draw_array(rng, 2, batch, heads, past, width)
    attributes = {"num_heads": heads, "unidirectional": pick(0, 1)}
    order = ("x", "w", "b", "mask", "past")
    names = [name if name in arrays or name in weights else "" for name in order]
    outputs = ("y", "present") if past else ("y",)
    model = model_of("Attention", names, arrays, weights, outputs, **attributes)
    assert_agree(model, arrays, tolerance=1e-4)


@EXAMPLES
@given(data=st.data())
def test_rotary_embedding(data: st.DataObject) -> None:
    def pick(*items: Any) -> Any:
        return data.draw(st.sampled_from(items))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, heads, rows, width, four = pick(1, 2), pick(1, 3), pick(1, 4), pick(8, 16), pick(0, 1)
    part = pick(width, width // 2)
    shape = (batch, heads, rows, width) if four else (batch, rows, heads * width)
    arrays: dict[str, Array] = {"x": draw_array(rng, *shape)}
    weights = angles(12, part)
    attributes: dict[str, Any] = {"interleaved": pick(0, 1)}
    if part != width:
        attributes |= {"rotary_embedding_dim": part, "num_heads": heads}
    form = pick("first", "each", "given first")
    if form == "each":
        arrays["positions"] = rng.integers(0, 12, (batch, rows))
    else:
        arrays["positions"] = rng.integers(0, 8, 1)
    model = model_of(
        "RotaryEmbedding", ("x", "positions", "cos", "sin"), arrays, weights, **attributes
    )
    assert_agree(model, arrays, ("positions",) if form == "given first" else ())


@pytest.mark.parametrize("name", ["past_length", "indirection"])
def test_caches_that_beams_share_are_refused(name: str) -> None:
    rng = np.random.default_rng(1)
    arrays: dict[str, Array] = {key: draw_array(rng, 1, 2, 8) for key in ("query", "key", "value")}
    arrays[name] = np.ones((1, 1, 2) if name == "indirection" else 1, np.int32)
    names = [key if key in arrays else "" for key in MHA]
    model = model_of("MultiHeadAttention", names, arrays, {}, num_heads=2)
    model.graph.output[0].type.tensor_type.elem_type = 1
    for size in (1, 2, 8):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    imported = import_whole(model)
    assert imported.opaque[0].text.endswith("a cache that is shared between calls or beams")
