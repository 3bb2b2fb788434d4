"""What is to be run: one request, and the sizes that it gives to both phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetc.errors import PartitionError

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, Phase] = ("prefill", "decode")


@dataclass(frozen=True)
class Workload:
    """One request: `batch` sequences, each with `prompt_tokens` and then `new_tokens` decode steps.

    The first token of an answer is prefill's and takes no decode step. `context` is what memory
    must hold for each sequence, the prompt and the new tokens where it is 0. Raises PartitionError
    (HETC-P004) for sizes below 1 or a context that does not hold the request.
    """

    batch: int = 1
    prompt_tokens: int = 512
    new_tokens: int = 128
    context: int = 0

    def __post_init__(self) -> None:
        if min(self.batch, self.prompt_tokens, self.new_tokens) < 1:
            raise PartitionError(
                "HETC-P004",
                "a workload needs at least one sequence, one prompt token and one new token",
                found=f"{self.batch}, {self.prompt_tokens}, {self.new_tokens}",
            )
        if self.context and self.context < self.prompt_tokens + self.new_tokens:
            raise PartitionError(
                "HETC-P004",
                "the context does not hold the prompt and the new tokens",
                expected=f"at least {self.prompt_tokens + self.new_tokens}",
                found=self.context,
            )

    @property
    def rows(self) -> int:
        """Tokens that the state of one sequence must have room for."""
        return self.context or self.prompt_tokens + self.new_tokens

    def bindings(self, phase: Phase) -> dict[str, int]:
        """Symbols of the phase's graph.

        Decode is one step at the middle of the generated tokens: costs are affine in the past
        length (attention reads each row once), so that the step in the middle costs the mean of
        all.
        """
        if phase == "prefill":
            return {"B": self.batch, "S": self.prompt_tokens}
        middle = self.prompt_tokens + (self.new_tokens - 1) // 2
        return {"B": self.batch, "T": 1, "P": middle}

    def executions(self, phase: Phase) -> int:
        """How often the phase's graph runs."""
        return 1 if phase == "prefill" else self.new_tokens
