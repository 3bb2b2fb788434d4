"""Put the replacements in place of what a model uses, while it is exported."""

from __future__ import annotations

import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.recurrences import (
    delta_rule,
    diagonal,
    exponentials,
    linear_attention,
    state_space,
)
from hetc.frontends.recurrences.replacement import TABLE, Replacement
from hetc.frontends.recurrences.torch_ops import register_ops

if TYPE_CHECKING:
    import torch

# Imported for what they put into TABLE.
_FILES = (delta_rule, diagonal, exponentials, linear_attention, state_space)

_TOLERANCE = 1e-4
# Two exports would take each other's replacements away.
_ONE_AT_A_TIME = threading.RLock()


class _Here(threading.local):
    """Whether this thread is inside `supplied`: only there do replacements run."""

    inside = False


_here = _Here()
_agreed: set[tuple[Callable[..., Any], str]] = set()


@contextmanager
def supplied(model: torch.nn.Module) -> Iterator[tuple[str, ...]]:
    """Inside, this thread computes the recurrences of `model` with hetc's ops; gives the names of
    what was replaced.

    What is replaced is found by the functions that stand in the files of the model's classes. Each
    is first compared with its replacement on random numbers. Other threads keep the originals, but
    wait with a `supplied` of their own. Raises InputError (HETC-I071) where a function of a known
    name computes something else.
    """
    register_ops()
    # What stands in the files now may be another thread's.
    with _ONE_AT_A_TIME:
        places = list(_places(model))
        for place in places:
            _check(place)
        before = _here.inside
        try:
            for place in places:
                setattr(place.owner, place.attribute, _dispatch(place))
            _here.inside = True
            yield tuple(place.replacement.name for place in places)
        finally:
            _here.inside = before
            for place in places:
                setattr(place.owner, place.attribute, place.original)


@dataclass(frozen=True)
class _Place:
    """Where a function stands that has a replacement: in a file, or in a class of it."""

    file: Any
    owner: Any
    attribute: str
    original: Callable[..., Any]
    replacement: Replacement


def _places(model: torch.nn.Module) -> Iterator[_Place]:
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    names = {cls.__module__ for cls in classes}
    for name in sorted(names & sys.modules.keys()):
        file = sys.modules[name]
        for replacement in TABLE.values():
            cls, _, attribute = replacement.name.rpartition(".")
            owner = getattr(file, cls, None) if cls else file
            if cls and owner not in classes:
                continue
            original = vars(owner).get(attribute)
            if inspect.isfunction(original):
                yield _Place(file, owner, attribute, original, replacement)


def _dispatch(place: _Place) -> Callable[..., Any]:
    @wraps(place.original)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        function = place.replacement.function if _here.inside else place.original
        return function(*args, **kwargs)

    return chosen


def _check(place: _Place) -> None:
    """Hold the original against its replacement, once for each original."""
    import torch

    # A decorator may go around it that looks for kernels; torch.export never sees those.
    original = inspect.unwrap(place.original)
    if (original, place.replacement.name) in _agreed:
        return
    taken = inspect.signature(original).parameters
    known = inspect.signature(place.replacement.function).parameters
    if list(taken) != list(known):
        raise _differs(place, f"it takes {', '.join(taken)}", f"{', '.join(known)}")
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        for args, kwargs in place.replacement.trials(place.file):
            pairs = (f(*args, **kwargs) for f in (original, place.replacement.function))
            wrong = _largest_difference(*(_tensors(result) for result in pairs))
            if not wrong <= _TOLERANCE:
                raise _differs(place, f"results that differ by {wrong:.1e}", "the same results")
    _agreed.add((original, place.replacement.name))


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in _tensors(item)]
    return [] if result is None else [result]


def _largest_difference(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    if [(x.shape, x.dtype) for x in mine] != [(x.shape, x.dtype) for x in theirs]:
        return math.inf
    found = [float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True)]
    # NaN is no agreement, and `max` may pass it over.
    return math.inf if any(map(math.isnan, found)) else max(found)


def _differs(place: _Place, found: str, expected: str) -> InputError:
    return InputError(
        "HETC-I071",
        "the model computes a recurrence in another way than hetc's replacement for it",
        at=f"{place.file.__name__}.{place.replacement.name}",
        expected=expected,
        found=found,
        do="install the version of transformers that hetc is tested with (constraints.txt)",
    )
