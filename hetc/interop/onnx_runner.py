"""Regions on ONNX Runtime's CPU kernels, which read and write PyTorch's memory in place."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hetc.backends.onnx import emit_onnx
from hetc.backends.onnx.elements import onnx_type
from hetc.backends.onnx.emit import supports
from hetc.errors import BackendError, MissingDependency, Reason
from hetc.frontends.torch_export.dtypes import torch_dtype
from hetc.interop.runner import Run
from hetc.ir.dims import Dim, evaluate
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import FloorDiv, Sign
from hetc.ir.ops.reduce import ArgMax, Prod, ReduceMax, ReduceMin, Sum
from hetc.ir.ops.window import MaxPool
from hetc.ir.types import Shape

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession


# Seen with ONNX Runtime 1.32 on 17 elements, of which two are NaN.
_LOSES_NAN = (ReduceMax, ReduceMin, ArgMax, MaxPool, Sign)


class OnnxRunner:
    """One session a region."""

    name = "onnx"

    def why_not(self, op: Op) -> Reason | None:
        """As the backend onnx says; and PyTorch's results must hold for any numbers."""
        at = op.loc or op.kind
        if isinstance(op, _LOSES_NAN) and op.operands[0].dtype.is_float:
            return Reason("HETC-E012", f"ONNX Runtime's {op.kind} loses NaN", at)
        if isinstance(op, Sum | Prod) and not op.x.dtype.is_float:
            return Reason("HETC-E012", f"ONNX Runtime's {op.kind} of integers rounds as floats", at)
        # The least integer divided by -1 ends the process.
        if isinstance(op, FloorDiv) and isinstance(op.y, Value) and not op.y.dtype.is_float:
            return Reason(
                "HETC-E012", "ONNX Runtime fails where the least integer is divided by -1", at
            )
        return supports(op)

    def prepare(self, graph: Graph) -> Run:
        """Make the session; raises BackendError where ONNX Runtime refuses the graph (HETC-E017),
        MissingDependency without it."""
        import torch

        ort = _onnxruntime()
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        settings.inter_op_num_threads = 1
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                emit_onnx(graph, rounds=True), settings, providers=["CPUExecutionProvider"]
            )
        # The library's errors share no base class but Exception.
        except Exception as error:
            raise _fault("ONNX Runtime cannot load a region", graph.name, error) from error
        return _Session(graph, session)


class _Session:
    """A session and, for each thread, what is bound to it."""

    def __init__(self, graph: Graph, session: InferenceSession) -> None:
        self._name = graph.name
        self._session = session
        self._inputs = [
            (value.name, onnx_type(value.dtype), torch_dtype(value.dtype)) for value in graph.inputs
        ]
        self._outputs = [
            (name, onnx_type(value.dtype), torch_dtype(value.dtype), value.shape)
            for name, value in zip(graph.output_names, graph.outputs, strict=True)
        ]
        self._shown: dict[str, tuple[int, int]] = {}
        for place, value in enumerate(graph.inputs):
            for axis, dim in enumerate(value.shape):
                if isinstance(dim, Dim) and dim.is_symbol:
                    self._shown.setdefault(str(dim), (place, axis))
        self._used = {value.name for value in session.get_inputs()}
        self._threads = threading.local()

    def __call__(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        import torch

        binding, bound = self._binding()
        # Contiguous copies live until the run is over.
        kept = [tensor.contiguous() for tensor in tensors]
        for (name, kind, dtype), tensor in zip(self._inputs, kept, strict=True):
            if tensor.dtype != dtype:
                # An op before the region made something else than its fake tensor said.
                raise _misfit(f"{self._name}, {name}", dtype, tensor.dtype)
            where = (tensor.data_ptr(), tensor.shape)
            if name in self._used and bound.get(name) != where:
                binding.bind_input(name, "cpu", 0, kind, list(tensor.shape), _address(where[0]))
                bound[name] = where
        sizes = {name: kept[i].shape[axis] for name, (i, axis) in self._shown.items()}
        made = []
        for name, kind, dtype, shape in self._outputs:
            tensor = torch.empty(_numbers(shape, sizes), dtype=dtype)
            made.append(tensor)
            binding.bind_output(
                name, "cpu", 0, kind, list(tensor.shape), _address(tensor.data_ptr())
            )
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise _fault("ONNX Runtime cannot run a region", self._name, error) from error
        return tuple(made)

    def _binding(self) -> tuple[Any, dict[str, tuple[int, Any]]]:
        found = getattr(self._threads, "binding", None)
        if found is None:
            found = self._threads.binding = (self._session.io_binding(), {})
        binding: tuple[Any, dict[str, tuple[int, Any]]] = found
        return binding


def _numbers(shape: Shape, sizes: dict[str, int]) -> list[int]:
    return [dim if isinstance(dim, int) else evaluate(dim, sizes) for dim in shape]


def _address(pointer: int) -> int:
    # A tensor without elements has no memory, and ONNX Runtime takes no null for it.
    return pointer or 64


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("onnxruntime", "", needed_for="the executor onnx") from error
    return onnxruntime


def _misfit(at: str, expected: object, found: object) -> BackendError:
    return BackendError(
        "HETC-E017",
        "an input of a region is of another type than PyTorch had announced",
        at=at,
        expected=expected,
        found=found,
    )


def _fault(what: str, at: str, error: Exception) -> BackendError:
    return BackendError(
        "HETC-E017",
        what,
        at=at,
        found=str(error).strip().partition("\n")[0],
        do="choose the option executor='reference', and report this",
    )
