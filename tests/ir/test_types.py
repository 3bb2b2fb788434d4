"""Element types and tensor types."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given

from hetc.errors import IRError
from hetc.ir.dims import symbol
from hetc.ir.types import DTYPES, F32, TensorType, dtype_of, parse_type
from tests.ir.strategies import tensor_types


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_has_a_numpy_twin_of_its_size(name: str) -> None:
    dtype = DTYPES[name]
    array = np.zeros(3, dtype.numpy)
    assert array.itemsize * 8 == dtype.bits
    assert dtype_of(array) is dtype


def test_dtypes_stay_single_through_copies() -> None:
    assert copy.deepcopy(F32) is F32
    assert pickle.loads(pickle.dumps(F32)) is F32  # noqa: S301


def test_a_foreign_dtype_is_an_error() -> None:
    with pytest.raises(IRError, match=r"HETC-X003.*complex128"):
        dtype_of(np.zeros(1, np.complex128))


@given(tensor_types)
def test_text_round_trip(type: TensorType) -> None:
    assert parse_type(str(type)) == type


@pytest.mark.parametrize("text", ["f32", "f32[", "f33[2]", "f32[2,]", "f32[,]", "[2]", "f32[2][3]"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(IRError, match=r"HETC-X00[45]"):
        parse_type(text)


def test_size_and_bytes() -> None:
    batch = symbol("B")
    type = TensorType(F32, (batch, 3, 4))
    assert type.size == 12 * batch
    assert type.nbytes == 48 * batch
    assert type.substitute({"B": 2}).nbytes == 96
    assert TensorType(F32, ()).size == 1
