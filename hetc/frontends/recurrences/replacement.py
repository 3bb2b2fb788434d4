"""The table of replacements: the name of a function -> the same, written on hetc's ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Replacement:
    """What computes a recurrence in place of a function that torch.export cannot follow.

    `name` is that of a function of the file in which a module's class stands, or, with a dot, of a
    method of a class in it. `trials` gives arguments, for the file at hand, on which both must
    agree.
    """

    name: str
    function: Callable[..., Any]
    trials: Callable[[Any], Iterator[Arguments]]


TABLE: dict[str, Replacement] = {}


def replaces(*names: str, trials: Callable[[Any], Iterator[Arguments]]) -> Callable[[_F], _F]:
    """Decorator: the function takes the place of those called `names`, and takes what they take."""

    def register(function: _F) -> _F:
        for name in names:
            assert name not in TABLE, f"{name} has two replacements"
            TABLE[name] = Replacement(name, function, trials)
        return function

    return register
