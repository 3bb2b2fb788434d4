"""Edits of a plan at a place that is drawn: paths into it, and what becomes of the value there.

A path is the fields and places from the plan down: `blocks.1.streams.0.bytes`. In a pattern `*` is
every place of a tuple.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hetc.backends.dataflow.schema import Plan

T = TypeVar("T")
Path = tuple[str | int, ...]


class Draw(Protocol):
    """Draws a value: `data.draw` of `st.data()`, or the argument of `@st.composite`."""

    def __call__(self, strategy: SearchStrategy[T]) -> T: ...


# The new value, or None where the old one is to be left alone.
Change = Callable[[Any, Draw], Any]


def edit(plan: Plan, pattern: str, change: Change, draw: Draw) -> Plan | None:
    """The plan with the value changed at one of the places that fit; None where none does."""
    places = list(_expand(plan, pattern.split(".")))
    start = draw(st.integers(0, max(0, len(places) - 1)))
    # From a drawn place on, until the change fits one.
    for path in places[start:] + places[:start]:
        old = _get(plan, path)
        new = change(old, draw)
        if new is not None and new != old:
            edited: Plan = _put(plan, path, new)
            return edited
    return None


def _expand(part: Any, pattern: Sequence[str]) -> Iterator[Path]:
    if not pattern:
        yield ()
        return
    first, *rest = pattern
    steps: Sequence[str | int] = range(len(part)) if first == "*" else (first,)
    for step in steps:
        inner = _step(part, step)
        if inner is not None:
            yield from ((step, *path) for path in _expand(inner, rest))


def _step(part: Any, step: str | int) -> Any:
    # A field that only some steps of a program have is no place in the others.
    return part[step] if isinstance(step, int) else getattr(part, step, None)


def _get(part: Any, path: Path) -> Any:
    for step in path:
        part = _step(part, step)
    return part


def _put(part: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    step, *rest = path
    inner = _put(_step(part, step), tuple(rest), new)
    if isinstance(step, int):
        return (*part[:step], inner, *part[step + 1 :])
    return msgspec.structs.replace(part, **{step: inner})


# What becomes of a value.


def to(new: object) -> Change:
    """This value."""
    return lambda old, draw: new


def grow(old: float, draw: Draw) -> float:
    """More than before."""
    return old + draw(st.integers(1, 1000))


def shrink(old: float, draw: Draw) -> float | None:
    """Less than before, and not less than 0."""
    return draw(st.integers(0, int(old) - 1)) if 1 <= old < math.inf else None


def shift(old: float, draw: Draw) -> float | None:
    """More or less than before."""
    return draw(st.sampled_from([grow, shrink]))(old, draw)


def times(factor: float) -> Change:
    return lambda old, draw: old * factor


def drop(old: tuple[Any, ...], draw: Draw) -> tuple[Any, ...] | None:
    """Without one of its elements."""
    if not old:
        return None
    place = draw(st.integers(0, len(old) - 1))
    return (*old[:place], *old[place + 1 :])


def repeat(old: tuple[Any, ...], draw: Draw) -> tuple[Any, ...] | None:
    """With one of its elements twice."""
    return (*old, draw(st.sampled_from(old))) if old else None


def add(item: object) -> Change:
    """With one more element."""
    return lambda old, draw: (*old, item)


def backwards(old: tuple[Any, ...], draw: Draw) -> tuple[Any, ...]:
    return old[::-1]


def fields(**changes: Any) -> Change:
    """With these fields; a value that is callable gets the old part."""

    def change(old: Any, draw: Draw) -> Any:
        new = {name: value(old) if callable(value) else value for name, value in changes.items()}
        return msgspec.structs.replace(old, **new)

    return change


def when(fits: Callable[[Any], bool], change: Change) -> Change:
    """The change, where the old value fits."""
    return lambda old, draw: change(old, draw) if fits(old) else None
