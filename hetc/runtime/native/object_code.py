"""Places an object file in memory, so that code compiled once runs without a compiler or linker.

Of ELF (System V ABI, AMD64 supplement, 4.4 "Relocation") only what LLVM writes for code that may
lie anywhere is known: 64-bit addresses, absolute or relative to their place.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x7fELF\x02\x01\x01"
# Machine, where the table of sections is, how many there are.
_FILE = struct.Struct("<18xH20xQ12xH2x")
_SECTION = np.dtype(
    {
        "names": ["kind", "flags", "offset", "size", "link", "info", "align"],
        "formats": ["<u4", "<u8", "<u8", "<u8", "<u4", "<u4", "<u8"],
        "offsets": [4, 8, 24, 32, 40, 44, 48],
        "itemsize": 64,
    }
)
_SYMBOL = np.dtype(
    {
        "names": ["name", "section", "value"],
        "formats": ["<u4", "<u2", "<u8"],
        "offsets": [0, 6, 8],
        "itemsize": 24,
    }
)
_RELOCATION = np.dtype([("place", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_X86_64 = 62
_PROGBITS, _RELA, _SYMTAB = 1, 4, 2
_ALLOCATED = 2
_ABSOLUTE, _RELATIVE = 1, 24
_ADDRESSES = 2**64


class UnknownObject(OSError):
    """An object file with something that is not known here; the text says what."""


def can_link() -> bool:
    """Whether object files of this machine are of the kind that is known here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


class ObjectCode:
    """The code of an object file, executable while this object lives; `address` is that of the
    function `symbol`.

    Raises UnknownObject, which is an OSError, as is what the system raises that gives no executable
    memory. Whoever hands bytes in vouches for them: they are executed.
    """

    def __init__(self, data: bytes, symbol: str) -> None:
        if not data.startswith(_MAGIC) or len(data) < _FILE.size:
            raise UnknownObject("this is no ELF file of 64 bits")
        machine, table_offset, count = _FILE.unpack_from(data)
        if machine != _X86_64:
            raise UnknownObject(f"it is for machine {machine}")
        sections = np.frombuffer(data, _SECTION, count, table_offset)
        # What unwinds exceptions has a kind of its own, and nothing here raises any.
        kept = [
            number
            for number, section in enumerate(sections)
            if section["kind"] == _PROGBITS and section["flags"] & _ALLOCATED
        ]
        offsets, end = {}, 0
        for number in kept:
            align = max(1, int(sections[number]["align"]))
            offsets[number] = -(-end // align) * align
            end = offsets[number] + int(sections[number]["size"])
        self._memory = mmap.mmap(-1, max(1, end))
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, offset in offsets.items():
            content = _content(data, sections[number])
            self._memory[offset : offset + len(content)] = content
        places = {number: self._start + offset for number, offset in offsets.items()}
        self._symbols = _symbols(data, sections, places)
        for table in sections[sections["kind"] == _RELA]:
            if int(table["info"]) in offsets:
                entries = np.frombuffer(_content(data, table), _RELOCATION)
                self._relocate(entries, offsets[int(table["info"])])
        self.address = dict(self._symbols).get(symbol, 0)
        if not self.address:
            raise UnknownObject(f"it has no function {symbol}")
        _make_executable(self._start, len(self._memory))

    def _relocate(self, entries: NDArray[Any], section: int) -> None:
        for entry in entries:
            place = section + int(entry["place"])
            name, address = self._symbols[int(entry["symbol"])]
            value = (address or _of_the_system(name)) + int(entry["addend"])
            if entry["kind"] == _RELATIVE:
                value -= self._start + place
            elif entry["kind"] != _ABSOLUTE:
                raise UnknownObject(f"it has a relocation of type {entry['kind']}")
            self._memory[place : place + 8] = (value % _ADDRESSES).to_bytes(8, "little")


def _content(data: bytes, section: Any) -> bytes:
    start = int(section["offset"])
    return data[start : start + int(section["size"])]


def _symbols(
    data: bytes, sections: NDArray[Any], addresses: Mapping[int, int]
) -> list[tuple[str, int]]:
    """Name and address of every symbol, 0 for those that are not in the file."""
    (table,) = sections[sections["kind"] == _SYMTAB]
    names = _content(data, sections[int(table["link"])])
    found = []
    for symbol in np.frombuffer(_content(data, table), _SYMBOL):
        name = names[int(symbol["name"]) :].partition(b"\0")[0].decode()
        section = addresses.get(int(symbol["section"]))
        found.append((name, 0 if section is None else section + int(symbol["value"])))
    return found


def _of_the_system(name: str) -> int:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        raise UnknownObject(f"it needs {name}, which is not here") from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _make_executable(start: int, count: int) -> None:
    """From now on the memory can be executed, and no longer written."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(start), ctypes.c_size_t(count), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")
