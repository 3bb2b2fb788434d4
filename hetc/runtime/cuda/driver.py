"""The CUDA driver API in Python's terms: handles and addresses are ints, errors are RuntimeFaults.

The only module that knows `cuda.bindings`, in any version from 12.6 on; tests hand in another
object of the same names.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from typing import Any

from hetc.errors import MissingDependency, RuntimeFault

# CUresult: what `cuInit` and the first calls say where no GPU can be used, and not a fault of ours.
_NOT_FOUND, _OUT_OF_MEMORY, _INVALID_VALUE = 500, 2, 1
_NO_GPU = frozenset({3, 34, 35, 36, 100, 101, 803, 804})
# After these a context is lost: all that it holds is gone, and every later call fails as well.
_LOST = frozenset({4, 214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
_STREAM_NON_BLOCKING, _EVENT_DISABLE_TIMING = 1, 2
TENSOR_MAP_BYTES = 128
# What the driver calls the elements of matrices, by Triton's names, and their bytes; and how pieces
# of 16 bytes are exchanged within so many.
MAPPED_ELEMENTS = {"fp32": ("FLOAT32", 4), "fp16": ("FLOAT16", 2), "bf16": ("BFLOAT16", 2)}
SWIZZLES = {0: "NONE", 32: "32B", 64: "64B", 128: "128B"}


class OutOfMemory(RuntimeFault):
    """The GPU, or what the system lends of its memory, is full."""


def open_driver() -> Driver:
    """The driver of this machine, not yet started; MissingDependency without cuda-bindings."""
    try:
        found = importlib.util.find_spec("cuda.bindings.driver")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise MissingDependency("cuda-bindings", "cuda", needed_for="the cuda executor")
    return Driver(importlib.import_module("cuda.bindings.driver"))


class Driver:
    """`bindings` is the module `cuda.bindings.driver`, or what stands in for it.

    Every method may raise RuntimeFault: HETC-R051 for a call that failed, `OutOfMemory` (R052), and
    R053 where a kernel failed and took the context with it. Sizes are bytes, `stream` and `event`
    what the methods here returned.
    """

    def __init__(self, bindings: Any) -> None:
        self._api = bindings
        # Once a context was lost, what it held need not be given back, and cannot be.
        self.lost = False

    def start(self) -> None:
        """Initialise, once or again; raises RuntimeFault HETC-R050 where no GPU can be used."""
        self._call("cuInit", 0)

    @property
    def version(self) -> str:
        """The newest CUDA version that the driver knows, as `13.0`."""
        number = int(self._call("cuDriverGetVersion"))
        return f"{number // 1000}.{number % 1000 // 10}"

    def device_count(self) -> int:
        """How many GPUs there are."""
        return int(self._call("cuDeviceGetCount"))

    def device(self, ordinal: int) -> int:
        """The handle of the GPU number `ordinal`."""
        return int(self._call("cuDeviceGet", ordinal))

    def device_name(self, device: int) -> str:
        """What NVIDIA calls it."""
        raw: bytes = self._call("cuDeviceGetName", 128, device)
        return raw.split(b"\0")[0].decode("utf-8", "replace")

    def device_memory(self, device: int) -> int:
        """Bytes of its memory."""
        return int(self._call("cuDeviceTotalMem", device))

    def device_attribute(self, name: str, device: int) -> int:
        """An attribute by its name without `CU_DEVICE_ATTRIBUTE_`."""
        which = getattr(self._api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", which, device))

    def retain_context(self, device: int) -> int:
        """The primary context, which other libraries of the process share."""
        return int(self._call("cuDevicePrimaryCtxRetain", device))

    def release_context(self, device: int) -> None:
        """Give it back."""
        self._call("cuDevicePrimaryCtxRelease", device)

    def push_context(self, context: int) -> None:
        """Make it the calling thread's own."""
        self._call("cuCtxPushCurrent", context)

    def pop_context(self) -> None:
        """Make the one before it the thread's own again."""
        self._call("cuCtxPopCurrent")

    def free_memory(self) -> int:
        """Bytes of the GPU that nobody uses now."""
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """The address of new device memory, a multiple of 256."""
        return int(self._call("cuMemAlloc", size, asked=size))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree", address)

    def allocate_pinned(self, size: int) -> int:
        """The address of new host memory that a GPU reads and writes by itself."""
        return int(self._call("cuMemHostAlloc", size, 0, asked=size))

    def free_pinned(self, address: int) -> None:
        """Give it back."""
        self._call("cuMemFreeHost", address)

    def to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy from pinned memory, in the order of `stream`."""
        self._call("cuMemcpyHtoDAsync", target, source, size, stream)

    def to_host(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy to pinned memory."""
        self._call("cuMemcpyDtoHAsync", target, source, size, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy within the GPU."""
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def fill(self, address: int, value: int, size: int, stream: int) -> None:
        """Set `size` bytes to `value`."""
        self._call("cuMemsetD8Async", address, value, size, stream)

    def stream(self) -> int:
        """A new stream, independent of the legacy default stream."""
        return int(self._call("cuStreamCreate", _STREAM_NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        """Forget it, when its work is done."""
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until its work is done."""
        self._call("cuStreamSynchronize", stream)

    def event(self, *, timing: bool = False) -> int:
        """A new event; `timing` ones can be given to `elapsed_ms`."""
        return int(self._call("cuEventCreate", 0 if timing else _EVENT_DISABLE_TIMING))

    def destroy_event(self, event: int) -> None:
        """Forget it."""
        self._call("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """`event` happens when what `stream` was given until now is done."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """What `stream` is given from now on begins after `event`."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        """Wait for it here."""
        self._call("cuEventSynchronize", event)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events that have happened."""
        return float(self._call("cuEventElapsedTime", start, end))

    def load_module(self, image: bytes) -> int:
        """The kernels of a cubin, in the current context."""
        return int(self._call("cuModuleLoadData", image))

    def unload_module(self, module: int) -> None:
        """Forget them."""
        self._call("cuModuleUnload", module)

    def function(self, module: int, symbol: str) -> int:
        """The kernel `symbol` of a module."""
        return int(self._call("cuModuleGetFunction", module, symbol.encode()))

    def allow_shared(self, function: int, size: int) -> None:
        """Let launches of a kernel ask for up to `size` bytes of shared memory."""
        which = self._api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._call("cuFuncSetAttribute", function, which, size)

    def parameter_sizes(self, function: int, most: int) -> tuple[int, ...] | None:
        """Bytes of each parameter of a kernel; None where the driver cannot tell (before 12.4).

        Reads no more than `most` of them.
        """
        if not hasattr(self._api, "cuFuncGetParamInfo"):
            return None
        sizes: list[int] = []
        for index in range(most):
            try:
                status, *found = self._api.cuFuncGetParamInfo(function, index)
            except RuntimeError:
                # How the bindings say that the driver lacks a function.
                return None
            if int(status) == _INVALID_VALUE:
                break
            if int(status) == _NOT_FOUND:
                return None
            if int(status):
                raise self._fault("cuFuncGetParamInfo", status, 0)
            sizes.append(int(found[1]))
        return tuple(sizes)

    def tensor_map(
        self,
        address: int,
        element: str,
        shape: tuple[int, int],
        box: tuple[int, int],
        swizzle: int,
    ) -> bytes:
        """The tensor map of a row-major matrix of `shape`, of which `box` is copied at a time.

        `element` is one of MAPPED_ELEMENTS, `swizzle` one of SWIZZLES. What a box has beyond the
        matrix is zeros.
        """
        name, size = MAPPED_ELEMENTS[element]
        (rows, columns), (box_rows, box_columns) = shape, box
        api, long, word = self._api, self._api.cuuint64_t, self._api.cuuint32_t
        found = self._call(
            "cuTensorMapEncodeTiled",
            getattr(api.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{name}"),
            2,
            address,
            [long(columns), long(rows)],
            [long(columns * size)],
            [word(box_columns), word(box_rows)],
            [word(1), word(1)],
            api.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            getattr(api.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{SWIZZLES[swizzle]}"),
            api.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            api.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        return ctypes.string_at(found.getPtr(), TENSOR_MAP_BYTES)

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        stream: int,
        parameters: int,
    ) -> None:
        """Launch blocks of `threads` threads; `parameters` is the address of an array of pointers
        to each of them, read before this returns."""
        self._call("cuLaunchKernel", function, *grid, threads, 1, 1, shared, stream, parameters, 0)

    def begin_capture(self, stream: int) -> None:
        """What `stream` is given from now on is recorded, not done."""
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        """The graph of what was recorded."""
        return int(self._call("cuStreamEndCapture", stream))

    def instantiate(self, graph: int) -> int:
        """A graph made ready to be launched."""
        return int(self._call("cuGraphInstantiate", graph, 0))

    def destroy_graph(self, graph: int) -> None:
        """Forget what was recorded; what was instantiated of it stays."""
        self._call("cuGraphDestroy", graph)

    def destroy_instance(self, instance: int) -> None:
        """Forget what was instantiated."""
        self._call("cuGraphExecDestroy", instance)

    def launch_graph(self, instance: int, stream: int) -> None:
        """Do what was recorded, in the order of `stream`."""
        self._call("cuGraphLaunch", instance, stream)

    def _call(self, name: str, *arguments: Any, asked: int = 0) -> Any:
        """One call of the driver: its result, or a tuple of them; `asked` bytes were asked for."""
        function = getattr(self._api, name, None)
        if function is None:
            raise _failed(name, "this version of cuda-bindings lacks it")
        try:
            status, *results = function(*arguments)
        except RuntimeError as error:
            # The bindings load the driver at the first call, and each of its functions by name.
            if name == "cuInit":
                raise _no_gpu("the driver's library cannot be loaded") from error
            raise _failed(name, str(error).splitlines()[0]) from error
        if int(status):
            raise self._fault(name, status, asked)
        return results[0] if len(results) == 1 else tuple(results)

    def _fault(self, name: str, status: Any, asked: int) -> RuntimeFault:
        code = int(status)
        said = getattr(status, "name", str(code))
        if code in _NO_GPU and name in ("cuInit", "cuDeviceGetCount", "cuDeviceGet"):
            return _no_gpu(said)
        if code == _OUT_OF_MEMORY:
            return OutOfMemory(
                "HETC-R052",
                "the memory of the GPU does not suffice",
                at=name,
                expected=f"{asked:,} bytes more" if asked else "",
                found=said,
                do="run fewer or shorter prompts at once, or end other programs on the GPU",
            )
        if code in _LOST:
            self.lost = True
            return RuntimeFault(
                "HETC-R053",
                "a kernel failed on the GPU",
                at=name,
                found=said,
                do="load the bundle in a new process; report it with the output of hetc doctor",
            )
        return _failed(name, said)


def _no_gpu(found: str) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R050",
        "no NVIDIA GPU can be used here",
        found=found,
        do="install NVIDIA's driver, or run the bundle on a CPU executor",
    )


def _failed(name: str, found: str) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R051",
        "a call of the CUDA driver failed",
        at=name,
        found=found,
        do="report it with the output of hetc doctor",
    )
