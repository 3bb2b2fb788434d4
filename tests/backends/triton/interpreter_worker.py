"""The process of `interpreting.py`: reads launches as lines of JSON, runs them, says `done`.

What goes wrong ends it, with the traceback on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hetc.backends.triton.source import load_function
from tests.backends.triton import interpreter_patch


@cache
def mapped(path: str) -> np.memmap[Any, np.dtype[np.uint8]]:
    """The memory in the file `path`."""
    return np.memmap(path, np.uint8, "r+")


@cache
def function(source: str, symbol: str, folder: Path) -> Any:
    """The function `symbol` of `source`, imported once."""
    return load_function(source, symbol, folder)


def address(told: dict[str, Any]) -> int:
    """Where the memory of a pointer argument lies in this process."""
    return int(mapped(told["memory"]).ctypes.data) + int(told["offset"])


def argument(told: dict[str, Any] | None) -> Any:
    """What the interpreter passes on to a kernel as it is: one of its own tensors, or None."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if told is None:
        return None
    kind = tl.str_to_ty(told["type"], None)
    if "memory" in told:
        number = np.array([address(told)], np.uint64)
    else:
        number = np.array([told["value"]], np.int32 if told["type"] == "i32" else np.float32)
    value = tl.tensor(TensorHandle(number, kind), kind)
    return tiled(value, told["shape"], told["tile"]) if "tile" in told else value


def tiled(base: Any, shape: list[int], tile: list[int]) -> Any:
    """The matrix at `base` as a kernel is told of it."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle, interpreter_semantic

    def scalar(number: int, kind: Any, stored: type[np.signedinteger[Any]]) -> Any:
        return tl.tensor(TensorHandle(np.array([number], stored), kind), kind)

    return interpreter_semantic.make_tensor_descriptor(
        base=base,
        shape=[scalar(size, tl.int32, np.int32) for size in shape],
        strides=[scalar(shape[1], tl.int64, np.int64), tl.constexpr(1)],
        block_shape=[tl.constexpr(size) for size in tile],
    )


def main(folder: Path) -> None:
    """Serve until stdin ends."""
    # What kernels print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bounds = interpreter_patch.Bounds()
    interpreter_patch.patch(bounds)
    for line in sys.stdin:
        request = json.loads(line)
        kernel = function(request["source"], request["symbol"], folder)
        given = iter([argument(told) for told in request["arguments"]])
        pointers = [told for told in request["arguments"] if told and "memory" in told]
        bounds.allow(
            (address(told), address(told) + told["bytes"]) for told in pointers if told["bytes"]
        )
        constants = request["constants"]
        passed = {
            name: constants[name] if name in constants else next(given) for name in kernel.arg_names
        }
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            kernel[tuple(request["grid"])](**passed)
        answers.write("done\n")
        answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
