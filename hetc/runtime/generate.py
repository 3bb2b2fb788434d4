"""The generation loop: prefill, first token, hand-off, then decode step by step."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hetc.errors import RuntimeFault
from hetc.runtime.generation import FinishReason, Generation, GenerationOptions
from hetc.runtime.halves import Halves
from hetc.runtime.handoff import HandoffRecord
from hetc.runtime.sampling import choose, generator
from hetc.runtime.streaming import StopMatcher
from hetc.runtime.tokenizer import Tokenizer


@dataclass
class _Clock:
    """The times of one group, in seconds of `time.perf_counter`."""

    start: float = 0.0
    prefilled: float = 0.0
    first_token: float = 0.0
    handoff: HandoffRecord | None = None
    decode_start: float = 0.0


class _Sequence:
    """One prompt of a batch, on its way."""

    def __init__(
        self, index: int, prompt: list[int], options: GenerationOptions, tokenizer: Tokenizer | None
    ) -> None:
        self.prompt = prompt
        self.new: list[int] = []
        self.finish: FinishReason | None = None
        self.finished_at = 0.0
        self._options = options
        self._eos = frozenset() if options.ignore_eos or not tokenizer else tokenizer.eos_ids
        self._rng = generator(options.sampling.seed, index)
        self._detokenizer = tokenizer.detokenizer() if tokenizer else None
        self._stops = StopMatcher(options.stop)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All the text so far."""
        return "".join(self._pieces)

    def advance(self, logits: NDArray[np.float32], limit: int) -> str:
        """Choose the next token from `logits` [V]; gives the text that is final by it."""
        token = choose(logits, self.prompt + self.new, self._options.sampling, self._rng)
        self.new.append(token)
        piece = self._stops.push(self._detokenizer.push(token)) if self._detokenizer else ""
        if self._stops.stopped:
            self.finish = "stop"
        elif token in self._eos:
            self.finish = "eos"
        elif len(self.new) == self._options.max_new_tokens:
            self.finish = "length"
        elif len(self.prompt) + len(self.new) == limit:
            self.finish = "context"
        if self.finish:
            self.finished_at = time.perf_counter()
            piece += self._rest()
            # A stop text may end in what was held back until now.
            self.finish = "stop" if self._stops.stopped else self.finish
        self._pieces.append(piece)
        return piece

    def interrupt(self) -> None:
        """End here, whatever is missing."""
        if self.finish is None:
            self.finish = "interrupted"
            self.finished_at = time.perf_counter()
            self._pieces.append(self._rest())

    def _rest(self) -> str:
        """What was held back as half a character or as the beginning of a stop text."""
        if self._detokenizer is None or self._stops.stopped:
            return ""
        return self._stops.push(self._detokenizer.flush()) + self._stops.flush()


@dataclass
class Run:
    """One call of generate: the prompts as token ids, in the caller's order."""

    halves: Halves
    tokenizer: Tokenizer | None
    prompts: Sequence[list[int]]
    options: GenerationOptions
    _sequences: list[_Sequence] = field(default_factory=list)
    _clocks: dict[int, _Clock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work before anything runs.

        Raises RuntimeFault: HETC-R020 and R021 for bad tokens, R022 for a prompt that leaves no
        room in the context, R030 for stop texts without a tokenizer.
        """
        if self.options.stop and self.tokenizer is None:
            raise RuntimeFault(
                "HETC-R030",
                "this bundle has no tokenizer, so there is no text to stop at",
                at="stop",
                do="pass token ids, without stop",
            )
        limit = self.halves.context_limit
        for index, prompt in enumerate(self.prompts):
            checked = self.halves.as_sequence(prompt)
            if len(checked) >= limit:
                raise RuntimeFault(
                    "HETC-R022",
                    "the prompt leaves no room for an answer",
                    at=f"prompt {index}" if len(self.prompts) > 1 else "",
                    expected=f"fewer than {limit} tokens, the context of this bundle",
                    found=f"{len(checked)} tokens",
                    do="shorten the prompt, or compile with a larger --context",
                )
            self._sequences.append(_Sequence(index, checked, self.options, self.tokenizer))

    def pieces(self) -> Generator[tuple[int, str]]:
        """Run to the end; gives (index of the prompt, text) wherever text becomes final.

        Prompts of equal length run as one batch. When it is interrupted, the results hold what
        there was until then.
        """
        by_length: dict[int, list[int]] = {}
        for index, sequence in enumerate(self._sequences):
            by_length.setdefault(len(sequence.prompt), []).append(index)
        try:
            for group in by_length.values():
                yield from self._run_group(group)
        finally:
            for sequence in self._sequences:
                sequence.interrupt()

    def texts(self) -> Generator[str]:
        """The pieces alone, for a run of one prompt; closing it ends the run."""
        with closing(self.pieces()) as pieces:
            for _, text in pieces:
                yield text

    def results(self) -> list[Generation]:
        """What came out, in the order of the prompts."""
        return [self._result(index) for index in range(len(self._sequences))]

    def _run_group(self, group: list[int]) -> Iterator[tuple[int, str]]:
        sequences = [self._sequences[index] for index in group]
        clock = _Clock(start=time.perf_counter())
        self._clocks |= dict.fromkeys(group, clock)
        limit = self.halves.context_limit
        tokens = np.asarray([sequence.prompt for sequence in sequences], dtype=np.int64)
        reach = min(limit, tokens.shape[1] + self.options.max_new_tokens)
        self.halves.bind(batch=len(group), context=reach)
        logits, state = self.halves.prefill(tokens)
        clock.prefilled = time.perf_counter()
        first = [
            row.advance(scores[-1], limit) for row, scores in zip(sequences, logits, strict=True)
        ]
        clock.first_token = time.perf_counter()
        yield from _said(group, first)
        if all(row.finish for row in sequences):
            return
        state, clock.handoff = self.halves.hand_off(state)
        clock.decode_start = time.perf_counter()
        while not all(row.finish for row in sequences):
            # A row that has ended keeps its place in the batch; what comes out of it is not used.
            tokens = np.asarray([[row.new[-1]] for row in sequences], dtype=np.int64)
            logits, state = self.halves.decode(tokens, state)
            said = [
                "" if row.finish else row.advance(scores[-1], limit)
                for row, scores in zip(sequences, logits, strict=True)
            ]
            yield from _said(group, said)

    def _result(self, index: int) -> Generation:
        sequence = self._sequences[index]
        clock = self._clocks.get(index, _Clock())
        steps = len(sequence.new) - 1
        decoding = sequence.finished_at - clock.decode_start
        prefilling = clock.prefilled - clock.start
        return Generation(
            text=sequence.text,
            token_ids=tuple(sequence.new),
            prompt_tokens=len(sequence.prompt),
            new_tokens=len(sequence.new),
            finish_reason=sequence.finish or "interrupted",
            ttft_s=max(clock.first_token - clock.start, 0.0),
            prefill_tokens_per_s=len(sequence.prompt) / prefilling if prefilling > 0 else 0.0,
            decode_tokens_per_s=steps / decoding if steps > 0 and decoding > 0 else None,
            executors={
                "prefill": self.halves.prefill_executor.name,
                "decode": self.halves.decode_executor.name,
            },
            handoff=clock.handoff,
        )


def _said(group: list[int], pieces: list[str]) -> Iterator[tuple[int, str]]:
    yield from ((index, piece) for index, piece in zip(group, pieces, strict=True) if piece)
