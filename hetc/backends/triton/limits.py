"""What a multiprocessor of each CUDA architecture has, and whether a compiled kernel fits into it.

From NVIDIA's CUDA programming guide, 5.1 "Compute Capabilities", tables 30 and 31; tensor memory
from the PTX manual, "Tensor Memory" (512 columns).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hetc.errors import BackendError

_KIB = 1024
_WARP = 32
# Registers are given to a warp in pieces of 256.
_REGISTER_PIECE = 256


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor: shared memory in bytes, of it what a block may have and what the
    system keeps of every block; resident warps and blocks; registers; columns of tensor memory."""

    shared_bytes: int
    block_shared_bytes: int
    kept_shared_bytes: int
    warps: int
    blocks: int
    tmem_columns: int = 0
    registers: int = 64 * _KIB
    thread_registers: int = 255

    def resident(self, warps: int, registers: int, shared_bytes: int, tmem_columns: int = 0) -> int:
        """Blocks of so many warps, of so many registers a thread, that run at the same time."""
        pieces = -(-registers * _WARP // _REGISTER_PIECE)
        counts = [
            self.blocks,
            self.warps // warps,
            self.registers // (max(1, pieces) * _REGISTER_PIECE * warps),
            self.shared_bytes // (shared_bytes + self.kept_shared_bytes or 1),
        ]
        if tmem_columns:
            counts.append(self.tmem_columns // tmem_columns)
        return min(counts)


def _limits(shared_kib: int, warps: int, blocks: int, tmem_columns: int = 0) -> Limits:
    """A block may have all of the shared memory but the KiB that is kept of each block."""
    return Limits(
        shared_bytes=shared_kib * _KIB,
        block_shared_bytes=(shared_kib - 1) * _KIB,
        kept_shared_bytes=_KIB,
        warps=warps,
        blocks=blocks,
        tmem_columns=tmem_columns,
    )


_OF_ARCH = {
    80: _limits(164, warps=64, blocks=32),
    86: _limits(100, warps=48, blocks=16),
    87: _limits(164, warps=48, blocks=16),
    89: _limits(100, warps=48, blocks=24),
    90: _limits(228, warps=64, blocks=32),
    100: _limits(228, warps=64, blocks=32, tmem_columns=512),
    103: _limits(228, warps=64, blocks=32, tmem_columns=512),
    110: _limits(228, warps=48, blocks=24, tmem_columns=512),
    120: _limits(100, warps=48, blocks=24),
    121: _limits(100, warps=48, blocks=24),
}


def arch_number(arch: str) -> int:
    """`sm_90` -> 90; BackendError HETC-E073 for an architecture that is not known here."""
    found = re.fullmatch(r"sm_(\d+)", arch)
    if found is None or int(found[1]) not in _OF_ARCH:
        raise BackendError(
            "HETC-E073",
            "kernels cannot be compiled for this architecture",
            expected=", ".join(f"sm_{number}" for number in _OF_ARCH),
            found=arch or "none: the target file says no arch",
            do="choose another target, or correct arch in its file",
        )
    return int(found[1])


def limits_of(arch: str) -> Limits:
    """The limits of `sm_90`; BackendError HETC-E073 where they are not known."""
    return _OF_ARCH[arch_number(arch)]


def why_refused(
    limits: Limits,
    *,
    shared_bytes: int,
    spill_bytes: int,
    tmem_columns: int,
    scratch_bytes: int,
) -> str:
    """Why a compiled kernel is not launched; empty for one that is.

    `spill_bytes` of a thread are those spilled in a loop: what spills once is slower and no more,
    which the cost model prices.
    """
    if spill_bytes:
        return f"it spills {spill_bytes} bytes of every thread's registers, in a loop"
    if shared_bytes > limits.block_shared_bytes:
        return (
            f"it needs {shared_bytes} bytes of shared memory, and a block has "
            f"{limits.block_shared_bytes}"
        )
    if tmem_columns > limits.tmem_columns:
        return f"it needs {tmem_columns} columns of tensor memory of {limits.tmem_columns}"
    if scratch_bytes:
        return f"it needs {scratch_bytes} bytes of scratch memory, which a plan does not place"
    return ""
