"""Views are NumPy's views: the same elements under the same strides, with sizes still symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.native.views import View, collapse, contiguous, like, padded
from hetc.ir.dims import Dim, evaluate, symbol
from hetc.ir.types import Array

B, T = symbol("B"), symbol("T")
SIZES = {"B": 2, "T": 3}
X = contiguous("x", (B, T, 24))
DATA = np.arange(2 * 3 * 24)


def elements(view: View) -> Array:
    """What `view` shows of DATA."""
    shape = [evaluate(size, SIZES) for size in view.shape]
    strides = [evaluate(stride, SIZES) * DATA.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(DATA[evaluate(view.offset, SIZES) :], shape, strides)


def reshaped(view: View, *shape: int | Dim) -> View:
    found = view.reshaped(shape)
    assert found is not None
    return found


HEADS = reshaped(X, B, T, 4, 6).transposed((0, 2, 1, 3))
ARRAY = DATA.reshape(2, 3, 24)
ARRAY_HEADS = ARRAY.reshape(2, 3, 4, 6).transpose(0, 2, 1, 3)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (X, ARRAY),
        (HEADS, ARRAY_HEADS),
        (reshaped(HEADS.transposed((0, 2, 1, 3)), B, T, 24), ARRAY),
        (reshaped(X, B * T, 24), ARRAY.reshape(6, 24)),
        (reshaped(X, 6 * B * T, 4), ARRAY.reshape(36, 4)),
        (reshaped(X, B, T, 1, 24), ARRAY[:, :, None]),
        (reshaped(reshaped(X, B * T, 24), B, T, 2, 3, 4), ARRAY.reshape(2, 3, 2, 3, 4)),
        (X.sliced(2, 8, 12), ARRAY[:, :, 8:20]),
        (reshaped(X.sliced(2, 8, 12), B, T, 2, 6), ARRAY[:, :, 8:20].reshape(2, 3, 2, 6)),
        (X.sliced(2, 1, 12, 2), ARRAY[:, :, 1::2]),
        (X.sliced(1, T - 1, 1), ARRAY[:, 2:]),
        (X.sliced(1, 0, 1).broadcast((B, T, 24)), np.broadcast_to(ARRAY[:, :1], (2, 3, 24))),
        (contiguous("x", (24,)).broadcast((B, 24)), np.broadcast_to(np.arange(24), (2, 24))),
    ],
)
def test_views_show_what_numpy_shows(view: View, expected: Array) -> None:
    np.testing.assert_array_equal(elements(view), expected)


@pytest.mark.parametrize(
    ("view", "shape"),
    [
        (HEADS, (B, T, 24)),
        (X.sliced(2, 0, 12), (B, T * 12)),
        (X.transposed((1, 0, 2)), (B * T, 24)),
    ],
)
def test_what_would_have_to_move_is_no_view(view: View, shape: tuple[int | Dim, ...]) -> None:
    assert view.reshaped(shape) is None


@pytest.mark.parametrize("view", [X, HEADS, X.sliced(2, 8, 12), X.transposed((1, 0, 2))])
def test_a_dense_copy_keeps_the_order_of_axes(view: View) -> None:
    dense = like(view, "y")
    order = np.argsort([-evaluate(stride, SIZES) for stride in view.strides], kind="stable")
    found = np.argsort([-evaluate(stride, SIZES) for stride in dense.strides], kind="stable")
    np.testing.assert_array_equal(found, order)
    assert sorted(elements(dense).ravel()) == list(range(elements(view).size))


@pytest.mark.parametrize(
    ("views", "rank"),
    [
        ([X], 2),
        ([HEADS], 4),
        ([X, like(X, "y")], 2),
        ([X, contiguous("w", (24,)).broadcast((B, T, 24))], 2),
        ([X, contiguous("w", (T, 24)).broadcast((B, T, 24))], 3),
        ([X.sliced(2, 8, 12)], 2),
    ],
)
def test_axes_are_joined_where_all_views_allow_it(views: list[View], rank: int) -> None:
    joined = collapse(views)
    assert {view.rank for view in joined} == {rank}
    for view, before in zip(joined, views, strict=True):
        if evaluate(max(view.strides, key=lambda stride: evaluate(stride, SIZES)), SIZES) > 23:
            np.testing.assert_array_equal(elements(view).ravel(), elements(before).ravel())


@given(st.integers(1, 100), st.integers(1, 100))
def test_padding_is_enough_for_any_size(size: int, rows: int) -> None:
    whole = padded(size * B * T + 1)
    assert evaluate(whole, {"B": rows, "T": 1}) >= size * rows + 1
    assert evaluate(whole, {"B": rows, "T": 1}) % 16 == 0


def test_a_reshape_to_the_same_shape_is_the_view() -> None:
    check: Callable[[View], bool] = lambda view: view.reshaped(view.shape) == view  # noqa: E731
    assert check(X)
    assert check(X.sliced(2, 8, 12))


def test_what_moves_with_the_past_keeps_its_axis_of_sequences() -> None:
    """Its rows are all alike to strides, and are not: sequences are at positions of their own."""
    table = View("x", (1, T, 6), (0, 6, 1), past_stride=6)
    shown = table.transposed((0, 1, 2)).sliced(2, 0, 3).broadcast((B, T, 3))
    assert shown.past_stride == 6
    rows = View("x", (B, 4, T, 6), (0, 0, 6, 1), past_stride=6)
    out = contiguous("y", (B, 4, T, 6))
    assert collapse([out, replace(rows, past_stride=0)])[0].shape == (4 * B, T, 6)
    assert [view.shape for view in collapse([out, rows])] == [(B, 4, T, 6)] * 2
    assert replace(rows, past_stride=0).reshaped((4 * B, T, 6)) is not None
    assert rows.reshaped((4 * B, T, 6)) is None
    assert rows.reshaped((B, 2, 2, T, 6)) == View(
        "x", (B, 2, 2, T, 6), (0, 0, 0, 6, 1), past_stride=6
    )
