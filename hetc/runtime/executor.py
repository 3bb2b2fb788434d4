"""What runs one half of a bundle: four verbs, and nothing of a compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.bundle.contract import Phase
from hetc.runtime.state import State

Array = NDArray[np.generic]
Half = Phase


class Executor(Protocol):
    """Runs one half; an instance serves one half of one bundle."""

    name: str

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        """Read and make ready the files of `half`; raises HetcError where it cannot run here."""
        ...

    def bind(self, *, batch: int, context: int) -> None:
        """Announce the sequences at once and the largest context, in tokens, of what follows."""
        ...

    def run(self, tokens: NDArray[np.int64], state: State | None) -> tuple[NDArray[Any], State]:
        """Run the half on `tokens` [B, S] and take over `state` (None for prefill).

        Returns logits f32 [B, 1, V] (prefill, last position) or [B, T, V] (decode), and the state
        after them, owned by the half that ran.
        """
        ...

    def close(self) -> None:
        """Give back what `prepare` took; a second call does nothing."""
        ...


ExecutorFactory = Callable[[], Executor]
