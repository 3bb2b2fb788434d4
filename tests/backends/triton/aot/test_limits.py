"""What fits on a multiprocessor."""

from __future__ import annotations

import pytest

from hetc import targets
from hetc.backends.triton.limits import limits_of, why_refused
from hetc.errors import BackendError
from tests.golden import Golden

FITS = {"shared_bytes": 0, "spill_bytes": 0, "tmem_columns": 0, "scratch_bytes": 0}


@pytest.mark.parametrize(
    ("arch", "kib"),
    [("sm_80", 163), ("sm_86", 99), ("sm_89", 99), ("sm_90", 227), ("sm_100", 227), ("sm_120", 99)],
)
def test_shared_memory_of_a_block(arch: str, kib: int) -> None:
    limits = limits_of(arch)
    assert why_refused(limits, **FITS | {"shared_bytes": kib * 1024}) == ""
    assert "shared memory" in why_refused(limits, **FITS | {"shared_bytes": kib * 1024 + 1})


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ({"spill_bytes": 8}, "spills 8 bytes"),
        ({"tmem_columns": 1}, "tensor memory of 0"),
        ({"scratch_bytes": 384}, "scratch memory"),
    ],
)
def test_what_is_refused(taken: dict[str, int], said: str) -> None:
    assert said in why_refused(limits_of("sm_90"), **FITS | taken)
    assert why_refused(limits_of("sm_100"), **FITS | {"tmem_columns": 512}) == ""


@pytest.mark.parametrize(
    ("warps", "registers", "shared_bytes", "blocks"),
    [
        # Registers of a warp come in pieces of 256: 40 warps of 51 of them, 64 of 32.
        (4, 51, 0, 9),
        (4, 32, 0, 16),
        (8, 168, 0, 1),
        (8, 128, 0, 2),
        (4, 255, 0, 2),
        # Nothing but the number of blocks holds.
        (1, 16, 0, 32),
        # 228 KiB, and one of each block is kept.
        (4, 64, 75 * 1024, 3),
        (4, 64, 76 * 1024, 2),
        (4, 64, 228 * 1024, 0),
    ],
)
def test_resident_blocks(warps: int, registers: int, shared_bytes: int, blocks: int) -> None:
    assert limits_of("sm_90").resident(warps, registers, shared_bytes) == blocks


def test_tensor_memory_is_shared_by_blocks() -> None:
    assert limits_of("sm_100").resident(4, 64, 0, tmem_columns=256) == 2


def test_gpus_that_come_with_hetc_are_known() -> None:
    for name in targets.names():
        device = targets.load(name).device if name != "host" else None
        if device is not None and device.kind == "gpu":
            assert limits_of(device.arch).block_shared_bytes


def test_other_architectures_are_refused(golden: Golden) -> None:
    told = []
    for arch in ("sm_75", "gfx942", ""):
        with pytest.raises(BackendError) as caught:
            limits_of(arch)
        told.append(caught.value.render())
    golden("arches", "\n\n".join(told))
