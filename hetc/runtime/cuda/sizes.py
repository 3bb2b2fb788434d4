"""The sizes of one call: what the launch plan's polynomials come to."""

from __future__ import annotations

from hetc.errors import RuntimeFault
from hetc.runtime.handoff import size_of


class Sizes:
    """B sequences of S tokens each, M = B * S rows; `W<n>` is min(S, n)."""

    def __init__(self, sequences: int, longest: int) -> None:
        self.sequences = sequences
        self.longest = longest
        self.rows = sequences * longest
        self._values = {"M": self.rows, "B": sequences, "S": longest, "P": longest}
        self._known: dict[str, int] = {}

    def __call__(self, size: str, *, at: str) -> int:
        """`size` as a number; raises RuntimeFault HETC-R014 for one that is no size, and R054 for
        a negative one."""
        found = self._known.get(size)
        if found is None:
            found = size_of(size, self._values, at=at)
            if found < 0:
                raise RuntimeFault(
                    "HETC-R054",
                    "a size of the launch plan is negative",
                    at=at,
                    expected=f"at least 0 for {self}",
                    found=f"{size} = {found}",
                    do="compile the model again",
                )
            self._known[size] = found
        return found

    def __str__(self) -> str:
        return f"{self.sequences} x {self.longest} tokens"
