"""What every engine under test must do. Nothing here, or in the worker, needs hetc or a peer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

# Ids of ordinary words in SmolLM2's vocabulary: no special tokens.
_WORDS = (20, 40_000)


@dataclass(frozen=True)
class Room:
    """What an engine is told to make room for: sequences at once, and tokens of the longest."""

    batch: int
    context: int


@dataclass(frozen=True)
class Answer:
    """`arrivals`: seconds from the call to each step's tokens. `tokens`: ids, one list a prompt."""

    arrivals: list[float]
    tokens: list[list[int]]


class Engine(Protocol):
    """Runs one model in this process; `generate` is greedy and goes on after an end token."""

    def load(self, model: Path, threads: int, room: Room) -> None:
        """Make the model ready to run."""
        ...

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        """Continue prompts of equal length by `new` tokens each, all in one batch."""
        ...


class Scoring(Protocol):
    """An engine whose logits `benchmarks.quality` compares."""

    def logits(self, ids: list[int]) -> np.ndarray:
        """Of every position of `ids`, all of them given, f32[S, V]."""
        ...


def prompts(tokens: int, batch: int, seed: int) -> list[list[int]]:
    """The same random ids in every process; another seed gives prompts that no cache holds."""
    chosen = random.Random(f"{tokens} {batch} {seed}")
    return [[chosen.randrange(*_WORDS) for _ in range(tokens)] for _ in range(batch)]
