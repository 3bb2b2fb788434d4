"""Sequences at different positions, decoded together: what an executor may do in one call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import Contract
from hetc.errors import RuntimeFault
from hetc.runtime.executor import Executor
from hetc.runtime.state import State

T = TypeVar("T")


class Joined(Protocol):
    """Sequences that decode together, each behind a past of its own; `Halves.join` makes it.

    It changes in place. Once it was split, or where a run did not come to its end, it is spent:
    everything but `pasts` then raises RuntimeFault HETC-R010.
    """

    @property
    def executor(self) -> object:
        """Decode's executor, which made it."""
        ...

    @property
    def pasts(self) -> tuple[int, ...]:
        """The tokens behind each sequence, in the order in which they were joined."""
        ...

    def run(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """Run decode on `tokens` [B, T], row by row behind `pasts`: logits f32 [B, T, V]."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the sequences `rows` alone, in that order; one named twice is forked.

        Raises RuntimeFault HETC-R014 for a row that there is not, or for none.
        """
        ...

    def split(self) -> list[State]:
        """A state of the contract for each sequence, [1, ...]; this is spent afterwards."""
        ...


@runtime_checkable
class Joins(Protocol):
    """What an executor has beside `Executor` if it decodes different positions in one call."""

    def join(self, states: Sequence[State], batches: Sequence[int]) -> Joined:
        """Take over decode's `states`, of so many sequences each."""
        ...


class OneByOne:
    """`Joined` for every executor: its states, each of one position, run one after the other."""

    def __init__(
        self,
        executor: Executor,
        contract: Contract,
        states: Sequence[State],
        batches: Sequence[int],
    ) -> None:
        self.executor = executor
        self._axes = {
            spec.name: spec.shape.index("B") for spec in contract.states if "B" in spec.shape
        }
        self._states: list[State] | None = [_taken(state) for state in states]
        self._batches = list(batches)
        self.pasts = tuple(
            state.past for state, batch in zip(states, batches, strict=True) for _ in range(batch)
        )

    def run(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """See `Joined.run`."""
        states, self._states = require_whole(self._states), None
        parts = [
            self.executor.run(tokens[start:end], state)
            for state, (start, end) in zip(states, self._bounds, strict=True)
        ]
        self._states = [state for _, state in parts]
        self.pasts = tuple(past + tokens.shape[1] for past in self.pasts)
        return np.concatenate([logits for logits, _ in parts])

    def keep(self, rows: Sequence[int]) -> None:
        """See `Joined.keep`: of a state's sequences that stay beside each other, one is made."""
        states, pasts = require_whole(self._states), rows_of(self.pasts, rows)
        places = [
            (number, row - start)
            for row in rows
            for number, (start, end) in enumerate(self._bounds)
            if start <= row < end
        ]
        runs = [(number, [row for _, row in run]) for number, run in groupby(places, itemgetter(0))]
        self._states = [self._rows(states[number], chosen) for number, chosen in runs]
        self._batches = [len(chosen) for _, chosen in runs]
        self.pasts = pasts

    def split(self) -> list[State]:
        """See `Joined.split`."""
        states, self._states = require_whole(self._states), None
        return [
            self._rows(state, [row])
            for state, batch in zip(states, self._batches, strict=True)
            for row in range(batch)
        ]

    @property
    def _bounds(self) -> list[tuple[int, int]]:
        """The rows of each state."""
        return list(pairwise(accumulate(self._batches, initial=0)))

    def _rows(self, state: State, rows: Sequence[int]) -> State:
        """Some sequences of a state, copied."""
        tensors = {name: state.numpy(name) for name in state.tensors}
        for name, axis in self._axes.items():
            tensors[name] = np.take(tensors[name], rows, axis=axis)
        return State(state.contract_sha256, state.past, tensors, owner=state.owner)


def _taken(state: State) -> State:
    """The same state for a new holder; the given one is spent."""
    return State(state.contract_sha256, state.past, state.take(), owner=state.owner)


def rows_of(pasts: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """The pasts of `rows`; raises RuntimeFault HETC-R014 for a row that there is not."""
    if not rows or not all(0 <= row < len(pasts) for row in rows):
        raise RuntimeFault(
            "HETC-R014",
            "there is no such sequence",
            at="joined states",
            expected=f"rows from 0 to {len(pasts) - 1}, at least one",
            found=str(list(rows)),
        )
    return tuple(pasts[row] for row in rows)


def require_whole(held: T | None) -> T:
    """What a `Joined` holds; raises RuntimeFault HETC-R010 where that is gone."""
    if held is None:
        raise RuntimeFault(
            "HETC-R010",
            "these sequences were already used",
            at="joined states",
            expected="sequences that were not split, and whose last run came to its end",
            do="join the states that split gave, or prefill again",
        )
    return held
