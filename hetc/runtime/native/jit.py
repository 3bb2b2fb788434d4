"""Machine code from MLIR text, made by MLIR's ExecutionEngine; the one module that imports it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import tempfile
from pathlib import Path
from typing import Any

from hetc.errors import MissingDependency, RuntimeFault
from hetc.runtime.native.code_cache import CodeCache
from hetc.runtime.native.cpu import cpu_identity
from hetc.runtime.native.object_code import ObjectCode

# Text holds pointers and vectors alone, so that no memref needs to be lowered.
_PIPELINE = (
    "builtin.module(convert-vector-to-llvm{reassociate-fp-reductions=1},convert-scf-to-cf,"
    "convert-arith-to-llvm,convert-index-to-llvm,convert-cf-to-llvm,convert-func-to-llvm,"
    "reconcile-unrealized-casts)"
)
# A third level takes half as long again to compile and runs no faster; none takes half as long, and
# int8 prefills 0.8 times as fast (measured).
_OPTIMIZE = 2


class Compiled:
    """One function `(!llvm.ptr) -> ()` of a module, as machine code for this CPU.

    A call gives up Python's lock, so that several threads run it at once. `was_kept` says whether
    the code came out of the cache.
    """

    def __init__(
        self, text: str, function: str, *, at: str, code_cache: CodeCache | None = None
    ) -> None:
        """Compile `text`, or take its code from the cache; `at` names it in errors.

        Raises MissingDependency without torch-mlir, RuntimeFault HETC-R040 where MLIR refuses.
        """
        # The wrapper that takes its argument as ExecutionEngine passes it.
        symbol, key = f"_mlir_{function}", _key(text)
        kept = code_cache.read(key, symbol) if code_cache else None
        self.was_kept = kept is not None
        self._code: ObjectCode | _Jitted = kept or _Jitted(text, function, at)
        if code_cache is not None and isinstance(self._code, _Jitted):
            # The next load runs the same, and all that MLIR holds can go.
            self._code = code_cache.write(key, symbol, self._code.object_file()) or self._code
            _give_back()
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address)

    def __call__(self, argument: int) -> None:
        """Run the function on the address `argument`."""
        cell = ctypes.c_void_p(argument)
        packed = (ctypes.c_void_p * 1)(ctypes.addressof(cell))
        self._function(ctypes.addressof(packed))


def _key(text: str) -> bytes:
    """All that the code of `text` depends on."""
    try:
        compiler = importlib.metadata.version("torch-mlir")
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing() from error
    return "\0".join((compiler, _PIPELINE, str(_OPTIMIZE), cpu_identity(), text)).encode()


class _Jitted:
    """Code that lives in MLIR's ExecutionEngine."""

    def __init__(self, text: str, function: str, at: str) -> None:
        mlir = _mlir()
        try:
            with mlir.Context():
                module = mlir.Module.parse(text)
                mlir.PassManager.parse(_PIPELINE).run(module.operation)
                self._engine = mlir.ExecutionEngine(
                    module, opt_level=_OPTIMIZE, enable_object_dump=True
                )
                self.address: int = self._engine.raw_lookup(function)
        # MLIR's errors share no base class but Exception.
        except Exception as error:
            raise _refused(_with_stage(at, text, str(error)), str(error)) from error
        # Where a symbol is missing, the lookup only prints so and gives 0.
        if not self.address:
            raise _refused(at, f"no function {function}")

    def object_file(self) -> bytes:
        """The same code as an object file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "half.o"
            self._engine.dump_to_object_file(str(file))
            return file.read_bytes()


def _give_back() -> None:
    """Return what MLIR freed to the system: glibc would keep 40 MB of it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Mlir:
    """What is used of torch-mlir's bindings."""

    def __init__(self) -> None:
        from torch_mlir.execution_engine import ExecutionEngine
        from torch_mlir.ir import Context, Module
        from torch_mlir.passmanager import PassManager

        self.Context: Any = Context
        self.Module: Any = Module
        self.PassManager: Any = PassManager
        self.ExecutionEngine: Any = ExecutionEngine


def _mlir() -> _Mlir:
    try:
        return _Mlir()
    except ImportError as error:
        raise _missing() from error


def _missing() -> MissingDependency:
    return MissingDependency("torch-mlir", "compile", needed_for="the executor native")


def _with_stage(at: str, text: str, error: str) -> str:
    """`at` and the stage, with its op, whose line MLIR names; compilers write it above its code."""
    line = re.search(r'"-":(\d+):', error)
    before = text.splitlines()[: int(line[1])] if line else []
    stages = [row.strip().removeprefix("// ") for row in before if row.startswith("// stage ")]
    return f"{at}, {stages[-1]}" if stages else at


def _refused(at: str, found: str) -> RuntimeFault:
    lines = found.strip().splitlines()
    # Before the error itself comes a line that only says so.
    lines = [line for line in lines if "error: " in line] or lines
    return RuntimeFault(
        "HETC-R040",
        "this machine cannot compile the native code of the bundle",
        at=at,
        found=lines[0] if lines else "MLIR gave no reason",
        do="run it with --executor onnx, and report this with the output of hetc doctor",
    )
