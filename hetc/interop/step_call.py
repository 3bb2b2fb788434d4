"""A decode step as PyTorch calls it: caches are PyTorch's, and the engine's copy follows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.bundle.native import StateLayout
from hetc.errors import HetcError, Reason
from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_numpy, to_torch
from hetc.interop.region_call import difference
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
    """A step ready to run: for positions below `capacity`; `outputs` as `adopt_step` has them.
    `weights` are what it was made with."""

    native: NativeStep
    capacity: int
    states: Sequence[StateLayout]
    outputs: Sequence[str | Array]
    weights: tuple[torch.Tensor, ...]


class StepCall:
    """Runs a captured step natively while a call fits what was made, else as `otherwise` does.

    `eager` gives the roles' results by PyTorch, against which a step is held before it is used:
    they may be apart by `tolerance`, a part of the largest of them. Into the inputs at the places
    `counted`, a write is counted before each call.
    What fits: the very weights of the first call, unchanged; every counter at the number of rows in
    the caches; masks that show just those rows and the new one. The engine keeps a copy of the
    caches, which is renewed unless they are the tensors that the last call left, unchanged.
    `calls` counts those that ran natively.
    """

    def __init__(
        self,
        roles: StepRoles,
        places: Mapping[Node, int],
        make: Callable[[tuple[Any, ...], int], MadeStep | Reason],
        eager: Callable[..., tuple[torch.Tensor, ...]],
        numbers: Mapping[Node, DimLike],
        tolerance: float,
        counted: frozenset[int],
        otherwise: Callable[[], Compiled],
        tell: Callable[[Reason], None],
    ) -> None:
        self._roles = roles
        self._tokens = places[roles.tokens]
        self._caches = [places[cache.node] for cache in roles.caches]
        self._kept = {state_name(i): cache for i, cache in enumerate(roles.caches)}
        self._counters = [places[node] for node in roles.counters]
        self._positions = [places[node] for node in roles.numbers]
        self._masks = [places[node] for node in roles.masks]
        self._weights = [places[node] for node in roles.weights if node in places]
        self._places = places
        self._make, self._eager, self._tolerance = make, eager, tolerance
        self._numbers = numbers
        self._counted = [int(place in counted) for place in self._caches]
        self._otherwise, self._tell = otherwise, tell
        self._step: MadeStep | Reason | None = None
        self._bound: list[tuple[int, Watched]] = []
        # The caches as the last call left them, and how many rows the engine has of them.
        self._left: list[Watched | None] = []
        self._past = -1
        # The engine's copy is of one cache at a time.
        self._turn = threading.Lock()
        self.calls = 0

    def __call__(self, *given: Any) -> Any:
        with self._turn:
            past = self._position(given)
            made = past if isinstance(past, Reason) else self._prepared(given, past)
            if not isinstance(past, Reason) and not isinstance(made, Reason):
                self.calls += 1
                return self._run(made, given, past)
        assert isinstance(made, Reason)
        self._tell(made)
        return self._otherwise()(*given)

    # Whether a call fits.

    def _position(self, given: tuple[Any, ...]) -> int | Reason:
        caches = self._by_name(given)
        if self._positions:
            past = int(given[self._positions[0]])
        elif self._counters:
            past = int(given[self._counters[0]].flatten()[0])
        else:
            past = max(cache.shape[2] for cache in caches.values())
        counted = (given[place].flatten() for place in self._counters)
        if any(int(item) != past for numbers in counted for item in numbers) or any(
            given[place] != past for place in self._positions
        ):
            return Reason("HETC-E054", "the tokens of a call do not all have one position")
        if not all(self._kept[name].fits(cache, past) for name, cache in caches.items()):
            return Reason("HETC-E054", "the position is not the number of tokens in the cache")
        for place in self._masks:
            seen = visible(to_numpy(given[place]))
            if isinstance(seen, str) or not (seen == (np.arange(seen.shape[-1]) <= past)).all():
                return Reason("HETC-E054", "the mask hides tokens of the past")
        return past

    def _prepared(self, given: tuple[Any, ...], past: int) -> MadeStep | Reason:
        """The step, made where there is none for these weights and this position yet."""
        made = self._step
        if isinstance(made, Reason):
            return made
        if made is not None and not self._are_same(given):
            return Reason("HETC-E054", "the weights are not those that the step was made with")
        if made is None or past >= made.capacity:
            self._step = made = self._new(given, past)
        return made

    def _new(self, given: tuple[Any, ...], past: int) -> MadeStep | Reason:
        """A step for this position and as many again, once it computes what PyTorch does."""
        bound = [(place, Watched.of(given[place])) for place in self._weights]
        self._bound = [(place, watched) for place, watched in bound if watched is not None]
        if len(self._bound) != len(bound):
            return Reason("HETC-E054", "nothing tells whether weights made for inference change")
        self._left, self._past = [], -1
        try:
            made = self._make(given, max(_LEAST_ROOM, 1 << (2 * past).bit_length()))
        except HetcError as error:
            return Reason(error.code, f"{error.what}: {error.found}", at=error.at)
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            # A mistake of hetc's must not stop a program that runs without it.
            found = f"{type(error).__name__}: {error}"
            return Reason("HETC-Z002", f"a decode step could not be made: {found}")
        if isinstance(made, Reason):
            return made
        if past >= made.capacity:
            return Reason("HETC-E054", "the position is beyond what the step can be made for")
        self._cache = made.native.cache(given[self._tokens].shape[0], made.capacity)
        logits, rows = self._step_natively(made, given, past)
        found = ""
        for kind, theirs in zip(made.outputs, self._eager(*given), strict=True):
            if not isinstance(kind, str):
                ours = to_torch(kind[past], dtype_of_torch(theirs.dtype))
            elif kind == "logits":
                ours = logits
            else:
                name = kind.removesuffix(".out")
                ours, theirs = rows[name], self._kept[name].new_row(theirs, past)
            found = found or difference(ours, theirs, self._tolerance)
        if found:
            return Reason("HETC-V005", f"the step computes something else than PyTorch: {found}")
        return made

    def _are_same(self, given: tuple[Any, ...]) -> bool:
        for place, watched in self._bound:
            # Numbers of the program come as a new tensor at each call.
            is_number = watched.tensor.ndim == 0
            item = given[place]
            if not (watched.tensor.equal(item) if is_number else watched.is_still(item)):
                return False
        return True

    # Running it.

    def _run(self, made: MadeStep, given: tuple[Any, ...], past: int) -> tuple[Any, ...]:
        """What the graph returns, after what it writes is written."""
        logits, rows = self._step_natively(made, given, past)
        grown = self._grown(given, rows, past)
        self._left, self._past = [Watched.of(cache) for cache in grown.values()], past + 1
        results = {
            node: self._result(kind, logits, grown, past)
            for node, kind in zip(self._roles.results, made.outputs, strict=True)
        }
        for target, source in self._roles.written:
            into = given[self._places[target]]
            if results[source] is not into:
                into.copy_(results[source])
        numbers = {node: evaluate(size, {"P": past}) for node, size in self._numbers.items()}
        returned: dict[Any, Any] = {**results, **numbers}
        # What is no node is a number or None, and returned as it is.
        return tuple(returned.get(item, item) for item in self._roles.returned)

    def _step_natively(
        self, made: MadeStep, given: tuple[Any, ...], past: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The logits [B,1,V], and the new row [B,G,1,D] of each cache by name."""
        import torch

        caches = self._by_name(given)
        if self._past != past or not self._are_left(caches.values()):
            self._fill(made, caches, past)
        tokens = np.ascontiguousarray(given[self._tokens].numpy())
        logits = made.native.run(tokens, np.full(tokens.shape[0], past, np.int64), self._cache)
        rows = {
            state.name: to_torch(
                self._cache.rows(state, past, past + 1),
                dtype_of_torch(caches[state.name].dtype),
            )
            for state in made.states
        }
        (dtype,) = (
            node.meta["val"].dtype
            for node, kind in zip(self._roles.results, made.outputs, strict=True)
            if isinstance(kind, str) and kind == "logits"
        )
        return torch.from_numpy(np.ascontiguousarray(logits)).to(dtype), rows

    def _are_left(self, caches: Iterable[torch.Tensor]) -> bool:
        """Whether the caches are those that the last call left."""
        triples = zip(self._left, caches, self._counted, strict=True)
        return all(was is not None and was.is_still(cache, more) for was, cache, more in triples)

    def _by_name(self, given: tuple[Any, ...]) -> dict[str, torch.Tensor]:
        return {state_name(i): given[place] for i, place in enumerate(self._caches)}

    def _fill(self, made: MadeStep, caches: Mapping[str, torch.Tensor], past: int) -> None:
        """Make the engine's rows those of PyTorch's caches."""
        batch = next(iter(caches.values())).shape[0]
        if batch != self._cache.batch:
            self._cache = made.native.cache(batch, made.capacity)
        for state in made.states:
            self._cache.write(state, past, to_numpy(caches[state.name][:, :, :past]))

    def _grown(
        self, given: tuple[Any, ...], rows: Mapping[str, torch.Tensor], past: int
    ) -> dict[str, torch.Tensor]:
        """PyTorch's caches with the new rows."""
        return {
            name: self._kept[name].after(cache, rows[name], past)
            for name, cache in self._by_name(given).items()
        }

    def _result(
        self,
        kind: str | Array,
        logits: torch.Tensor,
        grown: Mapping[str, torch.Tensor],
        past: int,
    ) -> torch.Tensor:
        import torch

        if not isinstance(kind, str):
            return torch.from_numpy(np.array(kind[past]))
        return logits if kind == "logits" else grown[kind.removesuffix(".out")]
