"""Products and attention become cubins for three architectures, within what a block may have."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hetc.backends.triton import attention, linear
from hetc.backends.triton.attention import AttentionSpec
from hetc.backends.triton.compile import Cubin, Job, compile_kernels
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import limits_of, why_refused
from hetc.backends.triton.linear import HeadsSpec, LinearSpec, NormSpec, Quantized
from hetc.bundle.launches import Config

ARCHES = ("sm_80", "sm_90", "sm_100")
HEADS = HeadsSpec(heads=32, groups=8, width=128, rotary=128, equal_halves=True)
WITH_NORMS = HeadsSpec(heads=4, groups=1, width=256, rotary=256, norm=NormSpec(1e-6, "bf16", 1.0))
SPECS: dict[str, LinearSpec | AttentionSpec] = {
    "residual": LinearSpec("bf16", n=4096, k=4096, residual=True),
    "gated": LinearSpec("bf16", n=14336, k=4096, gated=True, activation="silu"),
    "heads": LinearSpec("bf16", n=6144, k=4096, heads=HEADS),
    "int4": LinearSpec("f16", n=4096, k=4096, weight=Quantized("u4", 128, "f16", zero="u8")),
    "llama": AttentionSpec("bf16", 32, 8, 128, 128, scale=128**-0.5),
    "gpt_oss": AttentionSpec("bf16", 64, 8, 64, 64, scale=0.125, window=128, sinks=True),
}
MORE: dict[str, LinearSpec | AttentionSpec] = {
    "gemma": LinearSpec(
        "bf16", n=6 * 256, k=640, norm=NormSpec(1e-6, "bf16", 1.0), heads=WITH_NORMS
    ),
    "logits": LinearSpec("bf16", n=128256, k=4096, out_element="f32", softcap=30.0),
    "int8": LinearSpec("bf16", n=4096, k=4096, weight=Quantized("i8", 32, "f16")),
    "f8e4m3": LinearSpec("bf16", n=4096, k=4096, weight=Quantized("f8e4m3", 4096, "f32")),
    "f32": LinearSpec("f32", n=576, k=576, bias=True, activation="gelu"),
    "gpt2": LinearSpec("f16", n=50257, k=768, out_element="f32"),
    "gemma2": AttentionSpec("bf16", 8, 4, 256, 256, scale=0.0625, softcap=50.0, window=4096),
    "phi3": AttentionSpec("f16", 32, 32, 96, 96, scale=96**-0.5, window=2047),
    "llama4": AttentionSpec("bf16", 40, 8, 128, 128, scale=128**-0.5, chunk=8192),
    "bloom": AttentionSpec("f16", 32, 32, 128, 128, scale=128**-0.5, slopes=True),
    "deepseek": AttentionSpec("bf16", 128, 128, 192, 128, scale=192**-0.5),
    "f32 attention": AttentionSpec("f32", 9, 3, 64, 64, scale=0.125),
}


def made(spec: LinearSpec | AttentionSpec) -> Kernel:
    return linear.kernel(spec) if isinstance(spec, LinearSpec) else attention.kernel(spec)


def has(spec: LinearSpec | AttentionSpec, arch: str) -> bool:
    return not isinstance(spec, LinearSpec) or linear.supports(spec, arch) is None


def middle(kernel: Kernel) -> Config:
    """A configuration of 64 rows and about as many columns, in three stages where there is one."""
    tiles = [config for config in kernel.configs if config.constants["BLOCK_M"] == 64]
    return min(tiles, key=lambda c: (abs(c.stages - 3), abs(c.constants["BLOCK_N"] - 64)))


def refusal(cubin: Cubin, arch: str) -> str:
    return why_refused(
        limits_of(arch),
        shared_bytes=cubin.shared_bytes,
        spill_bytes=cubin.spill_bytes if cubin.spills_in_loop else 0,
        tmem_columns=cubin.tmem_columns,
        scratch_bytes=cubin.scratch_bytes,
    )


@pytest.fixture(scope="module")
def compiled() -> Mapping[tuple[str, str], Cubin]:
    """The middle configuration of each of `SPECS` on each architecture."""
    kernels = {name: made(spec) for name, spec in SPECS.items()}
    jobs = {
        (name, arch): Job(kernel, middle(kernel), arch)
        for name, kernel in kernels.items()
        for arch in ARCHES
    }
    return dict(zip(jobs, compile_kernels(list(jobs.values())), strict=True))


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("name", SPECS)
def test_a_kernel_can_be_launched(
    compiled: Mapping[tuple[str, str], Cubin], name: str, arch: str
) -> None:
    cubin = compiled[name, arch]
    assert not refusal(cubin, arch)
    assert cubin.threads == 32 * middle(made(SPECS[name])).warps


@pytest.mark.parametrize("name", ["residual", "gated", "heads", "llama", "gpt_oss"])
def test_shared_memory_is_what_the_work_says(
    compiled: Mapping[tuple[str, str], Cubin], name: str
) -> None:
    kernel = made(SPECS[name])
    told = kernel.work.tile(middle(kernel), rows=2048).shared_bytes
    assert compiled[name, "sm_90"].shared_bytes == told


def test_columns_that_a_tile_divides_unevenly_are_stored_whole() -> None:
    """Stores of one element each spilled 1352 bytes here: addresses of each."""
    kernel = made(LinearSpec("bf16", n=384, k=320, residual=True))
    constants = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64}
    (cubin,) = compile_kernels(
        [Job(kernel, Config(constants=constants, warps=8, stages=3), "sm_90")]
    )
    assert cubin.spill_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
def test_each_kernel_has_a_tile_that_can_be_launched(arch: str) -> None:
    """The middle one, or else one of the largest or the smallest."""
    specs = {name: spec for name, spec in (SPECS | MORE).items() if has(spec, arch)}
    kernels = {name: made(spec) for name, spec in specs.items()}
    first = compile_kernels([Job(each, middle(each), arch) for each in kernels.values()])
    for (name, kernel), cubin in zip(kernels.items(), first, strict=True):
        refusals = [refusal(cubin, arch)]
        if refusals[0]:
            # In the fewest stages, which change shared memory only.
            tiles = [c for c in kernel.configs if (c.constants["BLOCK_M"], c.warps) == (128, 8)]
            large = [c for c in tiles if c.stages == min(t.stages for t in tiles)]
            jobs = [Job(kernel, config, arch) for config in (*large, kernel.configs[-1])]
            refusals += (refusal(cubin, arch) for cubin in compile_kernels(jobs))
        assert "" in refusals, (name, refusals)


def test_f8_weights_are_for_chips_that_have_them() -> None:
    assert not has(MORE["f8e4m3"], "sm_80")
    assert has(MORE["f8e4m3"], "sm_100")
