"""bf16 in 12 bits: every number, every sum and every logit is the one of plain bf16, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hetc.backends.native.coded import Coded
from hetc.backends.native.isa import VARIANTS
from hetc.ir.types import BF16, Array
from hetc.runtime.native.cpu import cpu_features
from tests.backends.native.running import Case, case, decoding, executors, two_products

# Outputs that fill no tile, K in one chunk and in several.
MODEL = two_products("bf16", 1160)


def bits(words: Array) -> Array:
    """u16 as the bf16 that they are the bits of."""
    return words.astype(np.uint16).view(BF16.numpy)


def normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(BF16.numpy)


def decoded(packed: Array, coded: Coded, outputs: int) -> Array:
    """The bits u16 of the numbers in tiles, one by one."""
    found = np.zeros((len(packed) * 16, coded.inner), np.uint16)
    for tile, lane, k in np.ndindex(len(packed), 16, coded.inner):
        chunk, step = divmod(k, coded.chunk)
        bytes = packed[tile][chunk * coded.chunk_bytes :][: coded.chunk_bytes]
        block, step = divmod(step, 8)
        block_bytes = bytes[64 + 192 * block :][:192]
        place = 16 * (lane // 4) + 8 * (step % 4 // 2) + 2 * (lane % 4) + step % 2
        code = block_bytes[place] >> 4 * (step // 4) & 15
        low = block_bytes[64 + 64 * (step // 4) + place]
        upper = bytes[code]
        if code == 15:
            upper, low = bytes[16 + low], bytes[32 + low]
        found[16 * tile + lane, k] = int(upper) << 8 | int(low)
    return found[:outputs]


def adversarial(shape: tuple[int, int]) -> dict[str, Array]:
    """Weights with zeros of both signs, denormals, extremes, and other numbers at every place."""
    rng = np.random.default_rng(1)
    plain = normal(shape).view(np.uint16)
    zeros = np.where(rng.random(shape) < 0.3, rng.integers(0, 2, shape) << 15, plain)
    others = plain.copy()
    others[rng.random(shape) < 0.01] = 0x0101
    for value in (0, 1, 0x8001, 0x7F7F, 0xFF7F, 0x0080, 0x8000, 0x3FFF, 0x4000, 0x7F80, 0xFFC1):
        others[rng.integers(shape[0]), rng.integers(shape[1])] = value
    wide = rng.integers(100, 107, shape) << 7 | rng.integers(0, 128, shape)
    return {
        "normal": plain,
        "zeros": zeros,
        "only zeros": np.zeros(shape),
        "others": others,
        "wide": wide | rng.integers(0, 2, shape) << 15,
    }


@pytest.mark.parametrize("shape", [(16, 520), (37, 64), (33, 1160)])
@pytest.mark.parametrize("name", adversarial((16, 16)))
def test_every_number_is_the_same(name: str, shape: tuple[int, int]) -> None:
    """Zeros keep their sign, and infinity and NaN their bits."""
    coded = Coded.of(shape[1])
    assert coded is not None
    words = adversarial(shape)[name].astype(np.uint16)
    matrix = bits(words)
    assert coded.fits(matrix)
    packed = coded.pack(matrix)
    assert packed.shape == (-(-shape[0] // 16), coded.tile_bytes)
    np.testing.assert_array_equal(decoded(packed, coded, shape[0]), words)


def test_what_does_not_fit() -> None:
    """Beside 15 upper bytes, 16 others fit and 17 do not; K is of whole blocks, of two or more."""
    coded = Coded.of(64)
    assert coded is not None
    words = np.zeros((16, 64), np.uint16)
    words[:, :15] = 256 * np.arange(1, 16)
    words[:, 15:] = 256
    words[3, 20:36] = 256 * np.arange(16, 32)
    assert coded.fits(bits(words))
    words[5, 40] = 256 * 31 + 1
    assert not coded.fits(bits(words))
    words[5, 40] = 256 * 31
    assert coded.fits(bits(words))
    assert Coded.of(37) is None
    assert Coded.of(8) is None
    assert Coded.of(16) == Coded(16, 16)
    assert Coded.of(1160) == Coded(1160, 232)


def both(weights: dict[str, Array]) -> tuple[Case, Case]:
    """The model with its matrices in 12 bits where they fit, and as plain bf16."""
    graph = case(MODEL).graph
    return Case(graph, weights), Case(graph, weights, lossless=False)


def weights_with(name: str) -> dict[str, Array]:
    """Those of the model; its matrices have what `name` says."""
    made = dict(case(MODEL).weights)
    for place, (key, array) in enumerate(made.items()):
        made[key] = normal(array.shape, place)
        if key in ("table", "a", "c"):
            words = adversarial((array.shape[0], array.shape[1]))[name].astype(np.uint16)
            # Sums shall stay finite, so that equal ones say something.
            made[key] = bits(np.where(words & 0x7FFF > 0x4600, 0x3FFF, words))
    return made


@pytest.mark.parametrize("name", ["normal", "zeros", "others"])
@pytest.mark.parametrize("variant", [isa.name for isa in VARIANTS if "neon" not in isa.name])
def test_logits_are_the_same(name: str, variant: str, tmp_path: Path) -> None:
    """In prefill and in decode, for one row and for several, with one thread and with three."""
    isa = next(isa for isa in VARIANTS if isa.name == variant)
    if not cpu_features().issuperset(isa.needs):
        pytest.skip(f"this CPU has not {', '.join(isa.needs)}")
    coded, plain = both(weights_with(name))
    if isa not in plain.plan.variants:
        pytest.skip("its text is that of another variant")
    assert coded.plan.matrix_bytes < 0.8 * plain.plan.matrix_bytes
    # The one with K = 37; and all five.
    assert (coded.plan.uncoded_matrices, plain.plan.uncoded_matrices) == (1, 5)
    rng = np.random.default_rng(2)
    for batch, count, threads in ((1, 1, 1), (3, 5, 2), (1, 43, 3)):
        tokens = rng.integers(0, 50, (batch, count))
        found = []
        for place, made in enumerate((coded, plain)):
            folder = tmp_path / f"{place}.{threads}"
            folder.mkdir()
            with executors(made, folder, threads, variant) as ran:
                first, state = ran["prefill"].run(tokens, None)
                several, _ = ran["decode"].run(tokens, decoding(state))
                found.append((first.copy(), several.copy()))
        assert np.isfinite(found[0][1]).all()
        assert np.abs(found[0][1]).max() > 0
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_a_matrix_that_does_not_fit_stays_as_it_is(tmp_path: Path) -> None:
    """And others beside it are coded."""
    weights = weights_with("normal")
    weights["c"] = bits(np.arange(weights["c"].size).reshape(weights["c"].shape) % 2**14)
    coded, plain = both(weights)
    saved = plain.plan.matrix_bytes - coded.plan.matrix_bytes
    assert 0 < saved < plain.plan.matrix_bytes / 4
    tokens = np.random.default_rng(2).integers(0, 50, (1, 4))
    expected, _ = coded.reference(tokens, 0, {})
    with executors(coded, tmp_path, 2) as ran:
        found, _ = ran["prefill"].run(tokens, None)
    assert np.abs(found - expected[:, -1:]).max() < 2e-2 * np.abs(expected).max()


def test_without_weights_nothing_is_coded() -> None:
    """What fits is not known then."""
    made = case(MODEL)
    unknown = replace(made.plan, weights=None)
    assert unknown.matrix_bytes == both(dict(made.weights))[1].plan.matrix_bytes
