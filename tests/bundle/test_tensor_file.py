"""A safetensors file whose header lies is refused, whatever it lies about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hetc.bundle.tensor_file import TensorFile, read_entries
from hetc.errors import BundleError
from tests.bundle.build import forge


def entry(
    shape: list[object], begin: object, end: object, dtype: object = "F32"
) -> dict[str, object]:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_of_the_library_is_read(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(7, np.int64),
    }
    save_file(arrays, tmp_path / "t", metadata={"format": "pt"})
    found = TensorFile(tmp_path / "t", "t")
    assert sorted(found) == ["a", "b"]
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        with pytest.raises(ValueError, match="read-only"):
            found[name][...] = 0


LIES: dict[str, tuple[object, bytes]] = {
    "overlap": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "same bytes twice": ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)),
    "hole": ({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "hole at the start": ({"a": entry([1], 4, 8)}, bytes(8)),
    "short data": ({"a": entry([4], 0, 16)}, bytes(15)),
    "data left over": ({"a": entry([4], 0, 16)}, bytes(17)),
    "span too small": ({"a": entry([4], 0, 12)}, bytes(12)),
    "backwards": ({"a": entry([1], 4, 0)}, bytes(4)),
    "negative": ({"a": entry([1], -4, 0)}, bytes(4)),
    "unknown dtype": ({"a": entry([1], 0, 8, "C64")}, bytes(8)),
    "pickled objects": ({"a": entry([1], 0, 8, "O")}, bytes(8)),
    "dtype of another type": ({"a": entry([1], 0, 4, ["F32"])}, bytes(4)),
    "absurd dim": ({"a": entry([0, 2**60], 0, 0)}, b""),
    "absurd product": ({"a": entry([2**40, 2**40, 2**40], 0, 4)}, bytes(4)),
    "product that wraps to 4 bytes": ({"a": entry([2**32, 2**32 + 1], 0, 4)}, bytes(4)),
    "negative dim": ({"a": entry([-1], 0, 4)}, bytes(4)),
    "fractional dim": ({"a": entry([1.0], 0, 4)}, bytes(4)),
    "true dim": ({"a": entry([True], 0, 4)}, bytes(4)),
    "too many axes": ({"a": entry([1] * 40, 0, 4)}, bytes(4)),
    "three offsets": ({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4, 8]}}, bytes(4)),
    "missing field": ({"a": {"dtype": "F32", "shape": []}}, bytes(4)),
    "field too many": ({"a": {**entry([], 0, 4), "x": 1}}, bytes(4)),
    "entry is no object": ({"a": 3}, b""),
    "header is no object": ([], b""),
    "header is no JSON": (b"{pickle}", b""),
    "deep header": (b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}", b""),
    "name twice": (
        b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8",'
        b'"shape":[],"data_offsets":[0,1]}}',
        bytes(1),
    ),
    "metadata of another type": ({"__metadata__": {"format": 3}}, b""),
    "name with an escape": ({"\x1b[2J": entry([1], 0, 4)}, bytes(4)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    header, data = LIES[lie]
    with pytest.raises(BundleError) as caught:
        read_entries(forge(tmp_path / "t", header, data), "weights/t")
    assert caught.value.code in {"HETC-B002", "HETC-B004", "HETC-B012"}
    assert caught.value.at.startswith("weights/t")
    assert "\x1b" not in caught.value.render()


@pytest.mark.parametrize("length", [0, 1, 1000, 100_000_001, 2**63, 2**64 - 1])
def test_a_header_length_that_cannot_be_is_refused(tmp_path: Path, length: int) -> None:
    path = forge(tmp_path / "t", {}, length=length)
    with pytest.raises(BundleError) as caught:
        read_entries(path, "t")
    assert caught.value.code == "HETC-B012"


@pytest.mark.parametrize("size", range(9))
def test_a_file_too_short_for_a_header_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "t").write_bytes(bytes(size))
    with pytest.raises(BundleError) as caught:
        read_entries(tmp_path / "t", "t")
    assert caught.value.code == "HETC-B012"


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with path.open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(300_000_000)
    with pytest.raises(BundleError) as caught:
        read_entries(path, "t")
    assert caught.value.found == "200000000"


dims = st.lists(st.integers(0, 3), max_size=3)


@given(
    shapes=st.lists(dims, max_size=3),
    noise=st.lists(st.integers(-4, 4), min_size=6, max_size=6),
    extra=st.integers(-2, 2),
)
def test_what_is_accepted_the_library_accepts_too(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], noise: list[int], extra: int
) -> None:
    """And what the library refuses is refused: the strict check never allows more."""
    header: dict[str, object] = {}
    position = 0
    for i, shape in enumerate(shapes):
        size = 4 * int(np.prod(shape))
        # Mostly zero: a valid file must be among the examples.
        begin, end = (noise[2 * i + j] if abs(noise[2 * i + j]) == 4 else 0 for j in (0, 1))
        header[f"t{i}"] = entry(list(shape), position + begin, position + size + end)
        position += size
    path = forge(tmp_path_factory.mktemp("f") / "t", header, bytes(max(0, position + extra)))
    try:
        with safe_open(path, framework="numpy") as library:
            seen = set(library.keys())
    except SafetensorError:
        with pytest.raises(BundleError):
            read_entries(path, "t")
        return
    assert {found.name for found in read_entries(path, "t")} == seen


def test_json_of_a_header_is_what_was_forged(tmp_path: Path) -> None:
    raw = forge(tmp_path / "t", {"a": entry([1], 0, 4)}, bytes(4)).read_bytes()
    assert json.loads(raw[8:-4])["a"]["shape"] == [1]
