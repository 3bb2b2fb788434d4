"""Sequences at different positions in one cache, which one call of the code decodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.native import NativeLayout
from hetc.runtime.joined import require_whole, rows_of
from hetc.runtime.native.cache import Cache, CacheTensor, joined
from hetc.runtime.state import State


class Advancing(Protocol):
    """The executor of the engine."""

    def advance(
        self, tokens: NDArray[np.int64], pasts: NDArray[np.int64], cache: Cache
    ) -> NDArray[Any]:
        """Run `tokens` [B, T] behind `pasts` [B] on a cache with room for them: logits
        [B, T, V]."""
        ...


class NativeJoined:
    """`Joined` in the native engine's memory."""

    def __init__(
        self,
        executor: Advancing,
        layout: NativeLayout,
        contract_sha256: str,
        cache: Cache,
        pasts: Sequence[int],
    ) -> None:
        self.executor = executor
        self._layout = layout
        self._contract_sha256 = contract_sha256
        self._cache: Cache | None = cache
        self.pasts = tuple(pasts)

    def run(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """See `Joined.run`."""
        cache, self._cache = require_whole(self._cache), None
        count = tokens.shape[1]
        needed = max(self.pasts) + count
        if cache.room < needed:
            cache = joined(self._layout, [(cache, range(cache.batch))], self.pasts, needed)
        logits = self.executor.advance(tokens, np.array(self.pasts, np.int64), cache)
        self._cache = cache
        self.pasts = tuple(past + count for past in self.pasts)
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See `Joined.keep`: their tokens are copied once, unless all stay where they are."""
        cache = require_whole(self._cache)
        pasts = rows_of(self.pasts, rows)
        self._cache = joined(self._layout, [(cache, rows)], pasts, cache.room)
        self.pasts = pasts

    def split(self) -> list[State]:
        """See `Joined.split`; nothing is copied before a state is used."""
        cache, self._cache = require_whole(self._cache), None
        return [
            State(
                self._contract_sha256,
                past,
                {held.name: CacheTensor(cache, held, past, row) for held in self._layout.states},
                owner="decode",
            )
            for row, past in enumerate(self.pasts)
        ]
