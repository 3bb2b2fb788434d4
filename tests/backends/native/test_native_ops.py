"""Every form of every op against the interpreter, at sizes that fill no vector evenly."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.backends.native.isa import VARIANTS
from hetc.runtime.native.cpu import cpu_features
from tests.backends.native.running import Case, case, decoding, executors, largest_error

UNARY = (
    *("neg", "abs", "exp", "relu", "sigmoid", "silu", "gelu", "tanh", "softplus"),
    *("sqrt", "rsqrt", "reciprocal", "floor", "round", "erf", "log"),
)
POSITIVE = {"sqrt", "rsqrt", "reciprocal", "log"}
BINARY = ("add", "sub", "mul", "maximum", "minimum")


def model(body: str, width: int, last: str = "%x", out: int = 0) -> str:
    """A decode graph without state whose `body` works on `%h`, embedded tokens [B,T,width]."""
    return f"""
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,{out or width}]) {{
  %table = weight {{name = "table", type = f32[50,{width}]}}
  %h = embedding %table, %tokens
  {body}
  return {last}
}}"""


def weight(name: str, *shape: int, dtype: str = "f32") -> str:
    sizes = ",".join(map(str, shape))
    return f'%{name} = weight {{name = "{name}", type = {dtype}[{sizes}]}}\n  '


def check(made: Case, folder: Path, tolerance: float = 1e-5, *, variant: str | None = None) -> None:
    """Prefill and decode, on 1 to 3 threads and with several sequences."""
    rng = np.random.default_rng(1)
    for threads in (1, 2, 3):
        with executors(made, folder, threads, variant) as ran:
            for batch, steps in ((1, [4, 1, 1]), (3, [7, 1, 5])):
                tokens = rng.integers(0, 50, (batch, sum(steps)))
                assert largest_error(made, ran, tokens, steps) < tolerance


@pytest.mark.parametrize("width", [7, 16, 37])
def test_products_of_one_input(width: int, tmp_path: Path) -> None:
    """Two matrices that are packed as one, of which the first does not fill its tiles."""
    body = weight("a", 5, width) + weight("b", 37, width) + weight("bias", 37)
    body += """%p = linear %h, %a
  %q = linear %h, %b {bias = %bias}
  %c = weight {name = "c", type = f32[37,5]}
  %r = linear %p, %c
  %x = add %q, %r"""
    check(case(model(body, width, out=37)), tmp_path)


def in_f32(text: str, dtype: str) -> tuple[Case, Case]:
    """The model of `text` with weights of `dtype`, and the same numbers in f32."""
    made = case(text.replace("f32", dtype))
    wide = {name: array.astype(np.float32) for name, array in made.weights.items()}
    return made, Case(case(text).graph, wide)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("width", [9, 64])
def test_narrow_weights_are_summed_in_f32(dtype: str, width: int, tmp_path: Path) -> None:
    text = model(weight("a", 19, width) + "%x = linear %h, %a", width, out=19)
    made, exact = in_f32(text, dtype)
    with executors(made, tmp_path, 2, "portable") as ran:
        tokens = np.arange(12).reshape(2, 6)
        found, state = ran["prefill"].run(tokens, None)
        several, _ = ran["decode"].run(tokens, decoding(state))
    expected, _ = exact.reference(tokens, 0, {})
    assert np.abs(found - expected[:, -1:]).max() < 1e-5
    assert np.abs(several - expected).max() < 1e-5


@pytest.mark.parametrize("variant", ["avx512bf16", "avx512", "avx2", "portable"])
@pytest.mark.parametrize("width", [9, 64, 71])
def test_variants(variant: str, width: int, tmp_path: Path) -> None:
    """Text for other instruction sets is right too; where x is rounded to bf16, up to that."""
    isa = next(isa for isa in VARIANTS if isa.name == variant)
    if not cpu_features().issuperset(isa.needs):
        pytest.skip(f"this CPU has not {', '.join(isa.needs)}")
    body = weight("a", 67, width) + weight("b", width, 67)
    body += "%p = linear %h, %a\n  %q = silu %p\n  %r = linear %q, %b\n  %x = add %h, %r"
    made, exact = in_f32(model(body, width), "bf16")
    tokens = np.arange(45).reshape(1, 45)
    expected, _ = exact.reference(tokens, 0, {})
    for threads in (1, 3):
        with executors(made, tmp_path, threads, variant) as ran:
            found, _ = ran["prefill"].run(tokens, None)
        error = np.abs(found - expected[:, -1:]).max() / np.abs(expected).max()
        assert error < (4e-3 if isa.dots else 1e-6)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_an_embedding_that_shares_its_table_with_the_logits(dtype: str, tmp_path: Path) -> None:
    text = model("%x = linear %h, %table", 21, out=50)
    made, exact = in_f32(text, dtype)
    assert len(made.files["native/weights.bin"]) < 50 * 21 * 4 + 16384
    with executors(made, tmp_path, 2, "portable") as ran:
        tokens = np.arange(40, 50).reshape(1, 10)
        found, _ = ran["prefill"].run(tokens, None)
    assert np.abs(found - exact.reference(tokens, 0, {})[0][:, -1:]).max() < 2e-5


def test_elementwise_functions(tmp_path: Path) -> None:
    """All in one graph, each as a part of the sum, so that it is compiled once."""
    body = "%positive = abs %h\n  %base = add %positive, 0.25\n  %sum0 = mul %h, 0.5\n  "
    for number, name in enumerate(UNARY):
        operand = "%base" if name in POSITIVE else "%h"
        body += f"%u{number} = {name} {operand}\n  "
        body += f"%sum{number + 1} = add %sum{number}, %u{number}\n  "
    check(case(model(body, 19, f"%sum{len(UNARY)}")), tmp_path, 3e-5)


@given(
    st.lists(
        st.tuples(st.sampled_from(BINARY), st.integers(0, 3), st.integers(0, 4)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 35),
)
@settings(max_examples=8)
def test_chains_of_elementwise_ops(chain: list[tuple[str, int, int]], width: int) -> None:
    """Operands are earlier results, literals, rows that broadcast, and columns that do."""
    body = weight("row", width) + "%v0 = tanh %h\n  %v1 = mul %h, 0.5\n  "
    body += "%v2 = slice %h {axis = 2, stop = 1}\n  "
    count = 3
    for name, left, right in chain:
        operands = ("%row", "%v2", "1.5")
        x = f"%v{(count - 1) if left == 0 else (left - 1) % 2}"
        y = operands[right] if right < 3 else f"%v{(count - 1) if right == 3 else 0}"
        x = "%v0" if x == "%v2" else x
        body += f"%v{count} = {name} {x}, {y}\n  "
        count += 1
    with tempfile.TemporaryDirectory() as folder:
        check(case(model(body, width, f"%v{count - 1}")), Path(folder))


@pytest.mark.parametrize("width", [8, 33])
def test_norms_and_gates(width: int, tmp_path: Path) -> None:
    body = weight("scale", width) + weight("shift", width)
    body += """%a = rms_norm %h {weight = %scale, eps = 1e-5, offset = 1.0}
  %b = layer_norm %a {weight = %scale, bias = %shift}
  %c = rms_norm %b
  %d = layer_norm %h
  %e = gated %c, %d {activation = "gelu_tanh"}
  %f = gated %b, %e {activation = "gelu"}
  %g = gated %f, %h {activation = "sigmoid"}
  %x = gated %g, %a"""
    check(case(model(body, width)), tmp_path)


def test_views(tmp_path: Path) -> None:
    """Heads, halves and single columns of a product, without moving them; and one copy."""
    body = """%s = reshape %h {shape = [B, T, 6, 5]}
  %t = transpose %s {perm = [0, 2, 1, 3]}
  %ids = constant {data = [0, 2, 4], dtype = i64}
  %even = gather %t, %ids {axis = 1}
  %odd = slice %t {axis = 1, start = 1, stop = 6, step = 2}
  %u = mul %even, %odd
  %v = transpose %u {perm = [0, 2, 1, 3]}
  %w = reshape %v {shape = [B, T, 15]}
  %p, %q = split %h {axis = 2, sizes = [15, 15]}
  %y = sub %p, %q
  %z = add %w, %y
  %n = reshape %z {shape = [B, T, 3, 5]}
  %m = transpose %n {perm = [0, 1, 3, 2]}
  %x = reshape %m {shape = [B, T, 15]}"""
    check(case(model(body, 30, out=15)), tmp_path)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("width", "rotated"), [(10, 10), (40, 36), (12, 4)])
def test_rotary_embedding(width: int, rotated: int, interleaved: bool, tmp_path: Path) -> None:
    """The tables depend on positions, and are made when the weights are packed."""
    mode = "{interleaved}" if interleaved else ""
    body = f"""%i = iota {{size = T, start = P}}
  %p = reshape %i {{shape = [1, T, 1]}}
  %f = cast %p
  %frequency = weight {{name = "frequency", type = f32[{rotated}]}}
  %angle = mul %f, %frequency
  %c = cos %angle
  %s = sin %angle
  %cos = reshape %c {{shape = [1, 1, T, {rotated}]}}
  %sin = reshape %s {{shape = [1, 1, T, {rotated}]}}
  %a = reshape %h {{shape = [B, T, 3, {width}]}}
  %b = transpose %a {{perm = [0, 2, 1, 3]}}
  %r = rope %b, %cos, %sin {mode}
  %d = transpose %r {{perm = [0, 2, 1, 3]}}
  %x = reshape %d {{shape = [B, T, {3 * width}]}}"""
    check(case(model(body, 3 * width)), tmp_path)


def test_a_residual_that_a_loop_carries(tmp_path: Path) -> None:
    """Equal layers are one loop, whether the last op may write in place or must not."""
    for last in ("%2 = add %x, %1", "%2 = mul %1, 0.5", "%2 = transpose %1 {perm = [0, 1, 2]}"):
        text = f"""
graph @layer(%x: f32[B,T,19], %w: f32[19,19]) -> (f32[B,T,19]) {{
  %0 = linear %x, %w
  %1 = tanh %0
  {last}
  return %2
}}

graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,19]) {{
  %0 = weight {{name = "t", type = f32[50,19]}}
  %1 = embedding %0, %tokens
  %2 = weight {{name = "a", type = f32[19,19]}}
  %3 = call @layer(%1, %2)
  %4 = weight {{name = "b", type = f32[19,19]}}
  %5 = call @layer(%3, %4)
  %6 = weight {{name = "c", type = f32[19,19]}}
  %7 = call @layer(%5, %6)
  %8 = add %7, %7
  return %8
}}"""
        check(case(text), tmp_path)
