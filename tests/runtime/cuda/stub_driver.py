"""A stub of `cuda.bindings.driver`: the same names, signatures and enums, on memory of the host.

It is stricter than a GPU: work is done in any order that streams and events allow, memory begins as
junk, every address is checked, nothing may be freed that work still uses, and any call can be made
to fail. Kernels are Python functions by symbol.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import json
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cuda.bindings import driver as real
from numpy.typing import NDArray

from tests.runtime.cuda.stub_memory import StubMemory, Violation
from tests.runtime.cuda.stub_streams import Order, Record, Streams, Work

OK, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE = 0, 1, 2, 100
INVALID_CONTEXT, NOT_FOUND, NOT_PERMITTED = 201, 500, 800
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901
_USUAL_SHARED = 48 * 1024
# What may be called without a context.
_FREE = ("cuInit", "cuDriverGetVersion", "cuDevice", "cuCtxPush")
# What is not allowed on or beside a stream that is being captured.
_SYNCHRONIZING = ("cuStreamSynchronize", "cuEventSynchronize")


@dataclass(frozen=True)
class StubLaunch:
    """A launch as a kernel sees it: raw arguments as unsigned numbers."""

    grid: tuple[int, int, int]
    threads: int
    shared: int
    arguments: tuple[int, ...]
    memory: StubMemory

    def array(self, index: int, dtype: Any, *shape: int) -> NDArray[Any]:
        """The device memory that an argument points to."""
        return self.memory.array(self.arguments[index], dtype, shape)

    def matrix(self, index: int, dtype: Any) -> NDArray[Any]:
        """The device memory of a tensor map, of which the arguments behind it tell the same."""
        told = _read_map(self.arguments[index])
        rows, columns = told.shape
        if self.arguments[index + 1 : index + 5] != (rows, columns, columns, 1):
            raise Violation(f"{told} is another matrix than the arguments say")
        return self.memory.array(told.address, dtype, told.shape)


Kernel = Callable[[StubLaunch], None]
_MAP = struct.Struct("<5Q88x")


@dataclass(frozen=True)
class StubMap:
    """What a tensor map tells; 128 bytes, as the stub writes them."""

    address: int
    shape: tuple[int, int]
    box: tuple[int, int]

    def __post_init__(self) -> None:
        raw = _MAP.pack(self.address, *self.shape, *self.box)
        object.__setattr__(self, "_held", (ctypes.c_uint8 * len(raw)).from_buffer_copy(raw))

    def getPtr(self) -> int:  # as the bindings call it
        """Where it lies."""
        return ctypes.addressof(self._held)  # type: ignore[attr-defined]


def _read_map(raw: int) -> StubMap:
    address, rows, columns, box_rows, box_columns = _MAP.unpack(raw.to_bytes(_MAP.size, "little"))
    return StubMap(address, (rows, columns), (box_rows, box_columns))


def cubin(symbol: str, sizes: Sequence[int], milliseconds: float = 0.01) -> bytes:
    """What the stub takes for a cubin: a kernel with parameters of `sizes` bytes."""
    told = {"symbol": symbol, "sizes": list(sizes), "milliseconds": milliseconds}
    return json.dumps(told).encode()


@functools.cache
def _parameter_types(name: str) -> tuple[type | None, ...]:
    """Of a function of the bindings, which enums it wants; None where anything may be given."""
    parameters = inspect.signature(getattr(real, name)).parameters.values()
    return tuple(getattr(real, str(p.annotation).strip("'"), None) for p in parameters)


@dataclass
class _Function:
    symbol: str
    sizes: tuple[int, ...]
    milliseconds: float
    allowed: int = _USUAL_SHARED


@dataclass
class StubBindings:
    """`cuda.bindings.driver` of a machine with `devices` GPUs; `fails` says with which CUresult a
    call fails, given its number and name (0: it works)."""

    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    order: Order = "late"
    seed: int = 0
    devices: int = 1
    capability: tuple[int, int] = (9, 0)
    memory_bytes: int = 2**30
    shared_bytes: int = 227 * 1024
    fails: Callable[[int, str], int] = lambda number, name: OK
    has_parameter_info: bool = True

    def __post_init__(self) -> None:
        self.memory = StubMemory(self.memory_bytes)
        self.streams = Streams(self.order, self.seed)
        self.calls: list[str] = []
        self.launches: list[str] = []
        self._handles = itertools.count(1)
        self._contexts: list[int] = []
        self._retained = 0
        self._events: dict[int, Record | None] = {}
        self._modules: dict[int, bytes] = {}
        self._functions: dict[int, _Function] = {}
        self._captures: dict[int, list[Work] | None] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._instances: dict[int, list[Work]] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "cuFuncGetParamInfo" and not self.has_parameter_info:
            raise AttributeError(name)
        if name.startswith(("CU", "cuuint")):
            return getattr(real, name)
        if name.startswith("cu"):
            return lambda *arguments: self._enter(name, arguments)
        raise AttributeError(name)

    @property
    def live(self) -> dict[str, int]:
        """What was taken and not given back, by kind."""
        held = {
            **self.memory.live,
            "streams": len(self.streams.queues),
            "events": len(self._events),
            "modules": len(self._modules),
            "graphs": len(self._graphs),
            "instances": len(self._instances),
            "retained": self._retained,
            "pushed": len(self._contexts),
        }
        return {kind: count for kind, count in held.items() if count}

    def _enter(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What every call goes through."""
        for wanted, given in zip(_parameter_types(name), arguments, strict=True):
            if wanted is not None and not isinstance(given, wanted):
                raise TypeError(f"{name}: {given!r} is not a {wanted.__name__}")
        self.calls.append(name)
        code = self.fails(len(self.calls) - 1, name)
        if not code and not name.startswith(_FREE) and not self._contexts:
            code = INVALID_CONTEXT
        if not code and name in _SYNCHRONIZING and self._captures:
            self._captures = dict.fromkeys(self._captures)
            code = CAPTURE_UNSUPPORTED
        if code:
            if name == "cuStreamEndCapture":
                # The capture is over in any case.
                self._captures.pop(int(arguments[0]), None)
            return (real.CUresult(code), None)
        found = getattr(self, f"_{name}")(*arguments)
        if isinstance(found, real.CUresult):
            return (found, None)
        results = found if isinstance(found, tuple) else () if found is None else (found,)
        return (real.CUresult.CUDA_SUCCESS, *results)

    def _push(self, stream: Any, work: Work) -> None:
        handle = int(stream)
        if handle not in self.streams.queues:
            raise Violation(f"no stream {handle}")
        if handle in self._captures:
            held = self._captures[handle]
            if held is not None:
                held.append(work)
            return
        self.streams.push(handle, work)

    def _cuInit(self, flags: int) -> Any:
        return None if self.devices else real.CUresult(NO_DEVICE)

    def _cuDriverGetVersion(self) -> int:
        return 13000

    def _cuDeviceGetCount(self) -> int:
        return self.devices

    def _cuDeviceGet(self, ordinal: int) -> Any:
        return real.CUdevice(ordinal)

    def _cuDeviceGetName(self, length: int, device: Any) -> bytes:
        return b"Stub H200".ljust(length, b"\0")

    def _cuDeviceTotalMem(self, device: Any) -> int:
        return self.memory_bytes

    def _cuDeviceGetAttribute(self, attribute: Any, device: Any) -> int:
        name = attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        return {
            "COMPUTE_CAPABILITY_MAJOR": self.capability[0],
            "COMPUTE_CAPABILITY_MINOR": self.capability[1],
            "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": self.shared_bytes,
        }[name]

    def _cuDevicePrimaryCtxRetain(self, device: Any) -> Any:
        self._retained += 1
        return real.CUcontext(7)

    def _cuDevicePrimaryCtxRelease(self, device: Any) -> None:
        self._retained -= 1
        if not self._retained:
            # All else would go with it as well, but is to be given back before.
            self._events.clear()
            self.streams.queues.clear()

    def _cuCtxPushCurrent(self, context: Any) -> None:
        if int(context) != 7 or not self._retained:
            raise Violation("a context that nobody retains")
        self._contexts.append(int(context))

    def _cuCtxPopCurrent(self) -> Any:
        return real.CUcontext(self._contexts.pop())

    def _cuMemGetInfo(self) -> tuple[int, int]:
        return self.memory.free, self.memory_bytes

    def _cuMemAlloc(self, size: int) -> Any:
        if size < 1:
            return real.CUresult(INVALID_VALUE)
        address = self.memory.allocate(size)
        return real.CUresult(OUT_OF_MEMORY) if address is None else real.CUdeviceptr(address)

    def _cuMemHostAlloc(self, size: int, flags: int) -> Any:
        return self.memory.allocate_pinned(size) if size else real.CUresult(INVALID_VALUE)

    def _cuMemFree(self, address: Any) -> Any:
        return self._release(int(address), pinned=False)

    def _cuMemFreeHost(self, address: int) -> Any:
        return self._release(address, pinned=True)

    def _release(self, address: int, *, pinned: bool) -> Any:
        if self.streams.touching(lambda used: self.memory.base(used) == address):
            raise Violation(f"{address:#x} is freed while work that uses it is under way")
        return None if self.memory.release(address, pinned=pinned) else real.CUresult(INVALID_VALUE)

    def _cuMemcpyHtoDAsync(self, target: Any, source: int, size: int, stream: Any) -> None:
        self._copy(int(target), int(source), size, stream, to_pinned=False, from_pinned=True)

    def _cuMemcpyDtoHAsync(self, target: int, source: Any, size: int, stream: Any) -> None:
        self._copy(int(target), int(source), size, stream, to_pinned=True, from_pinned=False)

    def _cuMemcpyDtoDAsync(self, target: Any, source: Any, size: int, stream: Any) -> None:
        self._copy(int(target), int(source), size, stream, to_pinned=False, from_pinned=False)

    def _copy(
        self,
        target: int,
        source: int,
        size: int,
        stream: Any,
        *,
        to_pinned: bool,
        from_pinned: bool,
    ) -> None:
        def run() -> None:
            # Both looked up when it is done, and read then: pinned memory may have changed.
            self.memory.view(target, size, pinned=to_pinned)[:] = self.memory.view(
                source, size, pinned=from_pinned
            )

        self.memory.view(target, size, pinned=to_pinned)
        self.memory.view(source, size, pinned=from_pinned)
        self._push(stream, Work(run, (target, source)))

    def _cuMemsetD8Async(self, address: Any, value: int, size: int, stream: Any) -> None:
        at = int(address)
        self.memory.view(at, size)
        self._push(stream, Work(lambda: self.memory.view(at, size).fill(value), (at,)))

    def _cuStreamCreate(self, flags: int) -> Any:
        handle = next(self._handles)
        self.streams.queues[handle] = deque()
        return real.CUstream(handle)

    def _cuStreamDestroy(self, stream: Any) -> None:
        if self.streams.queues.pop(int(stream)):
            raise Violation("a stream is destroyed with work in it")

    def _cuStreamSynchronize(self, stream: Any) -> None:
        self.streams.finish(int(stream))

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        record = self._events[int(event)]
        if int(stream) in self._captures:
            raise Violation("a captured stream waits for an event outside")
        if record is not None:
            self._push(stream, Work(lambda: None, waits_for=record))

    def _cuEventCreate(self, flags: int) -> Any:
        handle = next(self._handles)
        self._events[handle] = None
        return real.CUevent(handle)

    def _cuEventDestroy(self, event: Any) -> None:
        del self._events[int(event)]

    def _cuEventRecord(self, event: Any, stream: Any) -> None:
        if int(stream) in self._captures:
            raise Violation("an event is recorded in a captured stream")
        record = Record(int(stream))

        def run() -> None:
            record.done, record.time = True, self.streams.clock

        self._events[int(event)] = record
        self._push(stream, Work(run, milliseconds=0.0))

    def _cuEventSynchronize(self, event: Any) -> None:
        record = self._events[int(event)]
        if record is not None:
            self.streams.reach(record)

    def _cuEventElapsedTime(self, start: Any, end: Any) -> Any:
        first, last = self._events[int(start)], self._events[int(end)]
        if first is None or last is None or not (first.done and last.done):
            return real.CUresult(INVALID_VALUE)
        return last.time - first.time

    def _cuModuleLoadData(self, image: bytes) -> Any:
        handle = next(self._handles)
        self._modules[handle] = image
        return real.CUmodule(handle)

    def _cuModuleUnload(self, module: Any) -> None:
        del self._modules[int(module)]

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        told = json.loads(self._modules[int(module)])
        if told["symbol"] != name.decode() or told["symbol"] not in self.kernels:
            return real.CUresult(NOT_FOUND)
        handle = next(self._handles)
        found = _Function(told["symbol"], tuple(told["sizes"]), told["milliseconds"])
        self._functions[handle] = found
        return real.CUfunction(handle)

    def _cuFuncSetAttribute(self, function: Any, attribute: Any, value: int) -> Any:
        if value > self.shared_bytes:
            return real.CUresult(INVALID_VALUE)
        self._functions[int(function)].allowed = value
        return None

    def _cuFuncGetParamInfo(self, function: Any, index: int) -> Any:
        sizes = self._functions[int(function)].sizes
        return (0, sizes[index]) if index < len(sizes) else real.CUresult(INVALID_VALUE)

    def _cuTensorMapEncodeTiled(
        self,
        element: Any,
        rank: int,
        address: int,
        dims: list[Any],
        strides: list[Any],
        box: list[Any],
        steps: list[Any],
        *form: Any,
    ) -> Any:
        width = {9: 2, 6: 2, 7: 4}[int(element)]
        (columns, rows), (box_columns, box_rows) = map(int, dims), map(int, box)
        (stride,) = map(int, strides)
        rules = (
            rank == 2,
            address % 16 == stride % 16 == 0,
            stride == columns * width,
            1 <= box_rows <= 256,
            1 <= box_columns <= 256,
            box_columns * width % 16 == 0,
            [int(step) for step in steps] == [1, 1],
        )
        if not all(rules):
            return real.CUresult(INVALID_VALUE)
        self.memory.view(address, rows * stride)
        return StubMap(address, (rows, columns), (box_rows, box_columns))

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> Any:
        gx, gy, gz, bx, by, bz, shared, stream, pointers, extra = rest
        found = self._functions[int(function)]
        if min(gx, gy, gz) < 1 or (by, bz, extra) != (1, 1, 0) or shared > found.allowed:
            return real.CUresult(INVALID_VALUE)
        places = (ctypes.c_void_p * len(found.sizes)).from_address(pointers)
        raw = [
            ctypes.string_at(place or 0, size)
            for place, size in zip(places, found.sizes, strict=True)
        ]
        # Read now, as the driver does.
        arguments = tuple(int.from_bytes(value, "little") for value in raw)
        launch = StubLaunch((gx, gy, gz), bx, shared, arguments, self.memory)
        mapped = (n for n, size in zip(arguments, found.sizes, strict=True) if size == _MAP.size)
        touched = (*arguments, *(_read_map(number).address for number in mapped))

        def run() -> None:
            self.launches.append(found.symbol)
            self.kernels[found.symbol](launch)

        self._push(stream, Work(run, touched, milliseconds=found.milliseconds))
        return None

    def _cuStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        self._captures[int(stream)] = []

    def _cuStreamEndCapture(self, stream: Any) -> Any:
        held = self._captures.pop(int(stream), None)
        if held is None:
            return real.CUresult(CAPTURE_INVALIDATED)
        handle = next(self._handles)
        self._graphs[handle] = held
        return real.CUgraph(handle)

    def _cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        handle = next(self._handles)
        self._instances[handle] = list(self._graphs[int(graph)])
        return real.CUgraphExec(handle)

    def _cuGraphDestroy(self, graph: Any) -> None:
        del self._graphs[int(graph)]

    def _cuGraphExecDestroy(self, instance: Any) -> None:
        del self._instances[int(instance)]

    def _cuGraphLaunch(self, instance: Any, stream: Any) -> None:
        for work in self._instances[int(instance)]:
            self._push(stream, work)
