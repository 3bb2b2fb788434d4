"""A process that compiles the kernels it is sent; the only module that imports Triton's compiler.

Run by `compile.py` as `python -m hetc.backends.triton.worker FOLDER`: tasks come in on standard
input, answers go out on standard output. The first task that fails ends the process, and standard
error has the reason.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hetc.backends.triton.compile import Answer, Task, receive, send
from hetc.backends.triton.cubin import read_notes
from hetc.backends.triton.source import load_function
from hetc.backends.triton.spills import spills_in_loop
from hetc.bundle.launches import Box, Parameter

_FUNCTION = re.compile(r"^\s*tt\.func public @\w+\((.*?)\) attributes", re.MULTILINE | re.DOTALL)
_PROMISE = re.compile(r"tt\.divisibility = (\d+)")
# Bytes, by the number of the driver's CUtensorMapSwizzle.
_SWIZZLES = (0, 32, 64, 128)
# Of Triton's two compilers of PTX the older one is `ptxas`.
_PTXAS_OF_NEW = "TRITON_PTXAS_BLACKWELL_PATH"


def main() -> None:
    """Answer tasks until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    tasks = os.fdopen(os.dup(0), "rb")
    # Triton prints, and starts processes: they see nothing of the two pipes.
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    folder = Path(sys.argv[1])
    while (task := receive(tasks, Task)) is not None:
        send(answers, compile_task(task, folder))


def compile_task(task: Task, folder: Path) -> Answer:
    """Compile one kernel; its source is written to `folder`, from where Triton reads it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    ptxas = _choose_ptxas(task.arch)
    function = load_function(task.source, task.symbol, folder)
    names: list[str] = function.arg_names
    types = {parameter.name: _type(parameter, task.constants) for parameter in task.parameters}
    if [name for name in names if name not in task.constants] != list(types):
        raise TypeError(f"{task.symbol} takes {names}, and is given {[*types, *task.constants]}")
    source = ASTSource(
        function,
        {name: types.get(name, "constexpr") for name in names},
        task.constants,
        _promises(names, task.parameters),
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", task.arch, 32),
        options={
            "num_warps": task.warps,
            "num_stages": task.stages,
            "num_ctas": 1,
            # Triton's default is another one from 3.10 on.
            "enable_fp_fusion": True,
        },
    )
    cubin = compiled.asm["cubin"]
    spills = read_notes(cubin, task.symbol).frame_bytes > 0
    return Answer(
        cubin=cubin,
        spills_in_loop=spills and spills_in_loop(_machine_code(cubin, folder)),
        promised=promised(compiled.asm["ttir"]),
        shared_bytes=compiled.metadata.shared,
        tmem_columns=compiled.metadata.tmem_size or 0,
        scratch_bytes=compiled.metadata.global_scratch_size,
        boxes=tuple(_box(told) for told in compiled.metadata.tensordesc_meta or ()),
        triton=triton.__version__,
        ptxas=ptxas,
    )


def promised(ttir: str) -> tuple[int, ...]:
    """What each parameter is a multiple of in Triton's first form of a kernel: attributes that are
    not given exactly as Triton expects them are ignored without a word."""
    function = _FUNCTION.search(ttir)
    if function is None:
        return ()
    found = (_PROMISE.search(parameter) for parameter in function[1].split("%")[1:])
    return tuple(int(promise[1]) if promise else 1 for promise in found)


def _type(parameter: Parameter, constants: Mapping[str, int]) -> str:
    """Triton's type of a parameter in one configuration."""
    if parameter.matrix is None:
        return parameter.type
    tile = ",".join(str(constants.get(str(size), size)) for size in parameter.matrix.tile)
    return f"tensordesc<{parameter.type.removeprefix('*')}[{tile}]>"


def _box(told: Mapping[str, Any]) -> Box:
    """A tensor map as Triton's launcher would make it."""
    rows, columns = told["block_size"]
    return Box(rows=rows, columns=columns, swizzle=_SWIZZLES[told["swizzle"]])


def _promises(names: list[str], parameters: tuple[Parameter, ...]) -> dict[tuple[int], Any]:
    """Triton's attributes by the place of a parameter, in the one form that it does not ignore."""
    return {
        (names.index(parameter.name),): [["tt.divisibility", parameter.divisible]]
        for parameter in parameters
        if parameter.divisible > 1 and parameter.matrix is None
    }


def _machine_code(cubin: bytes, folder: Path) -> str:
    """The instructions of a cubin, as the disassembler that comes with Triton writes them."""
    from triton import knobs

    path = folder / f"spilled-{os.getpid()}.cubin"
    path.write_bytes(cubin)
    run = [knobs.nvidia.cuobjdump.path, "-sass", str(path)]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def _choose_ptxas(arch: int) -> str:
    """Make Triton use the older of its compilers of PTX that knows `arch`; its version (`12.9`).

    A cubin needs a driver of the compiler's major version: what 13 makes does not load with 12.
    """
    from triton import knobs

    if f"'sm_{arch}'" in _known_to(knobs.nvidia.ptxas.path):
        os.environ[_PTXAS_OF_NEW] = knobs.nvidia.ptxas.path
        return str(knobs.nvidia.ptxas.version)
    os.environ.pop(_PTXAS_OF_NEW, None)
    return str(knobs.nvidia.ptxas_blackwell.version)


@functools.cache
def _known_to(ptxas: str) -> str:
    """The help of a compiler of PTX, which lists architectures in quotes."""
    return subprocess.run([ptxas, "--help"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
