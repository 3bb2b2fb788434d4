"""Reads what ptxas notes of a kernel in its cubin: registers, spilled bytes, block, parameters.

A cubin is an ELF file of 64 bits whose sections `.nv.info` and `.nv.info.<kernel>` list attributes;
their numbers and forms are those that `cuobjdump -elf` names, and the tests compare with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hetc.errors import BackendError

_MAGIC = b"\x7fELF\x02\x01"
# Machine; where the tables of segments and of sections are; size and number of the entries of each;
# the section of the names.
_FILE = struct.Struct("<18xH12xQQ6x5H")
# Name, kind, then offset and size.
_SECTION = struct.Struct("<II16xQQ24x")
_CUDA = 190
# Memory that the file has no bytes for.
_NO_BITS = 8
# How the value of an attribute is stored: in the two bytes behind, or in as many as these say.
_INLINE, _SIZED = (1, 2, 3), 4
_REGISTERS, _FRAME, _BLOCK, _PARAMETER = 0x2F, 0x11, 0x10, 0x17
_TEXT, _INFO = ".text.", ".nv.info"


@dataclass(frozen=True)
class Notes:
    """What a cubin says of its one kernel.

    `registers` are those of a thread, `frame_bytes` its local memory: spilled registers, since
    Triton's kernels have no arrays of their own. `parameters` are (offset, size) in bytes, in
    order. `threads` is the only block size that the kernel can be launched with.
    """

    symbol: str
    registers: int
    frame_bytes: int
    threads: int
    text_bytes: int
    parameters: tuple[tuple[int, int], ...]


def read_notes(data: bytes, at: str) -> Notes:
    """The notes of the cubin `data`; `at` names it in errors.

    Raises BackendError HETC-E071 where this is no cubin of one kernel, or not all of it.
    """
    try:
        return _read(data)
    except (ValueError, struct.error) as error:
        raise BackendError(
            "HETC-E071",
            "this is no cubin of one kernel",
            at=at,
            found=error,
            do="compile the bundle again",
        ) from error


def _read(data: bytes) -> Notes:
    if not data.startswith(_MAGIC):
        raise ValueError("the file does not begin as ELF of 64 bits")
    sections = _sections(data)
    kernels = [name.removeprefix(_TEXT) for name in sections if name.startswith(_TEXT)]
    if len(kernels) != 1:
        raise ValueError(f"it has {len(kernels)} kernels")
    (symbol,) = kernels
    shared = dict(_attributes(sections.get(_INFO, b"")))
    own = list(_attributes(sections.get(f"{_INFO}.{symbol}", b"")))
    missing = [
        name
        for name, number, found in (
            ("registers", _REGISTERS, shared),
            ("frame size", _FRAME, shared),
            ("block size", _BLOCK, dict(own)),
        )
        if number not in found
    ]
    if missing:
        raise ValueError(f"it does not tell its {' and '.join(missing)}")
    x, y, z = struct.unpack("<3I", dict(own)[_BLOCK])
    parameters = sorted(_parameter(value) for number, value in own if number == _PARAMETER)
    return Notes(
        symbol=symbol,
        # Symbol and number: there is one symbol.
        registers=struct.unpack("<2I", shared[_REGISTERS])[1],
        frame_bytes=struct.unpack("<2I", shared[_FRAME])[1],
        threads=x * y * z,
        text_bytes=len(sections[_TEXT + symbol]),
        parameters=tuple((offset, size) for _, offset, size in parameters),
    )


def _sections(data: bytes) -> dict[str, bytes]:
    """Name -> content of every section; ValueError where one lies outside of the file."""
    machine, segments, table, segment, of_segments, entry, count, names_at = _FILE.unpack_from(data)
    if machine != _CUDA:
        raise ValueError(f"it is for machine {machine}")
    if entry != _SECTION.size or names_at >= count:
        raise ValueError("its table of sections has another form")
    if max(segments + segment * of_segments, table + entry * count) > len(data):
        raise ValueError("it is cut off")
    headers = [_SECTION.unpack_from(data, table + entry * number) for number in range(count)]
    contents = []
    for _, kind, offset, size in headers:
        size = 0 if kind == _NO_BITS else size
        if offset + size > len(data):
            raise ValueError("it is cut off")
        contents.append(data[offset : offset + size])
    names = contents[names_at]
    return {
        names[name:].partition(b"\0")[0].decode("ascii"): content
        for (name, *_), content in zip(headers, contents, strict=True)
    }


def _attributes(notes: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of the attributes of a section of notes."""
    place = 0
    while place < len(notes):
        form, number, value = struct.unpack_from("<BBH", notes, place)
        place += 4
        if form in _INLINE:
            yield number, notes[place - 2 : place]
            continue
        if form != _SIZED or place + value > len(notes):
            raise ValueError(f"the attribute 0x{number:02x} has another form")
        yield number, notes[place : place + value]
        place += value


def _parameter(value: bytes) -> tuple[int, int, int]:
    """Number, offset and size of a parameter."""
    _, ordinal, offset, flags = struct.unpack("<IHHI", value)
    return ordinal, offset, flags >> 18
