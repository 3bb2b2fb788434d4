"""Reading a safetensors file without trust: a strict header check, then memory-mapped views."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hetc.bundle.dtypes import BY_SAFETENSORS, StoredType
from hetc.bundle.fields import Fields, check_integer, check_text
from hetc.bundle.strict_json import parse_json
from hetc.errors import BundleError

Array = np.ndarray[Any, Any]

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 8
MAX_DIM = 2**48


class MissingTensor(BundleError, KeyError):
    """A name that the file does not have; a `KeyError` too, as a mapping's `get` expects."""

    def __str__(self) -> str:
        return self.render()


@dataclass(frozen=True)
class TensorEntry:
    """A stored tensor; `begin` and `end` are byte offsets in the file, header included."""

    name: str
    dtype: StoredType
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile(Mapping[str, Array]):
    """The tensors of one file by name: read-only views of the mapped file, read when touched."""

    def __init__(self, path: Path, rel: str) -> None:
        self._rel = rel
        self.entries = {entry.name: entry for entry in read_entries(path, rel)}
        # A view as plain ndarray: memmap's own subclass would follow every result of arithmetic.
        self._data: Array = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)

    def __getitem__(self, name: str) -> Array:
        entry = self.entries.get(name)
        if entry is None:
            raise MissingTensor(
                "HETC-B013",
                "there is no such tensor in the file",
                at=f"{self._rel}: {name}",
                found=f"{len(self.entries)} other tensors",
                do="list the file's tensors; a wrong name is an error of the caller",
            )
        raw = self._data[entry.begin : entry.end]
        return raw.view(entry.dtype.numpy).reshape(entry.shape)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def read_entries(path: Path, rel: str) -> list[TensorEntry]:
    """Every tensor of a safetensors file in the order of its data; `rel` names the file in errors.

    Raises `BundleError` HETC-B012 for a header that is too long or not one, an unknown dtype, an
    absurd shape, a span that is not shape x element size, an overlap, a hole or data that is short
    or left over; HETC-B002 and HETC-B004 for JSON that is not of the format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        limit = min(MAX_HEADER_BYTES, size - 8)
        if not 2 <= length <= limit:
            raise _bad(rel, "a header length", f"2 to {max(limit, 2)} bytes", length)
        header = file.read(length)
    entries = _parse(header, rel, data_start=8 + length)
    position = 8 + length
    for entry in entries:
        if entry.begin != position:
            kind = "overlaps the one before" if entry.begin < position else "leaves a hole before"
            raise _bad(f"{rel}: {entry.name}", f"a tensor that {kind}", position, entry.begin)
        position = entry.end
    if position != size:
        raise _bad(rel, "the end of the data", f"{size}, the file's size", position)
    _ask_library(path, rel, entries)
    return entries


def _parse(header: bytes, rel: str, *, data_start: int) -> list[TensorEntry]:
    value = parse_json(header, rel, max_bytes=MAX_HEADER_BYTES, max_depth=3)
    fields = Fields(value, rel)
    entries = []
    for name, raw in fields.items():
        check_text(name, rel)
        if name == "__metadata__":
            for key, text in Fields(raw, f"{rel}: {name}").items():
                check_text(text, f"{rel}: {name}.{key[:80]}")
            continue
        entries.append(_entry(name, Fields(raw, f"{rel}: {name}"), data_start))
    # The end too: an empty tensor stands before the one that begins at the same byte.
    return sorted(entries, key=lambda entry: (entry.begin, entry.end))


def _entry(name: str, f: Fields, data_start: int) -> TensorEntry:
    dtype = BY_SAFETENSORS[f.one_of("dtype", BY_SAFETENSORS)]
    shape = f.array("shape", check_integer)
    offsets = f.array("data_offsets", check_integer)
    f.done()
    if len(shape) > MAX_RANK or any(dim > MAX_DIM for dim in shape):
        expected = f"at most {MAX_RANK} axes of at most 2**48"
        raise _bad(f.at, "an absurd shape", expected, str(list(shape))[:80])
    span = math.prod(shape) * dtype.itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != span:
        expected = f"[begin, begin + {span}] for {dtype.name}{list(shape)}"
        raise _bad(f.at, "a wrong span", expected, str(list(offsets))[:80])
    return TensorEntry(name, dtype, shape, data_start + offsets[0], data_start + offsets[1])


def _ask_library(path: Path, rel: str, entries: list[TensorEntry]) -> None:
    """A second opinion from the format's own library, which must see the same tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            seen = set(file.keys())
    except SafetensorError as error:
        raise _bad(rel, "what the safetensors library refuses", "a valid file", error) from error
    if seen != {entry.name for entry in entries}:
        raise _bad(rel, "other tensors than the library sees", f"{len(seen)}", len(entries))


def _bad(at: str, what: str, expected: object, found: object) -> BundleError:
    return BundleError(
        "HETC-B012",
        f"the tensor file has {what} that cannot be right",
        at=at,
        expected=expected,
        found=found,
        do="copy the bundle again from its source, or compile the model again",
    )
