"""Quantized matrices: what is packed is near the weights, and computed as it is packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.backends.native.blocks import BlockFormat
from hetc.backends.native.isa import VARIANTS
from hetc.bundle.native import half_file
from hetc.ir.types import Array
from hetc.passes.group_quantization import int4_groups, int8_groups
from hetc.passes.quantize_weights import Form, Scheme, quantize_weights
from hetc.runtime.native import engine
from hetc.runtime.native.cpu import cpu_features
from tests.backends.native.running import Case, case, decoding, executors

MODEL = """
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,50]) {
  %0 = weight {name = "table", type = f32[50,64]}
  %1 = embedding %0, %tokens
  %2 = weight {name = "a", type = f32[37,64]}
  %3 = weight {name = "b", type = f32[96,64]}
  %4 = weight {name = "bias", type = f32[96]}
  %5 = linear %1, %2
  %6 = linear %1, %3 {bias = %4}
  %7 = silu %6
  %8 = weight {name = "c", type = f32[64,96]}
  %9 = linear %7, %8
  %10 = weight {name = "odd", type = f32[64,37]}
  %11 = linear %5, %10
  %12 = add %9, %11
  %13 = linear %12, %0
  return %13
}"""


def unpacked(packed: Array, format: BlockFormat, outputs: int) -> Array:
    """The numbers in the blocks [tiles, groups, bytes] of a matrix, one by one."""
    tiles, groups, _ = packed.shape
    found = np.zeros((tiles * 16, groups * 32), np.float32)
    after = 64 * format.lines
    for tile, group, lane, step in np.ndindex(tiles, groups, 16, 32):
        block = packed[tile, group]
        line, byte = divmod(step, 4)
        if format.bits == 8:
            q = int(block[64 * line + 4 * lane + byte])
        else:
            q = int(block[64 * (line // 2) + 4 * lane + byte]) >> (4 * (line % 2)) & 15
        scale, low = block[after:].view(np.float16)[[lane, lane if format.bits == 8 else 16 + lane]]
        number = (q - 128) * np.float32(scale) if format.bits == 8 else q * np.float32(scale) + low
        found[16 * tile + lane, 32 * group + step] = number
    return found[:outputs]


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_hold_the_numbers_that_the_graph_has(bits: int) -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (37, 64)).astype(np.float32)
    matrix[1], matrix[2, :32] = 0.0, -2.0
    format = BlockFormat(bits)
    if bits == 8:
        q, scale = int8_groups(matrix, 32)
        found = unpacked(format.pack(q, scale, None), format, 37)
        expected = q * scale.astype(np.float32).repeat(32, 1)
    else:
        halves, scale, low = int4_groups(matrix, 32)
        q = np.stack([halves & 15, halves >> 4], -1).reshape(37, 64)
        found = unpacked(format.pack(q, scale, low), format, 37)
        expected = q * scale.astype(np.float32).repeat(32, 1)
        expected += low.astype(np.float32).repeat(32, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def quantized(form: Form) -> Case:
    """The model with quantized matrices."""
    plain = case(MODEL)
    made = quantize_weights(plain.graph, Scheme(form), plain.weight)
    stored = {name: data.load() for name, data in made.weights.items()}
    return Case(made.graph, {**plain.weights, **stored})


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("variant", ["avx512vnni", "avx512", "avxvnni", "avx2", "portable"])
def test_products(form: Form, variant: str, tmp_path: Path) -> None:
    """x is exact in portable code, and has 15 bits where bytes are multiplied."""
    isa = next(isa for isa in VARIANTS if isa.name == variant)
    if not cpu_features().issuperset(isa.needs):
        pytest.skip(f"this CPU has not {', '.join(isa.needs)}")
    made = quantized(form)
    rng = np.random.default_rng(1)
    for batch, count, threads in ((1, 1, 1), (3, 5, 2), (1, 43, 3)):
        tokens = rng.integers(0, 50, (batch, count))
        expected, _ = made.reference(tokens, 0, {})
        with executors(made, tmp_path, threads, variant) as ran:
            found, state = ran["prefill"].run(tokens, None)
            several, _ = ran["decode"].run(tokens, decoding(state))
        largest = np.abs(expected).max()
        tolerance = (1e-4 if isa.byte_dots else 2e-5) * largest
        assert np.abs(found - expected[:, -1:]).max() < tolerance
        assert np.abs(several - expected).max() < tolerance


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_avx_vnni_by_its_twin(form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX-512 has the same instruction of 8 lanes, under another encoding."""
    if not cpu_features().issuperset({"avx512vl", "avx512_vnni"}):
        pytest.skip("this CPU has not avx512vl, avx512_vnni")
    features = cpu_features() | {"avx_vnni"}
    monkeypatch.setattr(engine, "cpu_features", lambda: features)
    made = quantized(form)
    for half in ("prefill", "decode"):
        name = half_file(half, "avxvnni")
        text = made.files[name].replace(b'"+avxvnni"', b'"+avx512vnni", "+avx512vl"')
        made.files[name] = text.replace(b'"x86-64-v3"', b'"x86-64-v4"')
    tokens = np.random.default_rng(1).integers(0, 50, (2, 11))
    expected, _ = made.reference(tokens, 0, {})
    with executors(made, tmp_path, 2, "avxvnni") as ran:
        found, state = ran["prefill"].run(tokens, None)
        several, _ = ran["decode"].run(tokens, decoding(state))
    assert np.abs(found - expected[:, -1:]).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(several - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("form", "bytes"), [("int8", 8.5), ("int4", 5)])
def test_bytes(form: Form, bytes: float) -> None:
    """What has no whole groups (37 numbers) keeps its type."""
    made = quantized(form)
    table = 64 * 64 * 8.5 / 8
    matrices = (48 * 64 + 96 * 64 + 64 * 96) * bytes / 8
    odd = 64 * 37 * 4
    packed = len(made.files["native/weights.bin"])
    assert table + matrices + odd <= packed <= table + matrices + odd + 4096 + 1024
