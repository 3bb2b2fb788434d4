"""Compiles kernels to cubins, many at a time, on a machine that needs no GPU.

Triton is imported in processes of their own (`worker.py`), so that neither its interpreter, which
tests switch on by an environment variable, nor a variable of the user changes what is compiled:
equal kernels give equal bytes wherever they are built.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from hetc.backends.triton.cubin import read_notes
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import arch_number
from hetc.bundle.launches import Box, Config, Parameter
from hetc.errors import BackendError, MissingDependency

# Told how many of how many are compiled.
Progress = Callable[[int, int], None]
Message = TypeVar("Message")

_LENGTH = struct.Struct("<Q")
# Variables that begin so change what Triton, LLVM or ptxas do.
_FOREIGN = ("TRITON_", "MLIR_", "LLVM_", "NVPTX_", "PTXAS_", "DISABLE_")
_WORKER = "hetc.backends.triton.worker"
# As MLIR and ptxas tell an error, behind the name of a temporary file.
_ERROR = re.compile(r"\berror\s*:\s*(.+)")
# Triton passes two addresses of scratch memory behind the parameters of the function.
_SCRATCH_PARAMETERS = (8, 8)


@dataclass(frozen=True)
class Job:
    """A kernel to compile in one of its configurations, for `arch` (`sm_90`)."""

    kernel: Kernel
    config: Config
    arch: str

    def __str__(self) -> str:
        constants = "".join(f" {name}={value}" for name, value in self.config.constants.items())
        shape = f"warps={self.config.warps} stages={self.config.stages}"
        return f"{self.kernel.id}{constants} {shape} for {self.arch}"


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel and what it needs: threads of a block, bytes of shared memory that a launch
    asks for, registers of a thread, bytes that a thread spills and whether in a loop, columns of
    tensor memory, and bytes of global scratch memory of a block. `boxes` are those of its tensor
    maps; `triton` and `ptxas` are the versions that made it."""

    data: bytes
    threads: int
    shared_bytes: int
    registers: int
    spill_bytes: int
    spills_in_loop: bool
    tmem_columns: int
    scratch_bytes: int
    boxes: tuple[Box, ...]
    triton: str
    ptxas: str


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is sent; `arch` is the number alone."""

    source: str
    symbol: str
    parameters: tuple[Parameter, ...]
    constants: dict[str, int]
    warps: int
    stages: int
    arch: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker sends back. `promised` are the divisibilities that Triton took over."""

    cubin: bytes
    spills_in_loop: bool
    promised: tuple[int, ...]
    shared_bytes: int
    tmem_columns: int
    scratch_bytes: int
    boxes: tuple[Box, ...]
    triton: str
    ptxas: str


def compile_kernels(
    jobs: Sequence[Job], *, workers: int | None = None, progress: Progress | None = None
) -> list[Cubin]:
    """The cubin of every job, in order; one worker a core unless `workers` says how many.

    Raises MissingDependency without Triton, BackendError HETC-E070 for the first job that does not
    compile, HETC-E073 for an unknown architecture, HETC-E074 where this Triton is not as hetc knows
    it.
    """
    if importlib.util.find_spec("triton") is None:
        raise MissingDependency("triton", "cuda", needed_for="compiling GPU kernels")
    tasks = [_task(job) for job in jobs]
    count = min(workers or _cores(), len(jobs))
    if not count:
        return []
    cubins = []
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="hetc-triton-", ignore_cleanup_errors=True)
        )
        # Left after the workers, whose end frees the threads that wait for them.
        threads = stack.enter_context(ThreadPoolExecutor(count))
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(count):
            noise = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            worker = _Worker(Path(folder), noise)
            stack.callback(worker.end)
            idle.put(worker)
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)

        def answer(task: Task) -> Answer:
            worker = idle.get()
            try:
                return worker.compile(task)
            finally:
                idle.put(worker)

        answers = threads.map(answer, tasks)
        for done, job in enumerate(jobs):
            try:
                cubins.append(_cubin(job, next(answers)))
            except _WorkerEnded as error:
                raise BackendError(
                    "HETC-E070",
                    "a kernel does not compile",
                    at=str(job),
                    found=error,
                    do="compile for another target, or report it: the kernel is hetc's own",
                ) from None
            if progress is not None:
                progress(done + 1, len(jobs))
    return cubins


