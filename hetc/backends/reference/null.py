"""An executor that records what it is asked and computes nothing: for timing the runtime itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from hetc.backends.reference.executor import MakeState, S
from hetc.bundle import Contract, OpenBundle, StateSpec
from hetc.bundle.contract import Phase
from hetc.bundle.dtypes import BY_NAME
from hetc.ir.dims import evaluate, parse_dim


class NullExecutor(Generic[S]):
    """Answers zeros of the right shapes; `calls` holds every verb with its arguments."""

    name = "null"

    def __init__(self, make_state: MakeState[S]) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._make_state = make_state
        self._half: Phase = "prefill"
        self._contract = Contract(1, 1, ())
        self._contract_sha256 = ""
        self._vocab = 0

    def prepare(self, bundle: OpenBundle, half: Phase) -> None:
        """Remember the contract and the vocabulary."""
        self.calls.append(("prepare", half))
        self._half, self._contract = half, bundle.contract
        self._contract_sha256 = bundle.manifest.contract_sha256
        self._vocab = bundle.manifest.model.vocab

    def bind(self, *, batch: int, context: int) -> None:
        """Record the call."""
        self.calls.append(("bind", batch, context))

    def run(self, tokens: NDArray[np.int64], state: S | None) -> tuple[NDArray[Any], S]:
        """Zeros: logits f32 [B, 1, V] or [B, T, V], and every state of the contract."""
        batch, count = tokens.shape
        past = 0 if state is None else state.past
        self.calls.append(("run", batch, count, past))
        if state is not None:
            state.take()
        reached = past + count
        tensors = {spec.name: _zeros(spec, batch, reached) for spec in self._contract.states}
        rows = 1 if self._half == "prefill" else count
        logits = np.zeros((batch, rows, self._vocab), np.float32)
        return logits, self._make_state(self._contract_sha256, reached, tensors, owner=self._half)

    def close(self) -> None:
        """Record the call."""
        self.calls.append(("close",))


def null_executors(make_state: MakeState[S]) -> Callable[[], NullExecutor[S]]:
    """A factory of executors that make states with `make_state`: the runtime's `State`."""
    return lambda: NullExecutor(make_state)


def _zeros(spec: StateSpec, batch: int, past: int) -> NDArray[Any]:
    sizes = {"B": batch, "P": past}
    dims = (parse_dim(dim) if isinstance(dim, str) else dim for dim in spec.shape)
    return np.zeros([evaluate(dim, sizes) for dim in dims], BY_NAME[spec.dtype].numpy)
