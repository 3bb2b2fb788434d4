"""Attention over the KV state, with everything that the op may add to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.backends.native.isa import VARIANTS
from hetc.ir.types import Array
from hetc.runtime.native.cpu import cpu_features
from tests.backends.native.running import Case, case, decoding, executors, largest_error


def model(
    *, heads: int, groups: int, width: int, options: str, dtype: str = "f32", value_width: int = 0
) -> str:
    """One attention between an embedding and its logits."""
    deep = value_width or width
    keys, values = f"[B,{groups},P,{width}]", f"[B,{groups},P,{deep}]"
    out = heads * deep
    return f"""
graph @decode(%tokens: i64[B,T], %past: i64[], %key: f32{keys}, %value: f32{values}) ->
    (logits: f32[B,T,{out}], key.out: f32[B,{groups},P+T,{width}],
     value.out: f32[B,{groups},P+T,{deep}]) {{
  %0 = weight {{name = "tq", type = f32[50,{heads * width}]}}
  %1 = embedding %0, %tokens
  %2 = reshape %1 {{shape = [B, T, {heads}, {width}]}}
  %3 = transpose %2 {{perm = [0, 2, 1, 3]}}
  %4 = weight {{name = "tk", type = f32[50,{groups * width}]}}
  %5 = embedding %4, %tokens
  %6 = reshape %5 {{shape = [B, T, {groups}, {width}]}}
  %7 = transpose %6 {{perm = [0, 2, 1, 3]}}
  %8 = weight {{name = "tv", type = f32[50,{groups * deep}]}}
  %9 = embedding %8, %tokens
  %10 = reshape %9 {{shape = [B, T, {groups}, {deep}]}}
  %11 = transpose %10 {{perm = [0, 2, 1, 3]}}
  %12 = kv_append %key, %7 {{axis = 2}}
  %13 = kv_append %value, %11 {{axis = 2}}
  %14 = weight {{name = "per_head", type = f32[{heads}]}}
  %15 = attention %3, %12, %13 {{{options}}}
  %16 = transpose %15 {{perm = [0, 2, 1, 3]}}
  %17 = reshape %16 {{shape = [B, T, {out}]}}
  return %17, %12, %13
}}""".replace("f32", dtype)


BF16_DOTS = next(isa for isa in VARIANTS if isa.dots)
SHAPES = [(1, 1, 5), (6, 2, 8), (4, 4, 20), (9, 3, 64), (14, 1, 16)]
OPTIONS = [
    "scale = 0.5, causal",
    "scale = 0.3, causal, window = 5",
    "softcap = 2.0, causal",
    "sinks = %14, causal",
    "slopes = %14, causal",
    "causal, chunk = 6",
    "scale = 0.5",
    "sinks = %14, softcap = 3.0, scale = 0.2, causal, window = 40",
]


def cases() -> list[tuple[tuple[int, int, int], str]]:
    """Every option at one shape, and every shape with one option."""
    found = [((6, 2, 8), options) for options in OPTIONS]
    return found + [(shape, OPTIONS[0]) for shape in SHAPES if shape != (6, 2, 8)]


@pytest.mark.parametrize(("shape", "options"), cases())
def test_attention(shape: tuple[int, int, int], options: str, tmp_path: Path) -> None:
    """Across the edges of tiles (16 keys) and blocks (64), one token and several at a time."""
    heads, groups, width = shape
    made = case(model(heads=heads, groups=groups, width=width, options=options))
    rng = np.random.default_rng(2)
    for threads in (1, 2, 3):
        with executors(made, tmp_path, threads) as ran:
            for batch, steps in ((1, [15, 1, 1, 1]), (2, [61, 3, 1, 1, 2]), (3, [1, 1])):
                tokens = rng.integers(0, 50, (batch, sum(steps)))
                assert largest_error(made, ran, tokens, steps) < 1e-5


MASK = """%i = iota {size = T, start = P}
  %j = iota {size = P+T}
  %query = reshape %i {shape = [T, 1]}
  %key_at = reshape %j {shape = [1, P+T]}
  %behind = sub %query, %key_at
  %rest = mod %behind, 3
  %third = eq %rest, 0
  """
MASKS = {
    "bools": "%mask = reshape %third {shape = [1, 1, T, P+T]}",
    "addends": """%each = reshape %14 {shape = [1, 6, 1, 1]}
  %near = cast %behind
  %mask = mul %near, %each""",
    "hidden": "%mask = where %third, 0.5, -inf",
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("options", ["mask = %mask, causal", "mask = %mask, sinks = %14, causal"])
def test_masks_of_positions(name: str, options: str, tmp_path: Path) -> None:
    """Every third key, or a slope of each head, as a table: bools, or addends of some heads."""
    text = model(heads=6, groups=2, width=8, options=options)
    made = case(text.replace("  %15 =", f"  {MASK}{MASKS[name]}\n  %15 ="))
    rng = np.random.default_rng(2)
    for threads in (1, 3):
        with executors(made, tmp_path, threads) as ran:
            for batch, steps in ((1, [15, 1, 1, 1]), (2, [61, 3, 1, 1, 2])):
                tokens = rng.integers(0, 50, (batch, sum(steps)))
                assert largest_error(made, ran, tokens, steps) < 1e-5


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("width", [7, 8])
def test_narrow_states_hold_what_the_contract_says(dtype: str, width: int, tmp_path: Path) -> None:
    made = case(model(heads=4, groups=2, width=width, options="causal", dtype=dtype))
    tokens = np.random.default_rng(3).integers(0, 50, (2, 20))
    with executors(made, tmp_path, 2) as ran:
        # The interpreter rounds every result, the engine the state alone.
        assert largest_error(made, ran, tokens, [17, 1, 1, 1]) < 0.02


@pytest.mark.parametrize("options", OPTIONS)
def test_dot_products_of_many_queries(options: str, tmp_path: Path) -> None:
    """Across the edges of their blocks (128 keys) and of chunks (of 512 tokens in all)."""
    if not cpu_features().issuperset(BF16_DOTS.needs):
        pytest.skip(f"this CPU has not {', '.join(BF16_DOTS.needs)}")
    made = case(model(heads=6, groups=2, width=10, value_width=32, options=options, dtype="bf16"))
    assert BF16_DOTS.name in {variant.name for variant in made.plan.layout().variants}
    rng = np.random.default_rng(9)
    with executors(made, tmp_path, 2, BF16_DOTS.name) as ran:
        for batch, steps in ((1, [1, 1]), (2, [61, 3]), (3, [300, 1])):
            tokens = rng.integers(0, 50, (batch, sum(steps)))
            assert largest_error(made, ran, tokens, steps) < 0.02


def test_values_may_be_of_another_width(tmp_path: Path) -> None:
    made = case(model(heads=4, groups=2, width=6, options="causal", value_width=18))
    tokens = np.random.default_rng(4).integers(0, 50, (2, 20))
    with executors(made, tmp_path, 2) as ran:
        assert largest_error(made, ran, tokens, [17, 1, 2]) < 1e-5


def test_a_long_prompt_goes_in_chunks(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    tokens = np.random.default_rng(5).integers(0, 50, (8, 80))
    with executors(made, tmp_path, 2) as ran:
        assert largest_error(made, ran, tokens, [70, 10]) < 1e-5


def test_a_copied_state_goes_its_own_way(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    tokens = np.random.default_rng(6).integers(0, 50, (1, 12))
    with executors(made, tmp_path, 2) as ran:
        _, state = ran["prefill"].run(tokens[:, :8], None)
        state.owner = "decode"
        fork = state.copy()
        fork.owner = "decode"
        one, after = ran["decode"].run(tokens[:, 8:9], state)
        other, _ = ran["decode"].run(tokens[:, 9:10], fork)
        again, _ = ran["decode"].run(tokens[:, 9:10], after)
    assert np.abs(one - other).max() > 1e-3
    past = made.empty(1)
    _, past = made.reference(tokens[:, :8], 0, past)
    np.testing.assert_allclose(other, made.reference(tokens[:, 9:10], 8, past)[0], atol=1e-5)
    _, past = made.reference(tokens[:, 8:9], 8, past)
    np.testing.assert_allclose(again, made.reference(tokens[:, 9:10], 9, past)[0], atol=1e-5)


def test_a_state_outgrows_the_context_that_was_announced(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    tokens = np.random.default_rng(7).integers(0, 50, (1, 96))
    with executors(made, tmp_path, 1) as ran:
        ran["prefill"].bind(batch=1, context=4)
        assert largest_error(made, ran, tokens, [3, 50, 20, 23]) < 1e-5


@pytest.mark.parametrize("active", [1, 2])
def test_fewer_threads_compute_the_same_bits(active: int, tmp_path: Path) -> None:
    """Keys are shared out in as many parts as there could be threads, whoever walks them."""
    made = case(model(heads=6, groups=2, width=8, options="causal"))
    tokens = np.random.default_rng(8).integers(0, 50, (2, 90))
    found: list[Array] = []
    for used in (None, active):
        with executors(made, tmp_path, 3, active=used) as ran:
            assert largest_error(made, ran, tokens, [80, 1, 3, 1, 1]) < 1e-5
            _, state = ran["prefill"].run(tokens[:, :80], None)
            found.append(ran["decode"].run(tokens[:, 80:], decoding(state))[0])
    assert np.array_equal(found[0], found[1])


def of_rows(table: Array, width: int) -> Array:
    """Numbers of 8 bits with a scale for every `width` of them, and what they stand for."""
    rows = table.reshape(len(table), -1, width)
    scales = np.abs(rows).max(axis=-1, keepdims=True) / 127
    found: Array = (np.round(rows / scales) * scales).reshape(table.shape).astype(table.dtype)
    return found


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[1], OPTIONS[-1]])
@pytest.mark.parametrize("shape", [(6, 2, 8), (9, 3, 64), (4, 4, 20)])
def test_states_of_8_bits(shape: tuple[int, int, int], options: str, tmp_path: Path) -> None:
    """Keys and values are rows of tables: attention to tables of 8 bits is the same."""
    heads, groups, width = shape
    made = case(model(heads=heads, groups=groups, width=width, options=options))
    rounded = {name: of_rows(made.weights[name], width) for name in ("tk", "tv")}
    expected = Case(made.graph, {**made.weights, **rounded})
    stored = Case(made.graph, made.weights, "i8")
    rng = np.random.default_rng(9)
    for batch, steps, threads in ((1, [15, 1, 1, 1], 1), (2, [61, 3, 1, 1, 2], 2)):
        tokens = rng.integers(0, 50, (batch, sum(steps)))
        with executors(stored, tmp_path, threads) as ran:
            assert largest_error(expected, ran, tokens, steps) < 1e-5
            _, state = ran["prefill"].run(tokens, None)
            state.owner = "decode"
            # A copy goes through the contract's form; a longer one through that of a larger cache.
            copied, more = state.copy(), rng.integers(0, 50, (batch, 1))
            found, after = ran["decode"].run(more, state)
            copied.owner = "decode"
            again, _ = ran["decode"].run(more, copied)
            np.testing.assert_allclose(again, found, atol=1e-5)
            assert after.dtype("key") == "f32"


def test_a_gate_of_the_last_token_does_not_narrow_its_neighbours(tmp_path: Path) -> None:
    """Only logits read the gate, and its matrix is multiplied together with those of keys and
    values, which state needs of every token."""
    made = case("""