def receive(stream: IO[bytes], kind: type[Message]) -> Message | None:
    """The next message of a pipe, None where the pipe ends."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(length)
    body = stream.read(size)
    return msgspec.msgpack.decode(body, type=kind) if len(body) == size else None


def send(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Write a message to a pipe."""
    body = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


class _WorkerEnded(Exception):
    """A worker ended instead of answering; the text is the first line that says why."""


class _Worker:
    """A process that compiles one task after the other, and ends at the first that fails.

    What Triton, MLIR and ptxas print goes to the file `noise`: a failed pass prints pages of IR.
    """

    def __init__(self, folder: Path, noise: IO[bytes]) -> None:
        self._noise = noise
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=_environment(folder),
        )

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def compile(self, task: Task) -> Answer:
        """What the process answers; raises _WorkerEnded."""
        tasks, answers = self._process.stdin, self._process.stdout
        assert tasks is not None
        assert answers is not None
        try:
            send(tasks, task)
            answer = receive(answers, Answer)
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise _WorkerEnded(self._last_words())
        return answer

    def _last_words(self) -> str:
        """The first error that a compiler printed, or else what Python ended with."""
        code = self._process.wait()
        self._noise.seek(0)
        text = self._noise.read().decode("utf-8", "replace")
        if error := _ERROR.search(text):
            return error[1].strip()
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"the compiler ended with {code}"


def _task(job: Job) -> Task:
    return Task(
        source=job.kernel.source,
        symbol=job.kernel.symbol,
        parameters=job.kernel.parameters,
        constants={**(job.kernel.constants or {}), **job.config.constants},
        warps=job.config.warps,
        stages=job.config.stages,
        arch=arch_number(job.arch),
    )


def _cubin(job: Job, answer: Answer) -> Cubin:
    """The answer, once it keeps what the launch plan will say of it."""
    notes = read_notes(answer.cubin, str(job))
    parameters = job.kernel.parameters
    sizes = (*(size for each in parameters for size in each.sizes), *_SCRATCH_PARAMETERS)
    # Of a tensor map nothing is promised: alignment is a part of it.
    divisible = tuple(
        1 if each.matrix else each.divisible for each in parameters for _ in each.sizes
    )
    matrices = sum(each.matrix is not None for each in parameters)
    for what, expected, found in (
        ("the number of its tensor maps", matrices, len(answer.boxes)),
        ("the name of the function", job.kernel.symbol, notes.symbol),
        ("the sizes of its parameters", sizes, tuple(size for _, size in notes.parameters)),
        ("the divisibility of its parameters", divisible, answer.promised),
    ):
        if expected != found:
            raise BackendError(
                "HETC-E074",
                f"this Triton does not keep {what}",
                at=str(job),
                expected=expected,
                found=f"{found} by Triton {answer.triton}",
                do="install a Triton from 3.6 to 3.9",
            )
    return Cubin(
        data=answer.cubin,
        threads=notes.threads,
        shared_bytes=answer.shared_bytes,
        registers=notes.registers,
        spill_bytes=notes.frame_bytes,
        spills_in_loop=answer.spills_in_loop,
        tmem_columns=answer.tmem_columns,
        scratch_bytes=answer.scratch_bytes,
        boxes=answer.boxes,
        triton=answer.triton,
        ptxas=answer.ptxas,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(folder: Path) -> dict[str, str]:
    """The user's variables without those that change a compilation, and with hetc's own."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | {
        # What can be imported here can be there.
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "TMPDIR": str(folder),
        "TRITON_CACHE_DIR": str(folder / "cache"),
        "TRITON_ALWAYS_COMPILE": "1",
        # Lines would put the path of the source into the cubin, and make it three times as large.
        "TRITON_DISABLE_LINE_INFO": "1",
    }
