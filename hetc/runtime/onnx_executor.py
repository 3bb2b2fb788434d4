"""Runs a half with ONNX Runtime; the state stays in ONNX Runtime's own values between steps."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.errors import MissingDependency, RuntimeFault
from hetc.runtime.cores import physical_cores
from hetc.runtime.executor import ExecutorFactory, Half
from hetc.runtime.onnx_file import ExternalWeight, external_weights
from hetc.runtime.state import State

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue, SessionOptions

OUT = ".out"
# TensorProto.DataType: what a weight may be declared as, and what NumPy calls it.
_DECLARED: Mapping[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    16: np.dtype(ml_dtypes.bfloat16),
}
_BF16 = 16  # onnx.TensorProto.BFLOAT16

# The exact widenings: the file may declare f32 where the bundle stores one of these.
_WIDENS = {np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)}
_NAME_OF = {
    "tensor(float)": "f32",
    "tensor(float16)": "f16",
    "tensor(bfloat16)": "bf16",
    "tensor(double)": "f64",
    "tensor(int64)": "i64",
    "tensor(int32)": "i32",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class OnnxOptions:
    """`threads`: None for one a physical core. `prepack`: halves whose kernels copy their weights.

    A session reads the bundle's weights in place, and both halves read the same ones. Kernels that
    may lay out a copy of their own decode up to a quarter faster, and prefill no faster (measured
    on 2 cores with 135 M parameters in f32).
    """

    threads: int | None = None
    prepack: frozenset[Half] = frozenset({"decode"})


@dataclass(frozen=True)
class OrtTensor:
    """A state tensor in ONNX Runtime's memory, as `State` wants its handles."""

    value: OrtValue

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(self.value.shape())

    @property
    def dtype(self) -> str:
        """Its element type, as hetc names it."""
        name: str = self.value.data_type()
        return _NAME_OF.get(name, name)

    def numpy(self) -> NDArray[Any]:
        """A copy as an array."""
        if self.dtype != "bf16":
            return np.asarray(self.value.numpy())
        # ONNX Runtime's Python has no bf16 arrays: read its memory as 16-bit words.
        count = math.prod(self.shape)
        words = (ctypes.c_uint16 * count).from_address(self.value.data_ptr())
        array: NDArray[Any] = np.array(words, dtype=np.uint16).view(ml_dtypes.bfloat16)
        return array.reshape(self.shape)


