"""Quantized matrices: what is packed is near the weights, and computed as it is packed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hetc.backends.native import NativePlan
from hetc.backends.native.blocks import BlockFormat
from hetc.backends.native.groups import format_of, parts_of
from hetc.backends.native.isa import VARIANTS
from hetc.bundle.native import half_file
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.model import StoredGroups, WeightData
from hetc.ir.op import Value
from hetc.ir.ops.quant import Dequantize
from hetc.ir.text import parse
from hetc.ir.types import BF16, F16, F32, I8, U8, Array, DType
from hetc.passes.quantize_weights import Form, Quantized, Scheme, quantize_weights
from hetc.runtime.native import engine
from hetc.runtime.native.cpu import cpu_features
from tests.backends.native.running import Case, case, decoding, executors, two_products

FLOATS = {"f16": np.float16, "f32": np.float32}


@dataclass(frozen=True)
class Stored:
    """A form in which a source may have a matrix; `offset` is what says where zero is."""

    bits: int
    group: int
    numbers: DType
    offset: Literal["", "zero", "shift"]

    def __str__(self) -> str:
        return f"{self.bits} bits in {self.group}, {self.numbers} {self.offset}"

    def groups(self, outputs: int, inner: int, rng: np.random.Generator) -> StoredGroups:
        """Random integers of this form."""
        type = U8 if self.offset else I8
        low, high = (0, 256) if self.bits == 8 else (0, 16)
        codes: Array = rng.integers(low, high, (outputs, inner)).astype(np.uint8)
        if self.bits == 4:
            codes = codes[:, ::2] | codes[:, 1::2] << 4
        shape = (outputs, inner // self.group)
        scale = rng.uniform(0.5, 1, shape) / 2**self.bits
        zero = rng.integers(low, high, shape).astype(np.uint8)
        return StoredGroups(
            self.group,
            _data(codes, U8) if self.bits == 4 else _data(codes.view(type.numpy), type),
            _data(scale.astype(self.numbers.numpy), self.numbers),
            zero=_data(zero, U8) if self.offset == "zero" else None,
            shift=_data((-scale * 2 ** (self.bits - 1)).astype(self.numbers.numpy), self.numbers)
            if self.offset == "shift"
            else None,
            packed=type if self.bits == 4 else None,
        )


def _data(array: Array, dtype: DType) -> WeightData:
    return WeightData(array.shape, dtype, lambda: array)


# GGUF's, and those of MatMulNBits.
FORMS = [
    Stored(8, 32, F16, ""),
    Stored(8, 32, F16, "shift"),
    Stored(8, 32, F32, "shift"),
    Stored(8, 16, F32, ""),
    Stored(8, 128, F32, "zero"),
    Stored(4, 32, F16, ""),
    Stored(4, 32, F16, "shift"),
    Stored(4, 32, F32, "shift"),
    Stored(4, 16, F32, "zero"),
    Stored(4, 64, F16, "zero"),
    Stored(4, 256, BF16, ""),
]
MATRIX = """
graph @matrix(%x: f32[B,256]) -> (f32[B,37]) {
  %0 = weight {name = "m", type = f32[37,256]}
  %1 = linear %x, %0
  return %1
}"""
MODEL = two_products("f32", 96)


def unpacked(packed: Array, format: BlockFormat, outputs: int) -> Array:
    """The numbers in the blocks [tiles, groups, bytes] of a matrix, one by one."""
    tiles, groups, nbytes = packed.shape
    found = np.zeros((tiles * 16, groups * format.group), np.float32)
    number, codes = np.dtype(FLOATS[format.numbers]), format.group * 16 * format.bits // 8
    for tile, group, lane, step in np.ndindex(tiles, groups, 16, format.group):
        block = packed[tile, group]
        line, byte = divmod(step, 4)
        if format.bits == 8:
            q = int(block[64 * line + 4 * lane + byte])
        else:
            q = int(block[64 * (line // 2) + 4 * lane + byte]) >> (4 * (line % 2)) & 15
        after = codes + 16 * number.itemsize
        scale = np.float32(block[codes:after].view(number)[lane])
        if format.offset == "middle":
            assert after == nbytes
            value = (q - 2 ** (format.bits - 1)) * scale
        elif format.offset == "zero":
            value = (q - np.float32(block[after:].view(np.float16)[lane])) * scale
        else:
            value = q * scale + np.float32(block[after:].view(number)[lane])
        found[16 * tile + lane, format.group * group + step] = value
    return found[:outputs]


@pytest.mark.parametrize("stored", FORMS, ids=str)
def test_blocks_hold_the_numbers_that_the_graph_has(stored: Stored) -> None:
    """Not one bit is another."""
    groups = stored.groups(37, 256, np.random.default_rng(0))
    matrix = keeping(parse(MATRIX), {"m": groups}).graph
    (dequantized,) = (op for op in matrix.ops if isinstance(op, Dequantize))
    weights = {f"m.{part}": data.load() for part, data in stored_parts(groups).items()}

    def evaluate(value: Value) -> Array:
        (array,) = interpret(
            Graph("part", (), matrix.ops, (value,), ("part",)).prune(), (), weights.__getitem__
        )
        return array

    format = format_of(dequantized.result)
    assert format is not None
    assert (format.bits, format.group) == (stored.bits, min(stored.group, 32))
    packed = format.pack(*parts_of(dequantized.result, evaluate))
    np.testing.assert_array_equal(unpacked(packed, format, 37), evaluate(dequantized.result))


def stored_parts(groups: StoredGroups) -> dict[str, WeightData]:
    """The weights that a matrix in groups becomes, by the ends of their names."""
    parts = {groups.form: groups.codes, "scale": groups.scale}
    more = {"zero": groups.zero, "shift": groups.shift}
    return parts | {name: data for name, data in more.items() if data is not None}


def keeping(graph: Graph, groups: dict[str, StoredGroups]) -> Quantized:
    """`graph` with the integers that the source has of its matrices."""

    def none(name: str) -> Array:
        raise AssertionError(f"{name} is not rounded")

    return quantize_weights(graph, Scheme("keep"), none, groups)


def kept(stored: Stored) -> Case:
    """A model with an embedding and products in the same form, not tied."""
    plain, rng = case(KEPT), np.random.default_rng(3)
    shapes = {"table": (50, 256), "a": (37, 256), "b": (256, 256), "c": (50, 256)}
    groups = {name: stored.groups(*shape, rng) for name, shape in shapes.items()}
    made = keeping(plain.graph, groups)
    assert sum(made.kept.values()) == 4
    return Case(
        made.graph,
        {**plain.weights, **{name: data.load() for name, data in made.weights.items()}},
    )


KEPT = """
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,50]) {
  %0 = weight {name = "table", type = f32[50,256]}
  %1 = embedding %0, %tokens
  %2 = weight {name = "a", type = f32[37,256]}
  %3 = weight {name = "b", type = f32[256,256]}
  %4 = weight {name = "odd", type = f32[256,37]}
  %5 = linear %1, %2
  %6 = linear %5, %4
  %7 = linear %1, %3
  %8 = add %6, %7
  %9 = weight {name = "c", type = f32[50,256]}
  %10 = linear %8, %9
  return %10
}"""


@pytest.mark.parametrize("stored", FORMS, ids=str)
@pytest.mark.parametrize("variant", [isa.name for isa in VARIANTS])
def test_kept_integers(
    stored: Stored, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the interpreter of the IR computes with them; x of prefill may be rounded to bf16."""
    isa = next(isa for isa in VARIANTS if isa.name == variant)
    if not cpu_features().issuperset(isa.needs):
        pytest.skip(f"this CPU has not {', '.join(isa.needs)}")
    # A model of f32 has no variant that rounds x to bf16: here it is to have one.
    monkeypatch.setattr(NativePlan, "variants", VARIANTS)
    made = kept(stored)
    assert not made.plan.reasons
    tokens = np.random.default_rng(1).integers(0, 50, (2, 7))
    expected, _ = made.reference(tokens, 0, {})
    with executors(made, tmp_path, 2, variant) as ran:
        found, state = ran["prefill"].run(tokens, None)
        several, _ = ran["decode"].run(tokens, decoding(state))
    largest = np.abs(expected).max()
    tolerance = 2e-4 if isa.byte_dots else 2e-5
    assert np.abs(several - expected).max() < tolerance * largest
    tolerance = 2e-3 if isa.dots else tolerance
    assert np.abs(found - expected[:, -1:]).max() < tolerance * largest


@pytest.mark.parametrize("stored", FORMS, ids=str)
def test_kept_integers_are_packed_at_their_bits(stored: Stored) -> None:
    """And a table that no product reads is no part of what a token streams."""
    made = kept(stored)
    group = min(stored.group, 32)
    number = 16 if stored.numbers is F16 else 32
    more = {"": 0, "zero": 16, "shift": number}[stored.offset]
    bits = stored.bits + (number + more) / group
    rows = 48 + 256 + 64
    table = 64 * 256 * bits / 8
    packed = len(made.files["native/weights.bin"])
    assert made.plan.matrix_bytes == rows * 256 * bits / 8 + 256 * 37 * 4
    assert made.plan.matrix_bytes + table <= packed <= made.plan.matrix_bytes + table + 4096 + 1024


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
