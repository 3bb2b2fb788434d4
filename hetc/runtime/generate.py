"""The generation loop: prefill and first token by length of prompt, hand-off, then decode of all
step by step."""

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
from hetc.runtime.state import State
from hetc.runtime.streaming import StopMatcher
from hetc.runtime.tokenizer import Tokenizer

# Sequences of different lengths that decode together, unless the bundle is for more.
_TOGETHER = 16
# The places, in the caller's order, of prompts of one length: they are prefilled as one batch.
_Group = list[int]


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

        Prompts of equal length are prefilled as one batch. Then those of several lengths decode
        together, where the executor can do that, and else one length after the other. When it is
        interrupted, the results hold what there was until then.
        """
        by_length: dict[int, _Group] = {}
        for index, sequence in enumerate(self._sequences):
            by_length.setdefault(len(sequence.prompt), []).append(index)
        try:
            for groups in self._batches(list(by_length.values())):
                yield from self._run(groups)
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

    def _batches(self, groups: list[_Group]) -> list[list[_Group]]:
        """Which groups decode together."""
        most = max(_TOGETHER, self.halves.batch) if self.halves.joins else 0
        batches: list[list[_Group]] = []
        for group in groups:
            if batches and sum(map(len, batches[-1])) + len(group) <= most:
                batches[-1].append(group)
            else:
                batches.append([group])
        return batches

    def _run(self, groups: list[_Group]) -> Iterator[tuple[int, str]]:
        longest = max(len(self._sequences[group[0]].prompt) for group in groups)
        reach = min(self.halves.context_limit, longest + self.options.max_new_tokens)
        self.halves.bind(batch=sum(map(len, groups)), context=reach)
        begun: list[tuple[_Group, State]] = []
        for group in groups:
            state = yield from self._prefill(group)
            if not self._ended(group):
                state, self._clocks[group[0]].handoff = self.halves.hand_off(state)
                begun.append((group, state))
        if begun:
            yield from self._decode(begun)

    def _prefill(self, group: _Group) -> Generator[tuple[int, str], None, State]:
        """Prefill prompts of one length, and choose their first tokens."""
        clock = _Clock(start=time.perf_counter())
        self._clocks |= dict.fromkeys(group, clock)
        tokens = np.asarray([self._sequences[index].prompt for index in group], dtype=np.int64)
        logits, state = self.halves.prefill(tokens)
        clock.prefilled = time.perf_counter()
        first = self._advance(group, logits)
        clock.first_token = time.perf_counter()
        yield from _said(group, first)
        return state

    def _decode(self, begun: list[tuple[_Group, State]]) -> Iterator[tuple[int, str]]:
        """Decode all sequences of some groups until each has ended."""
        rows = [index for group, _ in begun for index in group]
        start = time.perf_counter()
        for index in rows:
            self._clocks[index].decode_start = start
        joined = self.halves.join([state for _, state in begun], [len(group) for group, _ in begun])
        while not self._ended(rows):
            going = [row for row, index in enumerate(rows) if not self._sequences[index].finish]
            if len(going) < len(rows):
                joined.keep(going)
                rows = [rows[row] for row in going]
            tokens = np.asarray([[self._sequences[index].new[-1]] for index in rows], np.int64)
            logits = self.halves.decode_joined(tokens, joined)
            yield from _said(rows, self._advance(rows, logits))

    def _advance(self, rows: list[int], logits: NDArray[np.float32]) -> list[str]:
        """Choose the next token of some sequences, from the last of `logits` [B, T, V]."""
        limit = self.halves.context_limit
        return [
            self._sequences[index].advance(scores[-1], limit)
            for index, scores in zip(rows, logits, strict=True)
        ]

    def _ended(self, rows: list[int]) -> bool:
        return all(self._sequences[index].finish for index in rows)

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
