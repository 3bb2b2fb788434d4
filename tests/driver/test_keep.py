"""`--quantize keep`: quantized sources keep their integers, through every executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from hetc import runtime
from hetc.driver import CompileOptions, compile_bundle, load, verify
from hetc.driver.compile import quiet
from hetc.driver.plan import plan
from hetc.driver.summary import summarize
from hetc.frontends.original import original_logits
from hetc.frontends.sources.gguf_blocks import LAYOUTS
from hetc.ir.types import Array
from hetc.runtime import Bundle
from hetc.runtime.native import NativeOptions, native_executors
from tests.driver.models import build, save
from tests.frontends.gguf_models import KINDS, llama_tensors, of_every_kind, write_gguf
from tests.frontends.onnx_exports import export_stateless
from tests.frontends.sources_models import tiny_config, tiny_model

Kind = gguf.GGMLQuantizationType
TOKENS = np.random.default_rng(0).integers(3, 60, (1, 14))
SPLIT = 9
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def llama() -> Any:
    config = tiny_config("llama", head_dim=64, hidden_size=256, intermediate_size=512)
    return tiny_model(config)


def logits(bundle: Bundle) -> Array:
    """Of the last prompt token and all after it, which are decoded one by one."""
    first, state = bundle.prefill(TOKENS[:, :SPLIT])
    rows = [np.asarray(first)[0, -1]]
    for position in range(SPLIT, TOKENS.shape[1]):
        found, state = bundle.decode(TOKENS[:, position : position + 1], state)
        rows.append(np.asarray(found)[0, -1])
    return np.stack(rows)


def by_executor(path: Path) -> dict[str, Array]:
    """The logits by every executor; native in portable code, which rounds no input."""
    portable = {"native": native_executors(NativeOptions(variant="portable"))}
    found = {}
    for executor in ("reference", "onnx"):
        with load(path, executor=executor) as bundle:
            found[executor] = logits(bundle)
    with runtime.load(path, executors=portable, executor="native") as bundle:
        found["native"] = logits(bundle)
    return found


def test_every_executor_gives_the_logits_of_the_widened_file(llama: Any, tmp_path: Path) -> None:
    """As transformers widens and runs it."""
    assert {kind.name for kind in KINDS.values()} == set(LAYOUTS) - {"Q3_K"}
    tensors, file = llama_tensors(llama), tmp_path / "m.gguf"
    write_gguf(file, tensors, config=llama.config, kind=of_every_kind)
    made = compile_bundle(file, tmp_path / "bundle", CompileOptions(dtype="fp32", decode="host"))
    told = "note        matrices as the source has them, not rounded: 7 as int4, 9 as int8"
    assert told in made.summary
    assert "fallbacks   none" in made.summary
    with load(made.path, executor="native") as bundle:
        assert not any(name.endswith("proj.weight") for name in bundle.files.weight_names())
    expected = original_logits(file, TOKENS)[0, SPLIT - 1 :]
    for executor, found in by_executor(made.path).items():
        error = np.abs(found - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max(), executor


def test_a_tied_matrix_is_stored_once(llama: Any, tmp_path: Path) -> None:
    tensors, file = llama_tensors(llama), tmp_path / "m.gguf"
    del tensors["output.weight"]
    write_gguf(file, tensors, config=llama.config, kind=of_every_kind)
    made = compile_bundle(file, tmp_path / "bundle", CompileOptions(decode="host"))
    assert verify(made.path, against=file).ok
    with load(made.path, executor="native") as bundle:
        stored = {name for name in bundle.files.weight_names() if ".layers." not in name}
    parts = {f"model.embed_tokens.weight.{part}" for part in ("int4", "scale", "shift")}
    assert stored == {*parts, "model.norm.weight"}


@pytest.mark.parametrize(
    ("quantize", "parts"),
    [("none", ()), ("int8", ("int8", "scale")), (None, ("int4", "scale"))],
)
def test_what_is_asked_for_instead(
    quantize: str | None, parts: tuple[str, ...], llama: Any, tmp_path: Path
) -> None:
    file = write_gguf(
        tmp_path / "m.gguf", llama_tensors(llama), config=llama.config, kind=Kind.Q4_0
    )
    planned = plan(file, CompileOptions(quantize=quantize, decode="host"), quiet)
    matrix = "model.layers.0.mlp.up_proj.weight"
    stored = {name for name in planned.stored_weights if name.startswith(matrix)}
    assert stored == {f"{matrix}.{part}" for part in parts} or (stored == {matrix} and not parts)


def test_some_by_name(llama: Any, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[quantize]\n"*" = "none"\n"*.up_proj.weight" = "keep"\n', encoding="utf-8")
    file = write_gguf(
        tmp_path / "m.gguf", llama_tensors(llama), config=llama.config, kind=Kind.Q4_0
    )
    planned = plan(file, CompileOptions(policy=policy, decode="host"), quiet)
    assert {name for name in planned.stored_weights if name.endswith(".int4")} == {
        f"model.layers.{layer}.mlp.up_proj.weight.int4" for layer in range(2)
    }


def test_nothing_to_keep_is_said_where_it_was_asked_for(tmp_path: Path) -> None:
    source = save(build("llama"), tmp_path / "model")
    said = "note        nothing to keep: the source has no matrices in groups of integers"
    for quantize, expected in (("keep", True), (None, False)):
        planned = plan(source, CompileOptions(quantize=quantize, decode="host"), quiet)
        assert (said in summarize(planned, None)) == expected


@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (8, True)])
def test_onnx_files_with_matmul_nbits(bits: int, zeros: bool, tmp_path: Path) -> None:
    """Their products in ONNX Runtime, and in every executor of the bundle."""
    path = quantized(export_stateless("llama", tmp_path).path, bits, zeros)
    options = CompileOptions(decode="host", context=64)
    made = compile_bundle(path, tmp_path / "bundle", options)
    (told,) = (line for line in made.summary if "as the source has them" in line)
    assert told.endswith(f"15 as int{bits}")
    expected = original_logits(path, TOKENS)[0, SPLIT - 1 :]
    for executor, found in by_executor(made.path).items():
        error = np.abs(found - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max(), executor


def quantized(path: Path, bits: int, zeros: bool) -> Path:
    """The model at `path` with random integers in place of the matrices of its products."""
    model, rng, block = onnx.load(path), np.random.default_rng(0), 16
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        stored = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if stored is None or len(stored.dims) != 2 or stored.dims[0] % block:
            nodes.append(node)
            continue
        inner, outputs = stored.dims
        blocks = inner // block
        name = f"{node.name}.codes"
        parts = {
            name: rng.integers(0, 256, (outputs, blocks, block * bits // 8)).astype(np.uint8),
            f"{name}.scales": rng.uniform(0.5, 1, outputs * blocks).astype(np.float32) / 2**bits,
        }
        if zeros:
            middle = 0x88 if bits == 4 else 0x80
            width = outputs * -(-blocks * bits // 8)
            parts[f"{name}.zeros"] = np.full(width, middle + 1, np.uint8)
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in parts.items()
        )
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], *parts],
                list(node.output),
                node.name,
                domain="com.microsoft",
                N=outputs,
                K=inner,
                bits=bits,
                block_size=block,
            )
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    target = path.with_name("quantized.onnx")
    onnx.save(model, target)
    onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return target
