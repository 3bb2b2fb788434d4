"""Names and counts in, aggregates out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.errors import TargetError
from hetc.targets.dtypes import DTYPES, widening


def test_tensor_parallel_totals() -> None:
    one, four = targets.load("h200"), targets.load("h200:4")
    assert (one.count, one.name, four.count, four.name) == (1, "h200", 4, "h200:4")
    assert four.capacity_bytes() == 4 * one.capacity_bytes()
    assert four.bandwidth() == pytest.approx(4 * 4.8e12 * 0.8)
    assert four.rate("bf16") == pytest.approx(4 * 989e12 * 0.6)
    assert four.rate("f8") == pytest.approx(4 * 1979e12 * 0.6)
    b200 = targets.load("b200")
    assert b200.rate("f8") == pytest.approx(4500e12 * 0.5), "fp8 has a fraction of its own"
    assert four.ridge("bf16") == pytest.approx(one.ridge("bf16"))
    assert one.fits(141e9)
    assert not one.fits(141e9 + 1)
    assert four.fits(4 * 141e9)


def test_all_reduce_takes_the_cheaper_algorithm() -> None:
    machine = targets.load("grid-8x8:4")  # 10 GB/s, 1 us, 2 us fixed
    assert targets.load("grid-8x8").all_reduce_us(1e9) == 0.0
    # 10 kB are 1 us of wire: three times at once, or 1.5 times and one more latency.
    assert machine.all_reduce_us(1_000) == pytest.approx(2.0 + 0.3)
    assert machine.all_reduce_us(10_000) == pytest.approx(2.0 + 1.5 + 1.0)


@given(st.integers(2, 64), st.floats(0, 1e9))
def test_all_reduce_never_beats_the_wire_and_grows_with_bytes(count: int, nbytes: float) -> None:
    machine = targets.Target(targets.load("grid-8x8").device, count)
    wire_us = 2 * (count - 1) / count * nbytes / 10e9 * 1e6
    assert machine.all_reduce_us(nbytes) >= min(wire_us, (count - 1) * nbytes / 1e4) + 2.0 - 1e-9
    assert machine.all_reduce_us(2 * nbytes) >= machine.all_reduce_us(nbytes)


def test_narrow_formats_are_computed_in_the_next_wider_one() -> None:
    a100, plasticine, b200 = (
        targets.load(name).device for name in ("a100-80", "plasticine", "b200")
    )
    assert [a100.compute_dtype(name) for name in ("f8", "i8", "i4", "f16", "f32")] == [
        *("bf16", "i8", "i8", "f16", "f32")
    ]
    assert plasticine.compute_dtype("bf16") == "f32"
    assert b200.rate("fp4").value == 9000e12
    assert b200.rate("float16") == b200.rate("f16")


def test_widening_always_ends_at_f32() -> None:
    for dtype in DTYPES:
        chain = widening(dtype)
        assert chain[0] == dtype
        assert chain[-1] == "f32"
        assert len(set(chain)) == len(chain)


def test_constants_left_out_cost_nothing() -> None:
    device = targets.load("h100").device
    assert device.constant("launch_us") == 4.0
    assert device.constant("section_launch_us") == 0.0


def test_a_calibration_replaces_its_constants_and_nothing_else() -> None:
    plain = targets.load("sn40l:8")
    fitted = plain.calibrate("sambaflow")
    changed = fitted.device.calibrations["sambaflow"].constants
    assert (plain.device.calibrated, fitted.device.calibrated) == ("", "sambaflow")
    assert 1 <= len(changed) <= 2
    for name in plain.device.constants:
        same = fitted.device.constant(name) == plain.device.constant(name)
        assert same == (name not in changed)
    assert fitted.sha256 != plain.sha256
    with pytest.raises(TargetError, match="HETC-T014") as caught:
        plain.calibrate("vllm")
    assert caught.value.expected == "sambaflow"


def test_digest_is_stable_and_covers_every_number() -> None:
    # Changing a shipped number is allowed, and must be seen: renew the digest with the change.
    assert targets.load("grid-8x8").sha256 == GRID_SHA256
    assert targets.load("grid-8x8").sha256 == targets.load("grid-8x8:1").sha256
    digests = [targets.load(name).sha256 for name in targets.names() if name != "host"]
    digests += [targets.load("h200:4").sha256, targets.load("h200:8").sha256]
    assert len(set(digests)) == len(digests)
    assert len({targets.load("h200"), targets.load("h200")}) == 1, "equal targets hash alike"


GRID_SHA256 = "8044208500280ec9e41925c32918a86882a09edd27d9ef265c206fbfe1239a81"


@pytest.mark.parametrize(
    ("name", "shows"),
    [
        ("h20", "h200"),
        ("sn40", "sn40l"),
        ("worm-hole:4", "wormhole"),
        ("H100", "h100"),
        ("", "a100-40"),
    ],
)
def test_unknown_names_suggest_known_ones(name: str, shows: str) -> None:
    with pytest.raises(TargetError) as caught:
        targets.load(name)
    assert caught.value.code == "HETC-T001"
    assert shows in caught.value.expected


@pytest.mark.parametrize(
    "name", ["h200:0", "h200:-1", "h200:", "h200:x", "h200:1.5", "h200:²", "h200:" + "9" * 5000]
)
def test_bad_counts(name: str) -> None:
    with pytest.raises(TargetError) as caught:
        targets.load(name)
    assert caught.value.code == "HETC-T010"


def test_a_device_without_siblings_cannot_be_several() -> None:
    with pytest.raises(TargetError, match=r"HETC-T010.*cannot be one of several"):
        targets.load("plasticine:2")


@pytest.mark.parametrize("link", ["pcie9", "0", "-3", "nan", "inf", ""])
def test_bad_links(link: str) -> None:
    with pytest.raises(TargetError) as caught:
        targets.load_link(link)
    assert caught.value.code == "HETC-T011"


def test_unknown_dtype_and_memory() -> None:
    with pytest.raises(TargetError, match="HETC-T012"):
        targets.load("h200").rate("f13")
    with pytest.raises(TargetError, match="HETC-T009"):
        targets.load("h200").capacity_bytes("tape")
