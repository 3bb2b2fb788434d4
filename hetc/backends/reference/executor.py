"""Runs a half of a bundle with the interpreter: slow, and the oracle of every other executor.

It has the runtime's four verbs (`prepare`, `bind`, `run`, `close`) without knowing the runtime: the
state's class is handed in, as `reference_executors(State)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hetc.backends.base import walk
from hetc.bundle import OpenBundle
from hetc.bundle.contract import Phase
from hetc.errors import BackendError
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.ops.source import Weight
from hetc.ir.text import parse
from hetc.ir.types import F32, Array, DType

TOKENS, PAST, LOGITS, OUT = "tokens", "past", "logits", ".out"


class HeldState(Protocol):
    """What an executor needs of the runtime's state: the tokens before it, and its tensors."""

    past: int

    def take(self) -> dict[str, Any]:
        """The tensors by name, for good."""
        ...


S = TypeVar("S", bound=HeldState)
Made = TypeVar("Made", bound=HeldState, covariant=True)


class MakeState(Protocol[Made]):
    """How the runtime's state is made."""

    def __call__(
        self, contract_sha256: str, past: int, tensors: Mapping[str, Any], *, owner: Phase
    ) -> Made:
        """The state after `past` tokens, owned by the half that made it."""
        ...


class ReferenceExecutor(Generic[S]):
    """One half, interpreted in the graph's own element types; the state is NumPy arrays."""

    name = "reference"

    def __init__(self, make_state: MakeState[S]) -> None:
        self._make_state = make_state
        self._graph: Graph | None = None
        self._half: Phase = "prefill"
        self._contract_sha256 = ""
        self._types: dict[str, DType] = {}
        self._load: Callable[[str], Array] = _closed
        self._weights: dict[str, Array] = {}

    def prepare(self, bundle: OpenBundle, half: Phase) -> None:
        """Read the half's text form.

        Raises IRError where it does not parse, BackendError HETC-E015 where its inputs or outputs
        are not those of a half.
        """
        file = bundle.manifest.half(half).graph
        graph = parse(bundle.read_bytes(file).decode())
        _check_signature(graph, half, bundle.contract.state_names, file)
        self._graph, self._half, self._load = graph, half, bundle.weight
        self._types = {op.name: op.type.dtype for op in walk(graph) if isinstance(op, Weight)}
        self._contract_sha256 = bundle.manifest.contract_sha256

    def bind(self, *, batch: int, context: int) -> None:
        """Nothing to do: every call is as large as its arrays."""

    def run(self, tokens: NDArray[np.int64], state: S | None) -> tuple[NDArray[Any], S]:
        """Logits f32 [B, 1, V] (prefill) or [B, T, V] (decode) for `tokens`, and the new state.

        Raises BackendError HETC-E016 on a closed executor, IRError where the interpreter cannot.
        """
        graph = self._graph
        if graph is None:
            raise BackendError(
                "HETC-E016", "this executor is closed", at=self.name, do="load the bundle again"
            )
        past = 0 if state is None else state.past
        given: dict[str, Any] = {TOKENS: np.asarray(tokens, np.int64), PAST: np.array(past)}
        given |= {} if state is None else state.take()
        inputs = [_as_input(value, given[value.name]) for value in graph.inputs]
        bindings = {} if state is None else {"P": past}
        outputs = interpret(graph, inputs, self._weight, bindings)
        found = dict(zip(graph.output_names, outputs, strict=True))
        logits = found.pop(LOGITS).astype(F32.numpy)
        tensors = {name.removesuffix(OUT): array for name, array in found.items()}
        reached = past + tokens.shape[1]
        return logits, self._make_state(self._contract_sha256, reached, tensors, owner=self._half)

    def close(self) -> None:
        """Let go of the graph and of the weights."""
        self._graph, self._load = None, _closed
        self._weights.clear()

    def _weight(self, name: str) -> Array:
        # Kept as the graph wants them: converting one for every token would double the time.
        if name not in self._weights:
            data, dtype = self._load(name), self._types[name].numpy
            self._weights[name] = data if data.dtype == dtype else data.astype(dtype)
        return self._weights[name]


def reference_executors(make_state: MakeState[S]) -> Callable[[], ReferenceExecutor[S]]:
    """A factory of executors that make states with `make_state`: the runtime's `State`."""
    return lambda: ReferenceExecutor(make_state)


def _closed(name: str) -> Array:
    raise BackendError(
        "HETC-E016", "this executor has no weights now", at=name, do="load the bundle again"
    )


def _as_input(value: Value, tensor: Any) -> Array:
    array = tensor if isinstance(tensor, np.ndarray) else np.asarray(tensor.numpy())
    return array.astype(value.dtype.numpy, copy=False)


def _check_signature(graph: Graph, half: Phase, states: tuple[str, ...], file: str) -> None:
    """Refuse a graph whose inputs and outputs are not those of the half."""
    inputs = {TOKENS, *(states if half == "decode" else ())}
    for label, found, expected in (
        ("inputs", {value.name for value in graph.inputs} - {PAST}, inputs),
        ("outputs", set(graph.output_names), {LOGITS, *(name + OUT for name in states)}),
    ):
        if found != expected:
            raise BackendError(
                "HETC-E015",
                f"the {label} of this graph are not those of the {half} half",
                at=file,
                expected=", ".join(sorted(expected - found)) or "no others",
                found="missing" if expected - found else ", ".join(sorted(found - expected)),
                do="compile the bundle again",
            )
