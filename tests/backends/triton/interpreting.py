"""Runs kernels on the CPU, in Triton's interpreter.

The interpreter replaces parts of Triton for the whole process, so that it lives in a process of its
own (`interpreter_worker.py`), which is kept: a launch costs milliseconds, a process two seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hetc.bundle.launches import Parameter

Array = np.ndarray[Any, np.dtype[Any]]
# Triton's names of NumPy's types.
_ELEMENTS = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5", "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8",
    "uint8": "u8", "bool": "i1",
}  # fmt: skip
_ALIGNMENT = 256


@dataclass(frozen=True)
class Memory:
    """Bytes that this process and the interpreter see: the file `path`, mapped."""

    path: Path
    bytes: Array

    def view(self, offset: int, dtype: Any, shape: tuple[int, ...]) -> Array:
        """The array that lies `offset` bytes in; writing it changes the memory."""
        count = int(np.prod(shape, dtype=np.int64))
        piece: Array = self.bytes[offset : offset + count * np.dtype(dtype).itemsize]
        found: Array = piece.view(dtype).reshape(shape)
        return found


@dataclass(frozen=True)
class Address:
    """A pointer argument: `offset` bytes into `memory`, to elements of Triton's type (`*bf16`).

    The kernel may touch `bytes` from there on; None is all of the rest.
    """

    memory: Memory
    offset: int
    type: str
    bytes: int | None = None


@dataclass(frozen=True)
class Tiled:
    """What lies at `base` as a matrix of `shape`, which a kernel reads through a tensor map."""

    base: Array | Address
    shape: tuple[int, int]
    tile: tuple[int, int]


Argument = Array | Address | Tiled | int | float | None


def passed(
    parameters: Sequence[Parameter],
    given: Sequence[Argument],
    constants: Mapping[str, int],
    number: Callable[[str], int],
) -> list[Argument]:
    """`given` as a kernel takes it: matrices where its `parameters` have one. `number` gives sizes
    by their names."""
    by_name = {each.name: x for each, x in zip(parameters, given, strict=True)}
    found: list[Argument] = []
    for parameter, x in zip(parameters, given, strict=True):
        matrix = parameter.matrix
        if matrix is None:
            found.append(x)
            continue
        assert isinstance(x, np.ndarray | Address)
        rows = by_name[matrix.rows] if matrix.rows in by_name else number(matrix.rows)
        assert isinstance(rows, int)
        height, width = (constants[n] if isinstance(n, str) else n for n in matrix.tile)
        found.append(Tiled(x, (rows, matrix.columns), (height, width)))
    return found


class Interpreter:
    """A process in which kernels run; a context that ends it.

    A kernel that fails raises AssertionError with the traceback of the process, which is then
    started anew.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hetc-interpreter-")
        self._process: subprocess.Popen[str] | None = None
        self._memories = 0
        self._scratch = self.allocate(1 << 20)

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
        self._folder.cleanup()

    def allocate(self, size: int) -> Memory:
        """Zeroed memory of `size` bytes that arguments may point into."""
        path = Path(self._folder.name) / f"memory{self._memories}"
        self._memories += 1
        mapped: Array = np.memmap(path, np.uint8, "w+", shape=(max(size, 1),))
        return Memory(path, mapped)

    def run(
        self,
        source: str,
        symbol: str,
        grid: Sequence[int],
        arguments: Sequence[Argument],
        constants: Mapping[str, int | float | bool] | None = None,
    ) -> None:
        """Launch the function `symbol` of the module `source` on `grid`.

        `arguments` are those of its parameters that are no constants, in order: an array (changed
        in place), an `Address`, either of them `Tiled`, an int (i32), a float (fp32), or None (no
        pointer). Raises
        AssertionError when the kernel fails, or reads or writes beside what it was given.
        """
        bases = [x.base if isinstance(x, Tiled) else x for x in arguments]
        arrays = [x for x in bases if isinstance(x, np.ndarray)]
        # Apart from each other, so that what lies behind one is none of the others.
        ends = np.cumsum([(array.nbytes // _ALIGNMENT + 2) * _ALIGNMENT for array in arrays])
        offsets = [0, *map(int, ends)]
        if offsets[-1] > self._scratch.bytes.size:
            self._scratch = self.allocate(2 * offsets[-1])
        views = [
            self._scratch.view(offset, array.dtype, array.shape)
            for offset, array in zip(offsets, arrays, strict=False)
        ]
        for view, array in zip(views, arrays, strict=True):
            view[...] = array
        places = iter(offsets)
        told = [
            self._told(
                Address(self._scratch, next(places), f"*{_ELEMENTS[x.dtype.name]}", x.nbytes)
                if isinstance(x, np.ndarray)
                else x
            )
            for x in bases
        ]
        for place, x in zip(told, arguments, strict=True):
            if isinstance(x, Tiled):
                assert place is not None
                place |= {"shape": list(x.shape), "tile": list(x.tile)}
        self._request(
            {
                "source": source,
                "symbol": symbol,
                "grid": list(grid),
                "arguments": told,
                "constants": dict(constants or {}),
            }
        )
        for view, array in zip(views, arrays, strict=True):
            array[...] = view

    def _told(self, argument: Address | int | float | None) -> dict[str, Any] | None:
        match argument:
            case None:
                return None
            case Address(memory, offset, kind, size):
                size = memory.bytes.size - offset if size is None else size
                return {"type": kind, "memory": str(memory.path), "offset": offset, "bytes": size}
            case float():
                return {"type": "fp32", "value": argument}
            case int():
                return {"type": "i32", "value": argument}

    def _request(self, request: dict[str, Any]) -> None:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            code = self._process.wait()
            self._process = None
            told = self._errors.read_text(encoding="utf-8")
            raise AssertionError(f"the interpreter ended with {code}\n{told[-6000:]}")

    @property
    def _errors(self) -> Path:
        return Path(self._folder.name) / "stderr"

    def _start(self) -> subprocess.Popen[str]:
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.backends.triton.interpreter_worker",
                    self._folder.name,
                ],
                cwd=Path(__file__).parents[3],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            )