class SharedWeights:
    """The weights of one bundle as its ONNX files declare them: mapped, or widened once."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, int], NDArray[Any]] = {}

    def get(self, bundle: OpenBundle, weight: ExternalWeight) -> NDArray[Any]:
        """The weight as the file declares it; raises RuntimeFault HETC-R006 where it cannot be."""
        key = (weight.name, weight.onnx_type)
        if key not in self._arrays:
            self._arrays[key] = _as_declared(bundle, weight)
        return self._arrays[key]

    def release(self) -> None:
        """Forget the arrays; who still uses some holds them itself."""
        self._arrays.clear()


class OnnxExecutor:
    """One half as one ONNX Runtime session on the CPU.

    The half's file has the inputs `tokens`, the states by name and, where it wants it, `past`; and
    the outputs `logits` and `<state>.out`. Use `onnx_executors` to make the two of a bundle.
    """

    name = "onnx"

    def __init__(self, weights: SharedWeights, options: OnnxOptions) -> None:
        self._weights = weights
        self._options = options
        self._session: InferenceSession | None = None
        self._held: tuple[NDArray[Any], ...] = ()
        self._half: Half = "prefill"
        self._states: tuple[str, ...] = ()
        self._contract_sha256 = ""
        self._takes_past = False

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        """Make the session.

        Raises MissingDependency without onnxruntime, and RuntimeFault: HETC-R005 the half has no
        ONNX file, R006 a weight is of another type or shape, R007 the file cannot be read, R008
        ONNX Runtime refuses it, R009 its inputs or outputs are not those of a half.
        """
        file = bundle.manifest.half(half).onnx
        if file is None:
            raise RuntimeFault(
                "HETC-R005",
                f"the {half} half of this bundle has no ONNX file",
                at=f"manifest.json, halves.{half}.onnx",
                do="choose another executor, or compile again",
            )
        prepack = half in self._options.prepack
        session, self._held = open_session(
            bundle, file, f"the {half} half", self._weights, self._options.threads, prepack
        )
        self._half = half
        self._states = bundle.contract.state_names
        self._contract_sha256 = bundle.manifest.contract_sha256
        self._takes_past = self._check_signature(session, file)
        self._session = session

    def bind(self, *, batch: int, context: int) -> None:
        """Nothing to do: a session takes any batch and context, and sizes its memory by use."""

    def run(self, tokens: NDArray[np.int64], state: State | None) -> tuple[NDArray[Any], State]:
        """Run the half on `tokens` [B, S]; see `Executor.run`.

        Raises RuntimeFault HETC-R008 where ONNX Runtime fails, HETC-R010 for a spent state.
        """
        session, ort = self._require_session(), onnxruntime_module()
        past = 0 if state is None else state.past
        binding = session.io_binding()
        binding.bind_cpu_input("tokens", np.ascontiguousarray(tokens, dtype=np.int64))
        if self._takes_past:
            binding.bind_cpu_input("past", np.asarray(past, dtype=np.int64))
        # Kept in a local: a bound value must live until the run is over.
        taken = {} if state is None else {n: ort_value(ort, t) for n, t in state.take().items()}
        for name, value in taken.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits")
        for name in self._states:
            binding.bind_output(name + OUT)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise ort_fault(f"ONNX Runtime failed in {self._half}", self._half, error) from error
        logits, *after = binding.get_outputs()
        tensors = {name: OrtTensor(value) for name, value in zip(self._states, after, strict=True)}
        reached = past + tokens.shape[1]
        return logits.numpy(), State(self._contract_sha256, reached, tensors, owner=self._half)

    def close(self) -> None:
        """Let go of the session and the weights."""
        self._session = None
        self._held = ()
        self._weights.release()

    def _check_signature(self, session: InferenceSession, file: str) -> bool:
        """Refuse a file that does not have a half's inputs and outputs; whether it takes `past`."""
        inputs = {value.name for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        states = set(self._states) if self._half == "decode" else set()
        for label, found, expected in (
            ("inputs", inputs - {"past"}, {"tokens"} | states),
            ("outputs", outputs, {"logits"} | {name + OUT for name in self._states}),
        ):
            if found != expected:
                raise RuntimeFault(
                    "HETC-R009",
                    f"the {label} of this ONNX file are not those of the {self._half} half",
                    at=file,
                    expected=_some(expected - found) or "no others",
                    found="missing" if expected - found else _some(found - expected),
                    do="compile the bundle again",
                )
        return "past" in inputs

    def _require_session(self) -> InferenceSession:
        if self._session is None:
            raise RuntimeFault(
                "HETC-R004", "this executor is closed", at=self.name, do="load the bundle again"
            )
        return self._session


def onnx_executors(options: OnnxOptions | None = None) -> ExecutorFactory:
    """A factory whose executors share the weights of the one bundle that they are prepared with."""
    weights = SharedWeights()
    return lambda: OnnxExecutor(weights, options or OnnxOptions())


def open_session(
    bundle: OpenBundle,
    file: str,
    label: str,
    weights: SharedWeights,
    threads: int | None,
    prepack: bool,
) -> tuple[InferenceSession, tuple[NDArray[Any], ...]]:
    """A session of the ONNX file `file` of `bundle`, and the arrays that it reads in place, which
    must live as long. Raises as `OnnxExecutor.prepare` does."""
    ort = onnxruntime_module()
    model = bundle.read_bytes(file)
    settings = _session_options(ort, threads, prepack)
    declared = external_weights(model, file)
    arrays = tuple(weights.get(bundle, weight) for weight in declared)
    # Read in place, as if each were a file in memory: `add_external_initializers` copies.
    settings.add_external_initializers_from_files_in_memory(
        [weight.location for weight in declared],
        [array.reshape(-1).view(np.uint8) for array in arrays],
        [array.nbytes for array in arrays],
    )
    try:
        session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    # The library's errors share no base class but Exception.
    except Exception as error:
        raise ort_fault(f"ONNX Runtime cannot load {label}", file, error) from error
    return session, arrays


def _session_options(ort: Any, threads: int | None, prepack: bool) -> SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads or physical_cores()
    settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
    # Small blocks that threads take in turn: a slow core does not hold up the others.
    settings.add_session_config_entry("session.dynamic_block_base", "4")
    # Spinning gains a few per cent on an idle machine and costs half the speed on a busy one.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepack:
        settings.add_session_config_entry("session.disable_prepacking", "1")
    return settings


def onnxruntime_module() -> Any:
    """The library; raises MissingDependency where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("onnxruntime", "", needed_for="the executor onnx") from error
    return onnxruntime


def _as_declared(bundle: OpenBundle, weight: ExternalWeight) -> NDArray[Any]:
    declared = _DECLARED.get(weight.onnx_type)
    stored = bundle.weight(weight.name)
    if declared is None or (
        stored.dtype != declared and not (declared == np.float32 and stored.dtype in _WIDENS)
    ):
        expected = declared or f"a type that hetc supplies, not ONNX type {weight.onnx_type}"
        raise _weight_fault(weight, str(expected), str(stored.dtype))
    if stored.shape != weight.shape:
        raise _weight_fault(weight, list(weight.shape), list(stored.shape))
    return np.ascontiguousarray(stored, dtype=declared)


def ort_value(ort: Any, tensor: Any) -> OrtValue:
    """A tensor as a value of ONNX Runtime; arrays of other executors are not copied."""
    if isinstance(tensor, OrtTensor):
        return tensor.value
    array = tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
    whole = np.ascontiguousarray(array)
    if whole.dtype == ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(whole.view(np.uint16), _BF16)
    return ort.OrtValue.ortvalue_from_numpy(whole)


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def _weight_fault(weight: ExternalWeight, expected: object, found: object) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R006",
        "an ONNX file and the bundle's weights do not fit",
        at=weight.name,
        expected=expected,
        found=found,
        do="compile the bundle again",
    )


def ort_fault(what: str, at: str, error: Exception) -> RuntimeFault:
    """HETC-R008, with the first line of what the library says."""
    return RuntimeFault(
        "HETC-R008",
        what,
        at=at,
        found=str(error).strip().splitlines()[0],
        do="try --executor reference, and report this with the output of hetc doctor",
    )
