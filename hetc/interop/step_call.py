"""A decode step as PyTorch calls it: caches are PyTorch's, and the engine's copy follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.bundle.native import StateLayout
from hetc.errors import HetcError, Reason
from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_numpy, to_torch
from hetc.interop.step_roles import StepRoles
from hetc.ir.types import Array
from hetc.passes.adopt_step import state_name
from hetc.runtime.native.step import NativeStep

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

Compiled = Callable[..., Any]
# Room that a growing cache gets at first, in tokens.
_LEAST_ROOM = 1024


@dataclass(frozen=True)
class MadeStep:
    """A step ready to run: for positions below `capacity`; `outputs` as `adopt_step` has them."""

    native: NativeStep
    capacity: int
    states: Sequence[StateLayout]
    outputs: Sequence[str | Array]


class StepCall:
    """Runs a captured step natively while a call fits what was made, else as `otherwise` does.

    What fits: the very weights of the first call, unchanged; every counter at the number of rows in
    the caches; masks that show just those rows and the new one. The engine keeps a copy of the
    caches, which is renewed unless they are the tensors that the last call left, unchanged.
    """

    def __init__(
        self,
        roles: StepRoles,
        places: Mapping[Node, int],
        make: Callable[[tuple[Any, ...], int], MadeStep | Reason],
        otherwise: Callable[[], Compiled],
        tell: Callable[[Reason], None],
    ) -> None:
        self._roles = roles
        self._tokens = places[roles.tokens]
        self._caches = [places[node] for node in roles.caches]
        self._counters = [places[node] for node in roles.counters]
        self._masks = [places[node] for node in roles.masks]
        self._weights = [places[node] for node in roles.weights]
        self._places = places
        self._make, self._otherwise, self._tell = make, otherwise, tell
        self._step: MadeStep | Reason | None = None
        self._bound: list[tuple[int, torch.Tensor, int]] = []
        self._held: list[tuple[int, int] | None] = []
        self._past = -1

    def __call__(self, *given: Any) -> Any:
        past = self._position(given)
        if isinstance(past, Reason) or (why := self._prepare(given, past)) is not None:
            self._tell(past if isinstance(past, Reason) else why)  # type: ignore[arg-type]
            return self._otherwise()(*given)
        return self._run(given, past)

    # Whether a call fits.

    def _position(self, given: tuple[Any, ...]) -> int | Reason:
        caches = [given[place] for place in self._caches]
        lengths = {cache.shape[2] for cache in caches}
        if len(lengths) != 1:
            return Reason("HETC-E054", "the caches of a step differ in length")
        (length,) = lengths
        past = int(given[self._counters[0]]) if self._roles.is_static else length
        if any(int(given[place]) != past for place in self._counters):
            return Reason("HETC-E054", "the position is not the number of tokens in the cache")
        if self._roles.is_static and past >= length:
            return Reason("HETC-E054", "the cache has no room for one more token")
        for place in self._masks:
            seen = given[place].numpy().reshape(-1, length)
            if not (seen == (np.arange(length) <= past)).all():
                return Reason("HETC-E054", "the mask hides tokens of the past")
        return past

    def _prepare(self, given: tuple[Any, ...], past: int) -> Reason | None:
        """Make the step where there is none for these weights and this position yet."""
        made = self._step
        if isinstance(made, Reason):
            return made
        if made is not None and not self._are_same(given):
            return Reason("HETC-E054", "the weights are not those that the step was made with")
        if made is None or (past >= made.capacity and not self._roles.is_static):
            if made is not None:
                made.native.close()
            self._held, self._past = [], -1
            if any(given[place].is_inference() for place in self._weights):
                self._step = made = Reason("HETC-E054", "nothing tells whether its weights change")
                return made
            room = max(_LEAST_ROOM, 1 << (2 * past).bit_length())
            try:
                self._step = made = self._make(given, room)
            except HetcError as error:
                self._step = made = Reason(error.code, f"{error.what}: {error.found}", at=error.at)
            if isinstance(made, Reason):
                return made
            batch = given[self._tokens].shape[0]
            self._cache = made.native.cache(batch, made.capacity)
            self._bound = [(i, given[i], given[i]._version) for i in self._weights]
        return None

    def _are_same(self, given: tuple[Any, ...]) -> bool:
        return all(
            given[place] is tensor and tensor._version == version
            for place, tensor, version in self._bound
        )

    # Running it.

    def _run(self, given: tuple[Any, ...], past: int) -> tuple[Any, ...]:
        made = self._step
        assert isinstance(made, MadeStep)
        caches = [given[place] for place in self._caches]
        if self._past != past or None in self._held or self._held != _states_of(caches):
            self._fill(made, caches, past)
        tokens = np.ascontiguousarray(given[self._tokens].numpy())
        pasts = np.full(tokens.shape[0], past, np.int64)
        logits = made.native.run(tokens, pasts, self._cache)
        grown = self._grown(made, caches, past)
        self._held, self._past = _states_of(grown.values()), past + 1
        return self._results(made, given, grown, logits, past)

    def _fill(self, made: MadeStep, caches: Sequence[torch.Tensor], past: int) -> None:
        """Make the engine's rows those of PyTorch's caches."""
        if caches[0].shape[0] != self._cache.batch:
            self._cache = made.native.cache(caches[0].shape[0], made.capacity)
        by_name = self._by_name(caches)
        for state in made.states:
            self._cache.write(state, past, to_numpy(by_name[state.name][:, :, :past]))

    def _by_name(self, caches: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {state_name(index): cache for index, cache in enumerate(caches)}

    def _grown(
        self, made: MadeStep, caches: Sequence[torch.Tensor], past: int
    ) -> dict[str, torch.Tensor]:
        """PyTorch's caches with the new rows: written into, or new ones."""
        import torch

        grown = {}
        by_name = self._by_name(caches)
        rows = {state.name: self._cache.rows(state, past, past + 1) for state in made.states}
        for name, cache in by_name.items():
            row = to_torch(rows[name], dtype_of_torch(cache.dtype))
            if self._roles.is_static:
                cache[:, :, past : past + 1] = row
                grown[name] = cache
            else:
                grown[name] = torch.cat([cache, row], 2)
        return grown

    def _results(
        self,
        made: MadeStep,
        given: tuple[Any, ...],
        grown: Mapping[str, torch.Tensor],
        logits: Array,
        past: int,
    ) -> tuple[Any, ...]:
        """What the graph returns, after what it writes is written."""
        import torch

        kinds = dict(
            zip(
                dict.fromkeys((*self._roles.returned, *(s for _, s in self._roles.written))),
                made.outputs,
                strict=True,
            )
        )

        def value(node: Node) -> torch.Tensor:
            kind = kinds[node]
            if not isinstance(kind, str):
                return torch.from_numpy(np.array(kind[past]))
            if kind == "logits":
                found = torch.from_numpy(np.ascontiguousarray(logits))
                return found.to(node.meta["val"].dtype)
            return grown[kind.removesuffix(".out")]

        for target, source in self._roles.written:
            into = given[self._places[target]]
            new = value(source)
            if new is not into:
                into.copy_(new)
        return tuple(value(node) for node in self._roles.returned)


def _states_of(tensors: Iterable[torch.Tensor]) -> list[tuple[int, int] | None]:
    return [_state_of(tensor) for tensor in tensors]


def _state_of(tensor: torch.Tensor) -> tuple[int, int] | None:
    """What changes when a tensor is another one, or is written into; None where nothing tells."""
    return None if tensor.is_inference() else (tensor.data_ptr(), tensor._version)
