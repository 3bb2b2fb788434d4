"""Text as tokens arrive: never half a character, never the beginning of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
Decode = Callable[[Sequence[int]], str]


class Detokenizer:
    """Turns tokens into text piece by piece.

    A character may span tokens and a token's text may depend on the one before (spaces), so the
    last tokens are decoded together with the new one, and what they already gave is cut off. Text
    that ends inside a character is held back.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._emitted = 0  # tokens whose text is out
        self._context = 0  # first token that is decoded again, for the sake of its successor

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._tokens.append(token)
        text = self._new_text()
        if not text or text.endswith(REPLACEMENT):
            return ""
        self._context, self._emitted = self._emitted, len(self._tokens)
        return text

    def flush(self) -> str:
        """What is still held back; bytes that make no character come out as U+FFFD."""
        text = self._new_text()
        self._context = self._emitted = len(self._tokens)
        return text

    def _new_text(self) -> str:
        before = self._decode(self._tokens[self._context : self._emitted])
        return self._decode(self._tokens[self._context :])[len(before) :]


class StopMatcher:
    """Cuts a text, given piece by piece, before the first stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """The part of the text so far that no stop string can claim any more."""
        if self.stopped:
            return ""
        text = self._held + piece
        hits = [index for stop in self._stops if (index := text.find(stop)) >= 0]
        if hits:
            self.stopped = True
            self._held = ""
            return text[: min(hits)]
        hold = self._undecided(text)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            tail = text[len(text) - length :]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
