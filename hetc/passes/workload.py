"""What is to be run: one request, and the sizes that it gives to both phases; or one call of a
model without phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hetc.errors import PartitionError

# `forward` is the one graph of a model without phases.
Phase = Literal["prefill", "decode", "forward"]
PHASES: tuple[Phase, Phase] = ("prefill", "decode")
_MOST = {"prompt_tokens": 1 << 17, "new_tokens": 1 << 14, "batch": 1 << 10}


@dataclass(frozen=True)
class Workload:
    """One request: `batch` sequences, each with `prompt_tokens` and then `new_tokens` decode steps.

    The first token of an answer is prefill's and takes no decode step. `context` is what memory
    must hold for each sequence, the prompt and the new tokens where it is 0, and `longest` the
    longest request of the model, 0 for any. Raises PartitionError (HETC-P004) for sizes below 1 or
    a context that does not hold the request.
    """

    batch: int = 1
    prompt_tokens: int = 512
    new_tokens: int = 128
    context: int = 0
    longest: int = 0

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

    @property
    def ranges(self) -> Mapping[str, tuple[int, int]]:
        """The sizes that another request may have: names of fields, and from where to where a cut
        looks for flips."""
        longest = self.longest or sum(_MOST.values())
        return {
            "prompt_tokens": (1, min(_MOST["prompt_tokens"], longest - self.new_tokens)),
            "new_tokens": (1, min(_MOST["new_tokens"], longest - self.prompt_tokens)),
            "batch": (1, _MOST["batch"]),
        }

    def size(self, name: str) -> int:
        """One of `ranges` as it is."""
        return int(getattr(self, name))

    def resized(self, name: str, number: int) -> Workload:
        """The request with one of `ranges` changed, and memory for no more than that."""
        sizes = {size: self.size(size) for size in self.ranges} | {name: number}
        return Workload(**sizes, longest=self.longest)

    def record(self) -> dict[str, Any]:
        """The request as JSON values."""
        return {
            "batch": self.batch,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "context": self.rows,
        }

    def __str__(self) -> str:
        return f"{self.batch} x {self.rows} tokens"

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


@dataclass(frozen=True)
class OneCall:
    """One call of a model without phases: `sizes` gives a number to every symbol of its inputs.

    Raises PartitionError (HETC-P004) for a size below 1.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.sizes.values(), default=1) < 1:
            raise PartitionError(
                "HETC-P004", "every size of a call is at least 1", found=dict(self.sizes)
            )

    @property
    def ranges(self) -> Mapping[str, tuple[int, int]]:
        """The sizes that another call may have, and from where to where a cut looks for flips."""
        return dict.fromkeys(self.sizes, (1, 1 << 14))

    def size(self, name: str) -> int:
        """One of `ranges` as it is."""
        return self.sizes[name]

    def resized(self, name: str, number: int) -> OneCall:
        """The call with one size changed."""
        return OneCall({**self.sizes, name: number})

    def record(self) -> dict[str, Any]:
        """The call as JSON values."""
        return {"sizes": dict(self.sizes)}

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} = {number:,}" for name, number in self.sizes.items())
        return f"one call of {sizes}" if sizes else "one call"

    def bindings(self, phase: Phase) -> dict[str, int]:
        """Symbols of the graph."""
        return dict(self.sizes)

    def executions(self, phase: Phase) -> int:
        """How often the graph runs."""
        return 1


AnyWorkload = Workload | OneCall
