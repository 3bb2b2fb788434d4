"""Row kernels, routing and grouped products of real sizes become cubins that spill nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hetc.backends.triton import expert_linear, row_kernel
from hetc.backends.triton.compile import Job, compile_kernels
from hetc.backends.triton.expert_linear import ExpertLinearSpec
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import limits_of
from hetc.backends.triton.linear import Quantized
from hetc.backends.triton.routing import SortSpec, TopKSpec, sort_kernels, top_k_kernel
from hetc.backends.triton.row_expressions import apply, rms_norm, rotary
from hetc.backends.triton.row_program import Access, At, Load, Rounded, RowProgram, Store

OTHERS = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("sm_80", "sm_100")]


def norm() -> Kernel:
    """x + y is stored, and its norm: 4,096 columns."""
    x, y, out = (Access(name, "bf16", outer=4096) for name in ("x", "y", "out"))
    added = Rounded(apply("add", Load(x), Load(y)), "bf16")
    weight = Load(Access("weight", "bf16", place="none"))
    stores = (Store(x, added), Store(out, rms_norm(added, weight, 1e-5)))
    return row_kernel.kernel(RowProgram(4096, stores), "rms_norm")


def keys_and_values() -> Kernel:
    """8 heads of a row of q, k and v: keys are turned, and both go to the last rows of states."""
    key, value = (
        Load(Access("qkv", "bf16", outer=6144, inner=128, offset=offset)) for offset in (4096, 5120)
    )
    cos, sin = (
        At(Load(Access(name, "f32", place="position", outer=64)), modulo=64)
        for name in ("cos", "sin")
    )
    states = [
        Access(name, "bf16", place="state", inner=128, keep=4096) for name in ("key", "value")
    ]
    turned = rotary(key, cos, sin, columns=128)
    stores = (Store(states[0], turned), Store(states[1], value))
    return row_kernel.kernel(RowProgram(128, stores, inner=8), "keys_and_values")


def kernels() -> list[Kernel]:
    gate_and_up = ExpertLinearSpec("bf16", 128, 1536, 2048, 8, gated="halves", activation="silu")
    gpt_oss = ExpertLinearSpec(
        "bf16",
        32,
        5760,
        2880,
        4,
        transposed=True,
        bias=True,
        gated="interleaved",
        activation="quick_gelu",
        limit=7.0,
        up_offset=1.0,
    )
    return [
        norm(),
        keys_and_values(),
        top_k_kernel(TopKSpec("bf16", 128, 8)),
        *sort_kernels(SortSpec(128, 8)),
        expert_linear.kernel(gate_and_up),
        expert_linear.kernel(gpt_oss),
        expert_linear.kernel(
            replace(gate_and_up, quantized=Quantized("u4", 128, "f16", zero="u8"))
        ),
    ]


@pytest.mark.parametrize("arch", ["sm_90", *OTHERS])
def test_kernels_become_cubins(arch: str) -> None:
    pytest.importorskip("triton")
    made = kernels()
    jobs = [Job(kernel, kernel.configs[0], arch) for kernel in made]
    for kernel, cubin in zip(made, compile_kernels(jobs, workers=1), strict=True):
        assert cubin.spill_bytes == 0, kernel.id
        assert cubin.scratch_bytes == 0, kernel.id
        assert cubin.shared_bytes <= limits_of(arch).block_shared_bytes, kernel.id
        tile = kernel.work.tile(kernel.configs[0], 1024)
        # On sm_80 the last stage of a loop is held in registers.
        assert cubin.shared_bytes <= max(tile.shared_bytes, 48 * 1024) + 1024, kernel.id
