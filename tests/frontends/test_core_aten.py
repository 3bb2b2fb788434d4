"""Every core ATen op, the ones that `torch.export` may leave in a fully decomposed program: it
imports as ops with semantics, and computes what eager PyTorch does on PyTorch's own samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import Dim

from hetc.errors import InputError
from hetc.frontends.torch_export import import_whole
from hetc.ir.interpret import interpret
from tests.frontends.aten_programs import Sample, program_of

# PyTorch's test modules need it.
pytest.importorskip("expecttest", reason="pip install 'hetc[dev]' brings expecttest")

from tests.frontends.aten_coverage import DTYPES, cover
from tests.frontends.aten_page import page
from tests.frontends.aten_samples import core_ops, samples

PAGE = Path(__file__).parents[2] / "docs" / "aten-coverage.md"
# Numbers that are sizes: they are imported where they are used.
SIZES: dict[str, Callable[[Tensor], Any]] = {
    "sym_size.int": lambda x: torch.ops.aten.sym_size.int(x, 1),
    "sym_stride.int": lambda x: torch.ops.aten.sym_stride.int(x, 0),
    "sym_numel.default": torch.ops.aten.sym_numel.default,
    "sym_storage_offset.default": torch.ops.aten.sym_storage_offset.default,
    "sym_is_contiguous.default": torch.ops.aten.sym_is_contiguous.default,
}
TESTED = [name for name in core_ops() if name not in SIZES]
# Samples of each element type; the page counts many more.
FAST = {"f32": 2, "bf16": 1, "i64": 1, "bool": 1}


@pytest.mark.parametrize("name", TESTED)
def test_core_op(name: str) -> None:
    found = [samples(name, DTYPES[dtype], most) for dtype, most in FAST.items()]
    assert any(found), "an op without a sample is an op without a test"
    for each in found:
        cover(name, each)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str) -> None:
    """As in an export with sizes that vary: the number is a polynomial in them."""

    class Sized(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            moved: Tensor = x + SIZES[name](x)
            return moved

    rows, columns = Dim("rows", min=2, max=99), Dim("columns", min=2, max=99)
    program = torch.export.export(
        Sized(), (torch.ones(3, 4),), dynamic_shapes=({0: rows, 1: columns},)
    )
    graph = import_whole(program).graph
    for shape in ((5, 7), (9, 2)):
        x = torch.randn(shape)
        (found,) = interpret(graph, [x.numpy()])
        np.testing.assert_allclose(found, (x + SIZES[name](x)).numpy(), rtol=1e-6)


@pytest.mark.slow
def test_the_page_tells_what_the_samples_give(request: pytest.FixtureRequest) -> None:
    """All samples in all element types: every one passes or is refused as REFUSED says."""
    text = page(list(SIZES))
    if request.config.getoption("--update-golden"):
        PAGE.write_text(text, "utf-8")
    assert PAGE.read_text("utf-8") == text


def test_the_page_names_every_op() -> None:
    rows = [
        line.split("`")[1] for line in PAGE.read_text("utf-8").splitlines() if line[:3] == "| `"
    ]
    assert rows == sorted(core_ops())


aten: Any = torch.ops.aten
FORMS: dict[str, tuple[Sample, str]] = {
    "memory that a view leaves out": (
        Sample(aten.as_strided.default, (torch.ones(4, 4)[:, :2], [2, 2], [1, 1])),
        "leaves out a part of its memory",
    ),
    "two masks": (
        Sample(
            aten.index.Tensor,
            (torch.ones(3, 3), [torch.ones(3).bool(), torch.ones(3).bool()]),
        ),
        "several masks",
    ),
    "a mask beside other indices": (
        Sample(
            aten.index_put.default,
            (torch.ones(3, 3), [torch.ones(3).bool(), torch.tensor(1)], torch.tensor(1.0)),
        ),
        "together with other indices",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_refused_form(name: str) -> None:
    sample, words = FORMS[name]
    with pytest.raises(InputError, match=words) as caught:
        import_whole(program_of(sample))
    assert caught.value.code == "HETC-I211"


def _imported(module: torch.nn.Module, *inputs: Tensor, dynamic: Any = None) -> Any:
    return import_whole(torch.export.export(module, inputs, dynamic_shapes=dynamic))


def test_random_numbers_are_told_and_repeat() -> None:
    class Noise(torch.nn.Module):
        def forward(self, x: Tensor) -> Sequence[Tensor]:
            return torch.rand_like(x), torch.rand(2, 3), torch.randperm(9)

    imported = _imported(Noise(), torch.ones(2, 3))
    assert any("fixed seeds" in note for note in imported.notes)
    x = np.ones((2, 3), np.float32)
    first, again = (interpret(imported.graph, [x]) for _ in range(2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert sorted(first[2]) == list(range(9))


def test_masks_of_any_size() -> None:
    """The size that a mask decides goes on: into sums, and into tensors of that size."""

    class Picked(torch.nn.Module):
        def forward(self, x: Tensor) -> Sequence[Tensor]:
            chosen = x[x > 0]
            return chosen * 2, torch.zeros_like(chosen), x.nonzero().sum(0)

    imported = _imported(Picked(), torch.randn(3, 4), dynamic=({0: Dim("rows", min=1, max=64)},))
    for rows in (1, 7):
        x = torch.randn(rows, 4)
        found = interpret(imported.graph, [x.numpy()])
        for ours, theirs in zip(found, Picked()(x), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
