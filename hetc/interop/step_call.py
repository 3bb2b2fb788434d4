"""A decode step as PyTorch calls it: caches are PyTorch's, and the engine's copy follows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.bundle.native import StateLayout
from hetc.errors import HetcError, Reason
from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_numpy, to_torch
from hetc.interop.apart import Apart
from hetc.interop.cache_rows import with_rows, write_rows
from hetc.interop.difference import differing
from hetc.interop.mistakes import MISTAKES, mistake
from hetc.interop.openmp import soon_asleep
from hetc.interop.step_roles import StepRoles
from hetc.interop.watched import Watched
from hetc.ir.dims import DimLike, evaluate
from hetc.ir.types import Array
from hetc.passes.adopt_step import state_name
from hetc.passes.step_rows import visible
from hetc.runtime.native.step import NativeStep

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

Compiled = Callable[..., Any]
# Room that a growing cache gets at first, in tokens.
_LEAST_ROOM = 1024


@dataclass(frozen=True)
class MadeStep:
    """A step ready to run: for positions below `capacity` and tokens below `vocabulary`.

    `outputs` are as `adopt_step` has them. `weights` are what it was made with, None where nobody
    counts what is written into them.
    """

    native: NativeStep
    capacity: int
    vocabulary: int
    states: Sequence[StateLayout]
    outputs: Sequence[str | Array]
    weights: Watched | None


class StepCall:
    """Runs a captured step natively while a call fits what was made, else as `otherwise` does.

    `eager` gives the roles' results by PyTorch, against which a step is held before it is used, by
    `tolerance`, see `differing`. Into the inputs at the places `counted`, a write is counted before
    each call.
    What fits: the very weights of the first call, unchanged; known tokens; every counter at the
    number of rows in the caches; masks that show just those rows and the new one. The engine keeps
    a copy of the caches, which is renewed unless they are the tensors that the last call left,
    unchanged.
    `calls` counts those that ran natively.
    """

    def __init__(
        self,
        roles: StepRoles,
        places: Mapping[Node, int],
        make: Callable[[tuple[Any, ...], int], MadeStep | Reason],
        eager: Apart,
        numbers: Mapping[Node, DimLike],
        tolerance: float,
        counted: frozenset[int],
        otherwise: Callable[[], Compiled],
        tell: Callable[[Reason], None],
    ) -> None:
        self._kept = roles.caches
        self._grow = any(cache.form == "grown" for cache in roles.caches)
        self._tokens = places[roles.tokens]
        self._caches = [places[cache.node] for cache in roles.caches]
        self._counters = [places[node] for node in roles.counters]
        self._positions = [places[node] for node in roles.numbers]
        self._masks = [places[node] for node in roles.masks]
        self._weights = [places[node] for node in roles.weights if node in places]
        results = roles.results
        self._results = results
        indices: dict[Any, int] = {node: index for index, node in enumerate(results)}
        sizes: dict[Any, DimLike] = dict(numbers)
        # A tensor by its index; or a size, or None and numbers as they are.
        self._returned: list[tuple[int | None, Any]] = [
            (indices.get(item), sizes.get(item, item)) for item in roles.returned
        ]
        self._written = [
            (places[target], results.index(source)) for target, source in roles.written
        ]
        self._make, self._eager, self._tolerance = make, eager, tolerance
        self._counted = [int(place in counted) for place in self._caches]
        self._otherwise, self._tell = otherwise, tell
        self._step: _Ready | Reason | None = None
        # The caches as the last call left them, and how many rows the engine has of them.
        self._left: Watched | None = None
        self._past = -1
        # The engine's copy is of one cache at a time.
        self._turn = threading.Lock()
        self.calls = 0

    def __call__(self, *given: Any) -> Any:
        with self._turn:
            past = self._position(given)
            ready = past if isinstance(past, Reason) else self._prepared(given, past)
            if not isinstance(past, Reason) and not isinstance(ready, Reason):
                self.calls += 1
                return self._run(ready, given, past)
        assert isinstance(ready, Reason)
        self._tell(ready)
        return self._otherwise()(*given)

    # Whether a call fits.

    def _position(self, given: tuple[Any, ...]) -> int | Reason:
        caches = [given[place] for place in self._caches]
        if self._positions:
            past = int(given[self._positions[0]])
        elif self._counters:
            past = int(given[self._counters[0]].flatten()[0])
        else:
            past = max(cache.shape[2] for cache in caches)
        if any(given[place] != past for place in self._positions) or not all(
            _holds(given[place], past) for place in self._counters
        ):
            return Reason("HETC-E054", "the tokens of a call do not all have one position")
        if not all(kept.fits(cache, past) for kept, cache in zip(self._kept, caches, strict=True)):
            return Reason("HETC-E054", "the position is not the number of tokens in the cache")
        for place in self._masks:
            seen = visible(to_numpy(given[place]))
            if isinstance(seen, str) or not (seen == (np.arange(seen.shape[-1]) <= past)).all():
                return Reason("HETC-E054", "the mask hides tokens of the past")
        return past

    def _prepared(self, given: tuple[Any, ...], past: int) -> _Ready | Reason:
        """The step, made where there is none for these weights and this position yet."""
        ready = self._step
        if isinstance(ready, Reason):
            return ready
        if ready is not None and not ready.weights.are_in(given):
            return Reason("HETC-E054", "the weights are not those that the step was made with")
        if ready is None or past >= ready.made.capacity:
            self._step = ready = self._new(given, past)
        if isinstance(ready, Reason) or _are_below(given[self._tokens], ready.made.vocabulary):
            return ready
        return Reason("HETC-E054", "a token is none of the vocabulary's")

    def _new(self, given: tuple[Any, ...], past: int) -> _Ready | Reason:
        """A step for this position and as many again, once it computes what PyTorch does."""
        weights = _Weights.of(given, self._weights)
        if weights is None:
            return Reason("HETC-E054", "nothing tells whether weights made for inference change")
        caches = [given[place] for place in self._caches]
        self._left, self._past = None, -1
        try:
            made = self._make(given, max(_LEAST_ROOM, 1 << (2 * past).bit_length()))
        except HetcError as error:
            return Reason(error.code, f"{error.what}: {error.found}", at=error.at)
        except MISTAKES as error:
            return mistake(error)
        if isinstance(made, Reason):
            return made
        if past >= made.capacity:
            return Reason("HETC-E054", "the position is beyond what the step can be made for")
        ready = _Ready.of(made, weights, [node.meta["val"].dtype for node in self._results])
        self._cache = made.native.cache(given[self._tokens].shape[0], made.capacity)
        self._fill(ready, caches, past)
        wrong = self._differing(ready, given, past)
        if wrong is not None:
            return Reason("HETC-V005", f"the step computes something else than PyTorch: {wrong[1]}")
        return ready

    def _differing(
        self, ready: _Ready, given: tuple[Any, ...], past: int
    ) -> tuple[int, str] | None:
        """Which result of the step is not PyTorch's, and in what."""

        def ours(kind: int | torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
            if isinstance(kind, int):
                return to_torch(rows[kind][:, :, None], dtype_of_torch(dtype))
            return logits if kind is None else kind[past]

        def new(results: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            return [
                self._kept[kind].new_row(result, past) if isinstance(kind, int) else result
                for kind, result in zip(ready.kinds, results, strict=True)
            ]

        # First, so that what is wrong in a call is PyTorch's to say.
        theirs = new(self._eager(*given))
        logits, rows = self._step_natively(ready, given, past)
        made = [ours(kind, x.dtype) for kind, x in zip(ready.kinds, theirs, strict=True)]
        return differing(made, theirs, lambda: new(self._eager.in_f32(*given)), self._tolerance)

    # Running it.

    def _run(self, ready: _Ready, given: tuple[Any, ...], past: int) -> tuple[Any, ...]:
        """What the graph returns, after what it writes is written."""
        soon_asleep().step()
        caches = [given[place] for place in self._caches]
        left = self._left
        if left is None or self._past != past or not left.is_still(caches, self._counted):
            left = None
            self._fill(ready, caches, past)
        # Until all of it is done, nothing is known of the caches.
        self._left, self._past = None, -1
        logits, rows = self._step_natively(ready, given, past)
        if self._grow:
            grown = zip(self._kept, with_rows(caches, rows), strict=True)
            caches, left = [kept.left(cache) for kept, cache in grown], None
        else:
            arrays = [to_numpy(x) for x in caches] if left is None else left.arrays
            places = [kept.place(x, past) for kept, x in zip(self._kept, arrays, strict=True)]
            write_rows(caches, arrays, rows, places)
            if left is not None:
                left.renew()
        self._left, self._past = left or Watched.of(caches), past + 1

        def result(index: int) -> torch.Tensor:
            kind = ready.kinds[index]
            if kind is None:
                return logits
            return caches[kind] if isinstance(kind, int) else kind[past].clone()

        for place, index in self._written:
            into, source = given[place], result(index)
            if into is not source:
                into.copy_(source)
        return tuple(
            _number(size, past) if index is None else result(index)
            for index, size in self._returned
        )

    def _step_natively(
        self, ready: _Ready, given: tuple[Any, ...], past: int
    ) -> tuple[torch.Tensor, list[Array]]:
        """The logits [B,1,V], and the new row [B,G,D] of each cache."""
        import torch

        tokens = given[self._tokens].numpy()
        pasts = np.full(tokens.shape[0], past, np.int64)
        logits = ready.made.native.run(tokens, pasts, self._cache)
        rows = self._cache.rows(past)
        taken = torch.from_numpy(np.ascontiguousarray(logits)).to(ready.logits)
        return taken, [rows[index] for index in ready.order]

    def _fill(self, ready: _Ready, caches: Sequence[torch.Tensor], past: int) -> None:
        """Make the engine's rows those of PyTorch's caches."""
        batch = caches[0].shape[0]
        if batch != self._cache.batch:
            self._cache = ready.made.native.cache(batch, ready.made.capacity)
        for cache, index in zip(caches, ready.order, strict=True):
            self._cache.write(ready.made.states[index], past, to_numpy(cache[:, :, :past]))


@dataclass(frozen=True)
class _Weights:
    """The weights of a step. Numbers of the program, which come as new tensors in each call, are
    compared with `numbers`."""

    places: Sequence[int]
    watched: Watched
    numbers: Sequence[tuple[int, torch.Tensor]]

    @staticmethod
    def of(given: tuple[Any, ...], places: Sequence[int]) -> _Weights | None:
        """Those at `places`; None where nobody counts what is written into one."""
        tensors = [place for place in places if given[place].ndim]
        watched = Watched.of([given[place] for place in tensors])
        numbers = [(place, given[place].clone()) for place in places if not given[place].ndim]
        return None if watched is None else _Weights(tensors, watched, numbers)

    def are_in(self, given: tuple[Any, ...]) -> bool:
        """Whether a call has the same, unchanged."""
        return all(number.equal(given[place]) for place, number in self.numbers) and (
            self.watched.is_still([given[place] for place in self.places])
        )


@dataclass(frozen=True)
class _Ready:
    """A step and what its calls need.

    `kinds` are the graph's results: None for the logits, of the type `logits`, the number of a
    cache, or what it is at every position. The engine has the caches in `order`.
    """

    made: MadeStep
    weights: _Weights
    kinds: Sequence[int | torch.Tensor | None]
    logits: torch.dtype
    order: Sequence[int]

    @staticmethod
    def of(made: MadeStep, weights: _Weights, dtypes: Sequence[torch.dtype]) -> _Ready:
        """`dtypes` are those of the results."""
        numbers = {state_name(index): index for index in range(len(made.states))}
        kinds: list[int | torch.Tensor | None] = []
        for kind, dtype in zip(made.outputs, dtypes, strict=True):
            if not isinstance(kind, str):
                kinds.append(to_torch(kind, dtype_of_torch(dtype)))
            else:
                kinds.append(None if kind == "logits" else numbers[kind.removesuffix(".out")])
        places = {state.name: index for index, state in enumerate(made.states)}
        order = [places[name] for name in numbers]
        return _Ready(made, weights, kinds, dtypes[kinds.index(None)], order)


def _are_below(tokens: torch.Tensor, vocabulary: int) -> bool:
    """Whether all of the tokens are in the vocabulary; the engine does not ask."""
    return all(0 <= token < vocabulary for token in tokens.flatten().tolist())


def _holds(counter: torch.Tensor, past: int) -> bool:
    """Whether all numbers of a counter are `past`."""
    if counter.numel() == 1:
        return bool(counter.item() == past)
    return all(number == past for number in counter.flatten().tolist())


def _number(size: DimLike | None, past: int) -> int | None:
    """A size that is returned."""
    return None if size is None else evaluate(size, {"P": past})
