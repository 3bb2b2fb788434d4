"""New rows of caches: against slices and `torch.cat`."""

from __future__ import annotations

import pytest
import torch

from hetc.frontends.torch_export.dtypes import to_numpy
from hetc.interop.cache_rows import with_rows, write_rows

WIDTHS = (4, 6, 4, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_written_and_counted(dtype: torch.dtype) -> None:
    caches = [torch.randn(2, 3, 5, width).to(dtype) for width in WIDTHS]
    rows = [torch.randn(2, 3, width).to(dtype) for width in WIDTHS]
    expected = [cache.clone() for cache in caches]
    for cache, row in zip(expected, rows, strict=True):
        cache[:, :, 3] = row
    before = [cache._version for cache in caches]
    write_rows(caches, list(map(to_numpy, caches)), list(map(to_numpy, rows)), [3] * len(rows))
    assert all(map(torch.equal, caches, expected))
    assert all(cache._version > was for cache, was in zip(caches, before, strict=True))


def test_tensors_of_inference_count_nothing() -> None:
    with torch.inference_mode():
        cache = torch.zeros(1, 1, 2, 2)
        write_rows([cache], [to_numpy(cache)], [to_numpy(torch.ones(1, 1, 2))], [1])
    assert cache.tolist() == [[[[0, 0], [1, 1]]]]


def test_rows_of_several_widths_and_types_are_joined() -> None:
    types = (torch.float32, torch.float32, torch.bfloat16, torch.bfloat16)
    caches = [torch.randn(2, 3, 5, w).to(t) for w, t in zip(WIDTHS, types, strict=True)]
    rows = [torch.randn(2, 3, w).to(t) for w, t in zip(WIDTHS, types, strict=True)]
    expected = [torch.cat([c, r[:, :, None]], 2) for c, r in zip(caches, rows, strict=True)]
    found = with_rows(caches, list(map(to_numpy, rows)))
    assert all(map(torch.equal, found, expected))
    assert [cache.shape[2] for cache in caches] == [5] * len(WIDTHS)
