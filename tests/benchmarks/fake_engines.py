"""Engines for the worker protocol: one that answers, and one for each way to fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.engine import Answer, Room


class Counting:
    """Continues a prompt by counting from its last token; a step takes `batch` ticks of 0.5 s."""

    def load(self, model: Path, threads: int, room: Room) -> None:
        if model.name != "counting":
            raise FileNotFoundError(f"{model.name} is\nno | model")
        print("a library that prints to stdout")
        os.write(1, b"and one that does so from C\n")

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        ticks = [0.5 * len(prompts) * (step + 1) for step in range(new)]
        return Answer(ticks, [[ids[-1] + 1 + step for step in range(new)] for ids in prompts])

    def logits(self, ids: list[int]) -> np.ndarray:
        result: np.ndarray = np.eye(16, dtype=np.float32)[np.array(ids) + 1]
        return result


class NoBatches(Counting):
    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        if len(prompts) > 1:
            raise ValueError("one sequence at a time")
        return super().generate(prompts, new)


class Dying(Counting):
    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        os.write(2, b"terminate called\n\n")
        os._exit(7)


class Hanging(Counting):
    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        time.sleep(60)
        raise AssertionError("it was not stopped")