graph @decode(%tokens: i64[B,T], %past: i64[], %k: f32[B,2,P,8], %v: f32[B,2,P,8]) ->
  (logits: f32[B,T,32], k.out: f32[B,2,P+T,8], v.out: f32[B,2,P+T,8]) {
  %t = weight {name = "table", type = f32[50,32]}
  %h = embedding %t, %tokens
  %wg = weight {name = "wg", type = f32[4,32]}
  %wk = weight {name = "wk", type = f32[16,32]}
  %wv = weight {name = "wv", type = f32[16,32]}
  %wq = weight {name = "wq", type = f32[32,32]}
  %g = linear %h, %wg
  %g4 = reshape %g {shape = [B,T,4,1]}
  %n = linear %h, %wk
  %n4 = reshape %n {shape = [B,T,2,8]}
  %nt = transpose %n4 {perm = [0,2,1,3]}
  %keys = kv_append %k, %nt {axis = 2}
  %m = linear %h, %wv
  %m4 = reshape %m {shape = [B,T,2,8]}
  %mt = transpose %m4 {perm = [0,2,1,3]}
  %values = kv_append %v, %mt {axis = 2}
  %q = linear %h, %wq
  %q4 = reshape %q {shape = [B,T,4,8]}
  %qt = transpose %q4 {perm = [0,2,1,3]}
  %a = attention %qt, %keys, %values {scale = 0.35, causal}
  %at = transpose %a {perm = [0,2,1,3]}
  %r = mul %at, %g4
  %o = reshape %r {shape = [B,T,32]}
  return %o, %keys, %values
}""")
    with executors(made, tmp_path, 1) as ran:
        tokens = np.random.default_rng(0).integers(0, 50, (2, 6))
        assert largest_error(made, ran, tokens, [4, 1, 1]) < 3e-5
