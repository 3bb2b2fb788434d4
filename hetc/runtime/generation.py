"""What a generation is asked for and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from hetc.errors import RuntimeFault
from hetc.runtime.handoff import HandoffRecord
from hetc.runtime.sampling import SamplingOptions

FinishReason = Literal["eos", "stop", "length", "context", "interrupted"]


@dataclass(frozen=True)
class GenerationOptions:
    """How far to go and how to choose; raises RuntimeFault HETC-R023 for a value out of range.

    `stop` are texts before which the answer is cut; `ignore_eos` goes on behind an end token, so
    that exactly `max_new_tokens` come out unless a stop text or the context ends it.
    """

    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    sampling: SamplingOptions = field(default_factory=SamplingOptions)

    def __post_init__(self) -> None:
        for good, name, expected, found in (
            (self.max_new_tokens >= 1, "max_new_tokens", "1 or more", self.max_new_tokens),
            (all(self.stop), "stop", "texts that are not empty", self.stop),
        ):
            if not good:
                raise RuntimeFault(
                    "HETC-R023",
                    "a generation option is out of range",
                    at=name,
                    expected=expected,
                    found=found,
                )


@dataclass(frozen=True)
class Generation:
    """An answer, and how long it took.

    `token_ids` are the new tokens, an end token included; `text` leaves special tokens out and ends
    before a stop text. `ttft_s` is from the start of prefill to the first token, tokenization and
    queueing behind other groups of a batch excluded. The rates count this sequence's tokens alone:
    prompt tokens over prefill's time, and the tokens after the first over decode's time (None where
    there was no step); the hand-off's time is in `handoff` only. `executors` are those that ran.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    new_tokens: int
    finish_reason: FinishReason
    ttft_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    executors: Mapping[str, str]
    handoff: HandoffRecord | None

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON values."""
        plain = asdict(self)
        return plain | {"token_ids": list(self.token_ids), "executors": dict(self.executors)}


class TextStream(Iterator[str]):
    """The text of one generation, piece by piece; `result` holds the whole once it has ended."""

    def __init__(self, pieces: Generator[str], finish: Callable[[], Generation]) -> None:
        self._pieces = pieces
        self._finish = finish
        self._result: Generation | None = None

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except (StopIteration, KeyboardInterrupt):
            # After an interrupt the result tells what there was until then.
            self._result = self._result or self._finish()
            raise

    def close(self) -> None:
        """End the generation here; `result` then holds what there was until now."""
        self._pieces.close()
        self._result = self._result or self._finish()

    @property
    def result(self) -> Generation:
        """The whole generation; raises RuntimeFault HETC-R034 while it goes on."""
        if self._result is None:
            raise RuntimeFault(
                "HETC-R034",
                "the generation has not ended yet",
                do="read the stream to its end before its result",
            )
        return self._result
