"""Cubins that several tests look at, compiled once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hetc.backends.triton.compile import Cubin, Job, compile_kernels
from tests.backends.triton.aot.products import SMALL, SPILLING, norm, product

ARCHES = ("sm_80", "sm_90", "sm_100")


@pytest.fixture(scope="session")
def cubins() -> Mapping[str, Cubin]:
    """A product, a norm and a product that spills, as `product sm_90`."""
    pytest.importorskip("triton")
    jobs = {
        f"{name} {arch}": Job(kernel, config, arch)
        for arch in ARCHES
        for name, kernel, config in (
            ("product", product(), SMALL),
            ("norm", norm(), norm().configs[0]),
            ("spilling", product(SPILLING), SPILLING),
        )
        # On sm_100 accumulators are no registers.
        if (name, arch) != ("spilling", "sm_100")
    }
    return dict(zip(jobs, compile_kernels(list(jobs.values())), strict=True))
