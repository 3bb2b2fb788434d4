"""A tiny language model with one appended state, as NumPy and as ONNX, and a bundle that holds it.

logits_t = tanh(sum of the embeddings of tokens 0..t) @ head; the state is the embeddings so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hetc.bundle import (
    BundleWriter,
    Contract,
    HalfEntry,
    Manifest,
    ModelInfo,
    OpenBundle,
    StateSpec,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.runtime.executor import Half
from hetc.runtime.state import State

HIDDEN, MAX_CONTEXT = 16, 64
STATE = "layers.0.h"
BOS, EOS = 256, 257
VOCAB = 258
Array = NDArray[Any]


def contract(*, dtype: str = "f32") -> Contract:
    """The toy's hand-off: one state [B, P, HIDDEN]."""
    spec = StateSpec(
        name=STATE,
        layer=0,
        kind="kv",
        shape=("B", "P", HIDDEN),
        dtype=dtype,
        append_axis=1,
        keep=None,
        producer_layout="B,P,16",
        consumer_layout="B,P,16",
    )
    return Contract(1, MAX_CONTEXT, (spec,))


def weights(seed: int = 0) -> dict[str, Array]:
    """The toy's weights: bf16, as a bundle of a bf16 model stores them."""
    rng = np.random.default_rng(seed)
    bf16 = ml_dtypes.bfloat16
    return {
        "embed": rng.standard_normal((VOCAB, HIDDEN)).astype(bf16),
        "head": rng.standard_normal((HIDDEN, VOCAB)).astype(bf16),
    }


def forward(tensors: Mapping[str, Array], tokens: Array) -> Array:
    """Logits f32 [B, S, V] of the whole sequence: what both halves together must give."""
    embedded = tensors["embed"].astype(np.float32)[tokens]
    hidden = np.tanh(np.cumsum(embedded, axis=1, dtype=np.float32))
    return np.asarray(hidden @ tensors["head"].astype(np.float32))


@dataclass
class NumpyExecutor:
    """The toy in NumPy; `calls` records what was asked, for the tests."""

    name: str = "toy"
    calls: list[str] = field(default_factory=list)
    interrupt_after: int | None = None
    _weights: dict[str, Array] = field(default_factory=dict)
    _contract_sha256: str = ""
    _half: Half = "prefill"

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        self._half = half
        self._contract_sha256 = bundle.manifest.contract_sha256
        self._weights = {n: bundle.weight(n).astype(np.float32) for n in bundle.weight_names()}
        self.calls.append(f"prepare {half}")

    def bind(self, *, batch: int, context: int) -> None:
        self.calls.append(f"bind {batch} {context}")

    def run(self, tokens: NDArray[np.int64], state: State | None) -> tuple[Array, State]:
        self.calls.append(f"run {self._half} {list(tokens.shape)}")
        if self.interrupt_after is not None and len(self.calls) > self.interrupt_after:
            raise KeyboardInterrupt
        embedded = self._weights["embed"][tokens]
        if state is not None:
            tensor = state.take()[STATE]
            before = tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
            embedded = np.concatenate([before, embedded], axis=1)
        hidden = np.tanh(np.cumsum(embedded, axis=1, dtype=np.float32))
        kept = hidden[:, -1:] if state is None else hidden[:, -tokens.shape[1] :]
        reached = embedded.shape[1]
        after = State(self._contract_sha256, reached, {STATE: embedded}, owner=self._half)
        return kept @ self._weights["head"], after

    def close(self) -> None:
        self.calls.append("close")


