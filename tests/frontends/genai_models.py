"""Tiny random decoders laid out as ONNX Runtime GenAI's model builder writes them.

One GroupQueryAttention a layer with its rotary tables, `seqlens_k` and `total_sequence_length` from
the attention mask, norms that add the residual, and, in 4 bits, MatMulNBits
(https://github.com/microsoft/onnxruntime-genai, src/python/py/models/builder.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hetc.ir.types import Array

VOCABULARY, WIDTH, LAYERS, HEADS, GROUPS, HEAD = 64, 64, 2, 4, 2, 16
INNER, POSITIONS, BLOCK = 96, 64, 32
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Form:
    """What of the builder's output varies: one matrix for queries, keys and values or three, 4 bits
    or floats, a window, a softcap, external data.
    """

    packed: bool = False
    quantized: bool = False
    window: int = -1
    softcap: float = 0.0
    external: bool = False


@dataclass
class _Builder:
    form: Form
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def weight(self, name: str, array: Array) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, name: str, *shape: int, spread: float = 0.3) -> str:
        return self.weight(name, (self.rng.standard_normal(shape) * spread).astype(np.float32))

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        name: str,
        outputs: Sequence[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        made = list(outputs or [f"{name}/output_0"])
        self.nodes.append(
            helper.make_node(kind, inputs, made, name=name, domain=domain, **attributes)
        )
        return made[0]

    def matmul(self, x: str, name: str, inner: int, outer: int) -> str:
        """`x` times a matrix `[inner, outer]`, of floats or of 4 bits."""
        weight = name.strip("/").replace("/", ".") + ".weight"
        if not self.form.quantized:
            matrix = self.random(weight, inner, outer)
            return self.node("MatMul", [x, matrix], f"{name}/MatMul")
        blocks = inner // BLOCK
        codes = self.rng.integers(0, 256, (outer, blocks, BLOCK // 2)).astype(np.uint8)
        scales = (0.02 + 0.06 * self.rng.random(outer * blocks)).astype(np.float32)
        return self.node(
            "MatMulNBits",
            [x, self.weight(weight + "_Q4", codes), self.weight(weight + "_scales", scales)],
            f"{name}/MatMul_Q4",
            domain=MICROSOFT,
            K=inner,
            N=outer,
            bits=4,
            block_size=BLOCK,
        )


def build(folder: Path, form: Form) -> Path:
    """`model.onnx` of a decoder in this form, with random weights."""
    b = _Builder(form)
    mask = "/model/attn_mask_reformat/attn_mask_subgraph"
    one = b.weight("/model/constants/INT64/[1]", np.array([1], np.int64))
    at_one = b.weight("/model/constants/INT64/1", np.array(1, np.int64))
    total = b.node("ReduceSum", ["attention_mask", one], f"{mask}/ReduceSum", keepdims=0)
    ends = b.node("Sub", [total, one], f"{mask}/Sub")
    ends = b.node("Cast", [ends], f"{mask}/Sub/Cast", to=TensorProto.INT32)
    shape = b.node("Shape", ["attention_mask"], f"{mask}/Shape")
    length = b.node("Gather", [shape, at_one], f"{mask}/Gather", axis=0)
    length = b.node("Cast", [length], f"{mask}/Gather/Cast", to=TensorProto.INT32)
    rates = 1000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
    turns = np.arange(POSITIONS)[:, None] * rates
    cos = b.weight("cos_cache", np.cos(turns).astype(np.float32))
    sin = b.weight("sin_cache", np.sin(turns).astype(np.float32))
    table = b.random("model.embed_tokens.weight", VOCABULARY, WIDTH, spread=1.0)
    residual = b.node("Gather", [table, "input_ids"], "/model/embed_tokens/Gather")
    normal = b.node(
        "SimplifiedLayerNormalization",
        [residual, b.random("model.layers.0.input_layernorm.weight", WIDTH, spread=1.0)],
        "/model/layers.0/input_layernorm/LayerNorm",
        axis=-1,
        epsilon=1e-5,
    )
    for layer in range(LAYERS):
        made = _attention(b, layer, normal, ends, length, cos, sin)
        normal, residual = _norm(
            b, residual, made, f"model.layers.{layer}.post_attention_layernorm"
        )
        made = _mlp(b, layer, normal)
        after = layer + 1
        last = after == LAYERS
        name = "model.norm" if last else f"model.layers.{after}.input_layernorm"
        normal, residual = _norm(b, residual, made, name)
    head = b.matmul(normal, "/lm_head", WIDTH, VOCABULARY)
    b.nodes[-1].output[0] = "logits"
    assert head, "the head is the last node"
    return _written(b, folder)


def _norm(b: _Builder, residual: str, x: str, name: str) -> tuple[str, str]:
    path = "/" + name.replace(".weight", "").replace("model.", "model/").replace(
        "layers/", "layers."
    )
    weight = b.random(f"{name}.weight", WIDTH, spread=1.0)
    outputs = [f"{path}/output_0", "", "", f"{path}/output_3"]
    b.node(
        "SkipSimplifiedLayerNormalization",
        [residual, x, weight],
        f"{path}/SkipLayerNorm",
        outputs,
        MICROSOFT,
        epsilon=1e-5,
    )
    return outputs[0], outputs[3]


def _attention(b: _Builder, layer: int, x: str, ends: str, length: str, cos: str, sin: str) -> str:
    path = f"/model/layers.{layer}/attn"
    if b.form.packed:
        width = (HEADS + 2 * GROUPS) * HEAD
        parts = [b.matmul(x, f"{path}/qkv_proj", WIDTH, width), "", ""]
    else:
        parts = [
            b.matmul(x, f"{path}/{name}_proj", WIDTH, count * HEAD)
            for name, count in (("q", HEADS), ("k", GROUPS), ("v", GROUPS))
        ]
    past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
    present = [f"present.{layer}.{kind}" for kind in ("key", "value")]
    name = f"{path}/GroupQueryAttention"
    b.node(
        "GroupQueryAttention",
        [*parts, *past, ends, length, cos, sin],
        name,
        [f"{name}/output_0", *present],
        MICROSOFT,
        num_heads=HEADS,
        kv_num_heads=GROUPS,
        scale=1 / HEAD**0.5,
        local_window_size=b.form.window,
        softcap=b.form.softcap,
        do_rotary=1,
        rotary_interleaved=0,
    )
    return b.matmul(f"{name}/output_0", f"{path}/o_proj", HEADS * HEAD, WIDTH)


def _mlp(b: _Builder, layer: int, x: str) -> str:
    path = f"/model/layers.{layer}/mlp"
    gate = b.matmul(x, f"{path}/gate_proj", WIDTH, INNER)
    up = b.matmul(x, f"{path}/up_proj", WIDTH, INNER)
    opened = b.node("Sigmoid", [gate], f"{path}/act_fn/Sigmoid")
    active = b.node("Mul", [gate, opened], f"{path}/act_fn/Mul")
    both = b.node("Mul", [active, up], f"{path}/Mul")
    return b.matmul(both, f"{path}/down_proj", INNER, WIDTH)


def _written(b: _Builder, folder: Path) -> Path:
    def floats(name: str, *dims: str | int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    def ids(name: str, *dims: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT64, dims)

    inputs = [
        ids("input_ids", "batch_size", "sequence_length"),
        ids("attention_mask", "batch_size", "total_sequence_length"),
    ]
    outputs = [floats("logits", "batch_size", "sequence_length", VOCABULARY)]
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            cache = ("batch_size", GROUPS, "past_sequence_length", HEAD)
            inputs.append(floats(f"past_key_values.{layer}.{kind}", *cache))
            cache = ("batch_size", GROUPS, "total_sequence_length", HEAD)
            outputs.append(floats(f"present.{layer}.{kind}", *cache))
    graph = helper.make_graph(b.nodes, "main_graph", inputs, outputs, b.weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path = folder / "model.onnx"
    onnx.save(
        model,
        str(path),
        save_as_external_data=b.form.external,
        location="model.onnx.data",
        # Shape inference needs the small ones where it can see them.
        size_threshold=1024,
    )
    return path


def empty_past(batch: int) -> dict[str, Array]:
    """The inputs of a first call: caches without rows."""
    cache = np.zeros((batch, GROUPS, 0, HEAD), np.float32)
    return {
        f"past_key_values.{layer}.{kind}": cache
        for layer in range(LAYERS)
        for kind in ("key", "value")
    }
