"""The two prepared halves of a bundle, and the checks around every call of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import Contract
from hetc.errors import RuntimeFault
from hetc.runtime.executor import Executor
from hetc.runtime.handoff import HandoffRecord, check_state, hand_off
from hetc.runtime.joined import Joined, Joins, OneByOne
from hetc.runtime.state import State, already_used

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Halves:
    """Prefill and decode under one contract; `vocab` and `max_context` are the model's, `batch` is
    how many sequences at once the bundle was compiled for."""

    prefill_executor: Executor
    decode_executor: Executor
    contract: Contract
    contract_sha256: str
    vocab: int
    max_context: int
    batch: int = 1

    @property
    def context_limit(self) -> int:
        """The most tokens, prompt and answer together, that the bundle was proven for."""
        return min(self.max_context, self.contract.max_context)

    def bind(self, *, batch: int, context: int) -> None:
        """Announce what the next calls need; see `Executor.bind`."""
        self.prefill_executor.bind(batch=batch, context=context)
        self.decode_executor.bind(batch=batch, context=context)

    def prefill(self, tokens: Tokens) -> tuple[NDArray[Any], State]:
        """Run `tokens` [B, S] from the start: logits f32 [B, 1, V] of the last, and the state."""
        batch, count = tokens.shape
        if count < self.contract.min_context:
            raise RuntimeFault(
                "HETC-R022",
                "the prompt is too short for this bundle",
                expected=f"at least {self.contract.min_context} tokens",
                found=count,
            )
        self._require_room(count)
        logits, state = self.prefill_executor.run(tokens, None)
        self._check_logits(logits, (batch, 1, self.vocab), self.prefill_executor)
        self._check_positions(state.past, count, self.prefill_executor)
        return logits, state

    def hand_off(self, state: State) -> tuple[State, HandoffRecord]:
        """Pass prefill's state to decode, once; see `hetc.runtime.handoff.hand_off`."""
        return hand_off(state, self.contract, self.contract_sha256)

    def decode(self, tokens: Tokens, state: State) -> tuple[NDArray[Any], State]:
        """Run `tokens` [B, T] after `state`: logits f32 [B, T, V], and the state after them.

        Raises RuntimeFault for a state that is spent, foreign or not whole (HETC-R010 to R017), of
        another batch (R014), and for tokens beyond the context (R022). `state` is spent afterwards.
        """
        batch, count = tokens.shape
        held = check_state(state, self.contract, self.contract_sha256, owner="decode")
        if self.contract.states:
            _require_batch(batch, held)
        reached = state.past + count
        self._require_room(reached)
        logits, after = self.decode_executor.run(tokens, state)
        self._check_logits(logits, (batch, count, self.vocab), self.decode_executor)
        self._check_positions(after.past, reached, self.decode_executor)
        return logits, after

    @property
    def joins(self) -> bool:
        """Whether decode runs sequences at different positions in one call."""
        return isinstance(self.decode_executor, Joins)

    def join(self, states: Sequence[State], batches: Sequence[int] | None = None) -> Joined:
        """Put the sequences of decode's `states` together, each at its own position.

        `batches` are the sequences of each state, where the contract has no states that tell.
        An executor that cannot decode so runs its states one after the other. Raises RuntimeFault
        as `decode` does, HETC-R021 for no states at all; the states are spent afterwards.
        """
        if not states:
            raise RuntimeFault("HETC-R021", "there are no states", do="pass at least one state")
        checked = [
            check_state(state, self.contract, self.contract_sha256, owner="decode")
            for state in states
        ]
        if len({id(state) for state in states}) < len(states):
            raise already_used(states[0].past)
        sizes = checked if batches is None else batches
        if isinstance(self.decode_executor, Joins):
            return self.decode_executor.join(states, sizes)
        return OneByOne(self.decode_executor, self.contract, states, sizes)

    def decode_joined(self, tokens: Tokens, joined: Joined) -> NDArray[Any]:
        """Run `tokens` [B, T], row by row behind the pasts of `joined`: logits f32 [B, T, V].

        `joined` is behind them afterwards. Raises RuntimeFault for tokens of another batch
        (HETC-R014) or beyond the context (R022), for what is spent (R010) or another bundle's
        (R011).
        """
        if joined.executor is not self.decode_executor:
            raise RuntimeFault(
                "HETC-R011",
                "these sequences were joined by another bundle",
                at=self.decode_executor.name,
                do="decode them with the bundle that joined them",
            )
        batch, count = tokens.shape
        before = joined.pasts
        _require_batch(batch, len(before))
        self._require_room(max(before) + count)
        logits = joined.run(tokens)
        reached = tuple(past + count for past in before)
        self._check_logits(logits, (batch, count, self.vocab), self.decode_executor)
        self._check_positions(joined.pasts, reached, self.decode_executor)
        return logits

    def as_tokens(self, tokens: NDArray[Any] | Sequence[Any]) -> Tokens:
        """Token ids as int64 [B, S]; one sequence is a batch of one.

        Raises RuntimeFault HETC-R020 for what are no ids of this vocabulary, R021 for none at all.
        """
        try:
            array = np.asarray(tokens)
        except ValueError as error:
            raise _bad_tokens("sequences of equal length", "unequal lengths") from error
        array = array[np.newaxis] if array.ndim == 1 else array
        if not array.size:
            raise RuntimeFault("HETC-R021", "there are no tokens", do="pass at least one token")
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise _bad_tokens("integers [S] or [B, S]", f"{array.dtype} {list(array.shape)}")
        outside = array[(array < 0) | (array >= self.vocab)]
        if outside.size:
            raise _bad_tokens(f"ids from 0 to {self.vocab - 1}", int(outside[0]))
        return array.astype(np.int64)

    def as_sequence(self, tokens: NDArray[Any] | Sequence[int]) -> list[int]:
        """The ids of one sequence as a list; raises as `as_tokens` does."""
        checked = self.as_tokens(tokens)
        if len(checked) != 1:
            raise _bad_tokens("one sequence", f"{len(checked)} sequences")
        return [int(token) for token in checked[0]]

    def close(self) -> None:
        """Close both executors."""
        self.prefill_executor.close()
        self.decode_executor.close()

    def _require_room(self, tokens: int) -> None:
        if tokens > self.context_limit:
            raise RuntimeFault(
                "HETC-R022",
                "this is longer than the context",
                expected=f"at most {self.context_limit} tokens",
                found=tokens,
                do="shorten the prompt, or compile with a larger --context",
            )

    def _check_logits(
        self, logits: NDArray[Any], expected: tuple[int, ...], executor: Executor
    ) -> None:
        if logits.shape != expected or logits.dtype != np.float32:
            raise RuntimeFault(
                "HETC-R026",
                "an executor gave logits of another form",
                at=executor.name,
                expected=f"float32 {list(expected)}",
                found=f"{logits.dtype} {list(logits.shape)}",
                do="report this with the output of hetc doctor",
            )

    def _check_positions(
        self, found: int | tuple[int, ...], expected: int | tuple[int, ...], executor: Executor
    ) -> None:
        if found != expected:
            raise RuntimeFault(
                "HETC-R026",
                "an executor lost count of the positions",
                at=executor.name,
                expected=expected,
                found=found,
                do="report this with the output of hetc doctor",
            )


def _require_batch(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeFault(
            "HETC-R014",
            "the state is that of another batch",
            expected=f"tokens for {expected} sequences",
            found=f"{found}",
        )


def _bad_tokens(expected: str, found: object) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R020", "these are not token ids of this model", expected=expected, found=found
    )