def onnx_half(half: Half, *, takes_past: bool = False) -> bytes:
    """One half as an ONNX file without its weights."""
    from onnx import TensorProto, helper

    def outside(name: str, shape: tuple[int, ...]) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        return tensor

    def constant(name: str, values: list[int]) -> TensorProto:
        return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)

    def value(name: str, dims: list[str | int], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, dims)

    decode = half == "decode"
    rows = "now"
    nodes = [
        helper.make_node("Gather", ["embed", "tokens"], ["new"]),
        helper.make_node("Concat", [STATE, "new"], [f"{STATE}.out"], axis=1)
        if decode
        else helper.make_node("Identity", ["new"], [f"{STATE}.out"]),
        helper.make_node("CumSum", [f"{STATE}.out", "axis"], ["sums"]),
        helper.make_node("Tanh", ["sums"], ["hidden"]),
        helper.make_node("Shape", ["tokens"], ["tokens.shape"]),
        helper.make_node("Gather", ["tokens.shape", "axis"], ["count"]),
        helper.make_node("Neg", ["count" if decode else "one"], ["from"]),
        helper.make_node("Slice", ["hidden", "from", "end", "axis"], [rows]),
        helper.make_node("MatMul", [rows, "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        half,
        [value("tokens", ["B", "T" if decode else "S"], TensorProto.INT64)]
        + ([value(STATE, ["B", "P", HIDDEN])] if decode else [])
        + ([value("past", [], TensorProto.INT64)] if takes_past else []),
        [value("logits", ["B", "R", VOCAB]), value(f"{STATE}.out", ["B", "Q", HIDDEN])],
        [
            outside("embed", (VOCAB, HIDDEN)),
            outside("head", (HIDDEN, VOCAB)),
            constant("axis", [1]),
            constant("one", [1]),
            constant("end", [2**62]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def tokenizer_json() -> bytes:
    """A byte-level tokenizer: one token a byte, then BOS and EOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer.to_str().encode()


CHAT = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[answer]"
TOKENIZER_CONFIG = {
    "chat_template": CHAT,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "bos_id": BOS,
    "eos_ids": [EOS],
    "add_bos": False,
}


def source(name: str, tensor: Array) -> tuple[str, str, tuple[int, ...], Callable[[], Array]]:
    """A bf16 tensor as the writer takes it."""
    return name, "bf16", tensor.shape, lambda: tensor


def write_toy_bundle(
    path: Path,
    *,
    executors: tuple[str, ...] = ("toy",),
    tokenizer: bool = True,
    plan: bool = False,
    eos: int = EOS,
    onnx: Callable[[Half], bytes] | None = None,
    tensors: Mapping[str, Array] | None = None,
) -> Path:
    """Write the toy as a bundle; `onnx` gives the ONNX file of a half."""

    def half(phase: Half, state: str) -> HalfEntry:
        return HalfEntry(f"{phase}/graph.hetc", f"{phase}/model.onnx" if onnx else None, (state,))

    target = TargetRef("toy", "0" * 64)
    manifest = Manifest(
        tool=ToolInfo("hetc", "0.1.0"),
        kind="plan" if plan else "runnable",
        model=ModelInfo("toy", "toy", 2 * VOCAB * HIDDEN, 1, VOCAB, MAX_CONTEXT, "bf16"),
        workload=Workload(1, MAX_CONTEXT, 8, 8),
        targets={"prefill": target, "decode": target},
        halves={"prefill": half("prefill", f"{STATE}.out"), "decode": half("decode", STATE)},
        executors=() if plan else executors,
    )
    with BundleWriter(path) as writer:
        writer.write_json("handoff.json", contract().to_json())
        writer.write_bytes("prefill/graph.hetc", b"graph @prefill")
        writer.write_bytes("decode/graph.hetc", b"graph @decode")
        if onnx:
            writer.write_bytes("prefill/model.onnx", onnx("prefill"))
            writer.write_bytes("decode/model.onnx", onnx("decode"))
        if tokenizer:
            writer.write_bytes("tokenizer/tokenizer.json", tokenizer_json())
            writer.write_json("tokenizer/config.json", TOKENIZER_CONFIG | {"eos_ids": [eos]})
        if not plan:
            stored = weights() if tensors is None else tensors
            writer.write_tensors(
                "weights/model.safetensors",
                [source(name, tensor) for name, tensor in stored.items()],
            )
        writer.commit(manifest)
    return path
