"""The notes of a cubin, against NVIDIA's own reader of them, and files that are no cubins."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.triton.compile import Cubin
from hetc.backends.triton.cubin import Notes, read_notes
from hetc.errors import BackendError
from tests.golden import Golden


def test_notes_are_those_that_cuobjdump_reads(cubins: Mapping[str, Cubin], tmp_path: Path) -> None:
    for name, cubin in cubins.items():
        notes = read_notes(cubin.data, name)
        usage = cuobjdump("--dump-resource-usage", cubin.data, tmp_path)
        assert notes.registers == number(r"REG:(\d+)", usage), name
        assert notes.frame_bytes == number(r"STACK:(\d+)", usage), name
        assert re.search(rf"Function {notes.symbol}:", usage), name
        elf = cuobjdump("-elf", cubin.data, tmp_path)
        # The last parameter comes first.
        listed = re.findall(r"Ordinal : (\w+)\s+Offset  : (\w+)\s+Size    : (\w+)", elf)
        expected = sorted(
            (int(place, 16), int(at, 16), int(size, 16)) for place, at, size in listed
        )
        assert notes.parameters == tuple((at, size) for _, at, size in expected), name
        (block,) = re.findall(r"EIATTR_REQNTID\s+Format:\s+\w+\s+Value:\s+(\w+)", elf)
        assert notes.threads == int(block, 16), name


def test_what_spills_has_a_frame(cubins: Mapping[str, Cubin]) -> None:
    frames = {name: read_notes(cubin.data, name).frame_bytes for name, cubin in cubins.items()}
    assert {name for name, frame in frames.items() if frame} == {"spilling sm_80", "spilling sm_90"}


def test_a_cut_cubin_is_told_at_every_length(cubins: Mapping[str, Cubin]) -> None:
    data = cubins["norm sm_90"].data
    for length in range(0, len(data) - 1, 61):
        with pytest.raises(BackendError) as caught:
            read_notes(data[:length], "norm")
        assert caught.value.code == "HETC-E071"


@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_changed_cubin_is_read_or_told(
    cubins: Mapping[str, Cubin], changes: list[tuple[float, int]]
) -> None:
    data = bytearray(cubins["norm sm_90"].data)
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    with contextlib.suppress(BackendError):
        assert isinstance(read_notes(bytes(data), "norm"), Notes)


def test_headers_and_notes_are_checked(cubins: Mapping[str, Cubin], golden: Golden) -> None:
    data = cubins["norm sm_90"].data
    table = int.from_bytes(data[0x28:0x30], "little")
    blocks = data.index(bytes.fromhex("04100c00"))
    broken = {
        "text": b"import triton",
        "object code of the host": data[:18] + b"\x3e\x00" + data[20:],
        "entries of another size": data[:0x3A] + b"\x20" + data[0x3B:],
        "a table behind the end": data[:0x28] + b"\xff" * 4 + data[0x2C:],
        "a section behind the end": data[: table + 64 + 24] + b"\xff" * 4 + data[table + 64 + 28 :],
        "another attribute": data[: blocks + 1] + b"\x7f" + data[blocks + 2 :],
        "an unknown form": data[:blocks] + b"\x09" + data[blocks + 1 :],
        "two names": data.replace(b".text.norm", b".tent.norm"),
    }
    told = []
    for name, content in broken.items():
        with pytest.raises(BackendError) as caught:
            read_notes(content, name)
        told.append(caught.value.render())
    golden("cubins", "\n\n".join(told))


def cuobjdump(option: str, cubin: bytes, folder: Path) -> str:
    """What NVIDIA's reader, which comes with Triton, says of a cubin."""
    from triton.backends import nvidia

    tool = Path(nvidia.__path__[0]) / "bin" / "cuobjdump"
    (folder / "kernel.cubin").write_bytes(cubin)
    run = [str(tool), option, str(folder / "kernel.cubin")]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def number(pattern: str, text: str) -> int:
    (found,) = re.findall(pattern, text)
    return int(found)
