"""Runs a half as machine code that is made when the bundle is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.bundle.native import NativeLayout
from hetc.errors import RuntimeFault
from hetc.runtime.executor import ExecutorFactory, Half
from hetc.runtime.native.cache import Cache, CacheTensor, joined, part_of
from hetc.runtime.native.engine import Engine, NativeOptions
from hetc.runtime.native.jit import Compiled
from hetc.runtime.native.joined import NativeJoined
from hetc.runtime.state import State

# Tokens of all sequences together in one call. An interrupt waits for the call to end; 512 of a
# prompt would be 1.02 times as fast (`python -m benchmarks.native_ab chunks`).
_MOST_ROWS = {"prefill": 128, "decode": 64}


class NativeExecutor:
    """One half on the CPU; use `native_executors` to make the two of a bundle.

    Prefill goes through its prompt in chunks. The state stays in the engine's layout between calls
    and is read as the contract's only where someone asks for it.
    """

    name = "native"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._function: Compiled | None = None
        self._half: Half = "prefill"
        self._layout: NativeLayout | None = None
        self._contract_sha256 = ""
        self._vocab = 0
        self._context = 0

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        """Map the weights and compile the half's text.

        Raises MissingDependency without torch-mlir, RuntimeFault HETC-R040 where it does not
        compile, R041 and R042 where the bundle's files do not fit.
        """
        layout = self._engine.open(bundle)
        function = self._engine.compile(bundle, half)
        self._engine.ready()
        self._layout, self._function = layout, function
        self._half = half
        self._contract_sha256 = bundle.manifest.contract_sha256
        self._vocab = bundle.manifest.model.vocab

    def bind(self, *, batch: int, context: int) -> None:
        """Remember the context: states get room for it at once."""
        self._context = context

    def run(self, tokens: NDArray[np.int64], state: State | None) -> tuple[NDArray[Any], State]:
        """Run the half on `tokens` [B, S]; see `Executor.run`."""
        layout = self._require_layout()
        batch, count = tokens.shape
        past = 0 if state is None else state.past
        room = max(past + count, self._context)
        if state is None:
            cache = Cache(layout, batch, room)
        else:
            part = part_of(layout, state.take(), batch, past)
            cache = joined(layout, [part], [past] * batch, past + count)
        logits = self.advance(tokens, np.full(batch, past, np.int64), cache)
        reached = past + count
        tensors = {held.name: CacheTensor(cache, held, reached) for held in layout.states}
        return logits, State(self._contract_sha256, reached, tensors, owner=self._half)

    def join(self, states: Sequence[State], batches: Sequence[int]) -> NativeJoined:
        """One cache of all sequences, copied once where they are in several; see `Joins.join`."""
        layout = self._require_layout()
        pasts = [
            state.past for state, batch in zip(states, batches, strict=True) for _ in range(batch)
        ]
        parts = [
            part_of(layout, state.take(), batch, state.past)
            for state, batch in zip(states, batches, strict=True)
        ]
        cache = joined(layout, parts, pasts, max(*pasts, self._context))
        return NativeJoined(self, layout, self._contract_sha256, cache, pasts)

    def advance(
        self, tokens: NDArray[np.int64], pasts: NDArray[np.int64], cache: Cache
    ) -> NDArray[Any]:
        """Run `tokens` [B, T] behind `pasts` [B], some at a time, on a cache with room for them.

        Returns logits f32 [B, 1, V] (prefill) or [B, T, V]. Raises RuntimeFault HETC-R004 after
        `close`.
        """
        layout, function = self._require_layout(), self._function
        assert function is not None, "it goes with the layout"
        batch, count = tokens.shape
        step = max(1, _MOST_ROWS[self._half] // batch)
        found = []
        for start in range(0, count, step):
            part = np.ascontiguousarray(tokens[:, start : start + step], dtype=np.int64)
            rows = 1 if self._half == "prefill" else part.shape[1]
            logits = np.empty((batch, rows, layout.logit_columns), np.float32)
            self._engine.run(self._half, function, part, pasts + start, cache, logits)
            found.append(logits)
        kept = found[-1] if self._half == "prefill" or len(found) == 1 else np.concatenate(found, 1)
        return kept[..., : self._vocab]

    def _require_layout(self) -> NativeLayout:
        if self._function is None or self._layout is None:
            raise RuntimeFault(
                "HETC-R004", "this executor is closed", at=self.name, do="load the bundle again"
            )
        return self._layout

    def close(self) -> None:
        """Let go of the code, the threads and the weights."""
        self._function = None
        self._engine.close()


def native_executors(options: NativeOptions | None = None) -> ExecutorFactory:
    """A factory whose executors share weights and threads of the one bundle that they run."""
    engine = Engine(options or NativeOptions())
    return lambda: NativeExecutor(engine)
