"""Imports samples of core ATen ops, runs them by the reference interpreter and compares."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from hetc.errors import InputError
from hetc.frontends.torch_export import ImportedGraph, import_whole
from hetc.frontends.torch_export.dtypes import to_numpy
from hetc.ir.interpret import interpret
from hetc.ir.types import Array
from tests.frontends.aten_programs import Sample, program_of

# The names of the page, and the element types behind them.
DTYPES = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f64": torch.float64,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}
# Relative and absolute error of results of a type.
TOLERANCE = {
    torch.float64: 1e-7,
    torch.float32: 1e-4,
    torch.float16: 4e-3,
    torch.bfloat16: 2e-2,
}
NARROW = (torch.bfloat16, torch.float16)

# Ops without a value to compare: only the type of their result is.
RANDOM = ("rand.default", "randn.default", "randperm.default")
UNDEFINED = ("empty.memory_format", "empty_strided.default")
# Ops whose indices may name any of several equal elements.
ORDERED = ("sort.default", "topk.default")
# Ops of which only the first results mean something outside of PyTorch's own gradients.
FIRST_RESULTS = {"_embedding_bag.default": 1}
# Forms that are refused: op -> a pattern of the sentence that says so, and why for the page.
REFUSED: dict[str, tuple[str, str]] = {}


@dataclass
class Covered:
    """What the samples of one op gave for one element type."""

    passed: int = 0
    refused: int = 0
    kinds: set[str] = field(default_factory=set)


def cover(name: str, samples: list[Sample]) -> Covered:
    """Check every sample; a refusal counts where REFUSED expects one, and is an error elsewhere."""
    covered = Covered()
    for sample in samples:
        try:
            imported = import_whole(program_of(sample, FIRST_RESULTS.get(name, 0)))
        except InputError as error:
            pattern, _ = REFUSED.get(name, ("", ""))
            if not pattern or not re.search(pattern, error.found):
                raise AssertionError(f"{name}({sample.text()}) is refused: {error}") from error
            covered.refused += 1
            continue
        assert not imported.opaque, imported.opaque[0]
        check(name, sample, imported)
        covered.passed += 1
        covered.kinds |= {op.kind for op in imported.graph.ops}
    return covered


def check(name: str, sample: Sample, imported: ImportedGraph) -> None:
    """The graph gives what eager PyTorch gives; raises AssertionError."""
    tensors = [as_array(tensor) for tensor in sample.tensors()]
    found = interpret(imported.graph, tensors, lambda key: imported.weights[key].load())
    count = FIRST_RESULTS.get(name)
    with warnings.catch_warnings():
        # PyTorch warns of variances without a degree of freedom, which are samples too.
        warnings.simplefilter("ignore")
        expected = sample.eager()[:count]
    assert len(found) == len(expected), f"{name}({sample.text()}): {len(found)} results"
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        at = f"{name}({sample.text()}), result {index}"
        wanted = as_array(theirs)
        assert (ours.shape, ours.dtype) == (wanted.shape, wanted.dtype), at
        if name in RANDOM or name in UNDEFINED:
            continue
        if name in ORDERED and index == 1:
            _compare_places(sample, tensors[0], ours, found[0], at)
        elif not _close(ours, wanted, theirs.dtype):
            # PyTorch's kernels of 16 bits round inside: hetc may also be where f32 is.
            exact = as_array(_widened(sample).eager()[:count][index])
            assert theirs.dtype in NARROW, f"{at}: {ours} is not {wanted}"
            near = _near(ours, wanted, theirs.dtype) | _near(ours, exact, theirs.dtype)
            assert near.all(), f"{at}: {ours} is neither {wanted} nor {exact}"


def as_array(tensor: torch.Tensor) -> Array:
    """A tensor as an array; a complex one as its real and imaginary parts."""
    plain = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return to_numpy(plain.contiguous())


def _close(found: Array, expected: Array, dtype: torch.dtype) -> bool:
    return bool(_near(found, expected, dtype).all())


def _near(found: Array, expected: Array, dtype: torch.dtype) -> Array:
    tolerance = TOLERANCE.get(dtype if not dtype.is_complex else torch.float32)
    if tolerance is None:
        return np.asarray(found == expected)
    left, right = found.astype(np.float64), expected.astype(np.float64)
    return np.isclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def _compare_places(sample: Sample, x: Array, places: Array, values: Array, at: str) -> None:
    """Indices of an order name each place once, and the elements that stand there."""
    if x.ndim == 0:
        assert (places == 0).all(), at
        return
    arguments = [argument.name for argument in sample.target._schema.arguments]
    given = dict(zip(arguments, sample.args, strict=False)) | sample.kwargs
    axis = given.get("dim", -1)
    taken = np.take_along_axis(x, places, axis)
    assert np.array_equal(taken.astype(np.float64), values.astype(np.float64), equal_nan=True), at
    distinct = np.sort(places, axis=axis)
    assert (np.diff(distinct, axis=axis) != 0).all(), f"{at}: a place stands twice"


def _widened(sample: Sample) -> Sample:
    """The sample in f32 where it is in 16 bits."""

    def wide(item: Any) -> Any:
        if isinstance(item, torch.Tensor) and item.dtype in NARROW:
            return item.float()
        return torch.float32 if isinstance(item, torch.dtype) and item in NARROW else item

    args, kwargs = tree_map(wide, (sample.args, sample.kwargs))
    return replace(sample, args=args, kwargs=kwargs)
