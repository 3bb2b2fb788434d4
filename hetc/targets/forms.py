"""Forms that a value in a TOML file can have, and the walk that lists every place where it has not.

Every number is a table with `value` and either a `source` or a `range` and a `why`; `unit` may be
written and must then be the one that the form names. Unknown keys are refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from hetc.errors import TargetError


@dataclass(frozen=True)
class Number:
    """A quantity in `unit`; fractions are at most 1, only constants and latencies may be zero."""

    unit: str
    may_be_zero: bool = False
    # A constant of the cost model is never published: its range and reason are always demanded.
    constant: bool = False


@dataclass(frozen=True)
class Text:
    """A string that matches `pattern`; `says` describes the pattern to people."""

    pattern: str = r"\S.*"
    says: str = "a string that is not empty"


@dataclass(frozen=True)
class Choice:
    """One of a few strings."""

    options: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A list of strings."""


@dataclass(frozen=True)
class Each:
    """A table whose keys the file chooses; every entry has the same form."""

    form: Form
    says: str


@dataclass(frozen=True)
class Table:
    """A table with named keys. With `or_name`, a name may stand in its place."""

    required: Mapping[str, Form]
    optional: Mapping[str, Form] = field(default_factory=dict)
    or_name: bool = False


Form = Number | Text | Choice | Words | Each | Table


def check_form(form: Form, value: object, at: str) -> Iterator[TargetError]:
    """Every way in which `value`, found at the place `at` of a file, differs from `form`."""
    if isinstance(form, Number):
        yield from _check_number(form, value, at)
    elif isinstance(form, Text):
        if not isinstance(value, str) or re.fullmatch(form.pattern, value, re.DOTALL) is None:
            yield _wrong_form(at, form.says, value)
    elif isinstance(form, Choice):
        if value not in form.options:
            yield _wrong_form(at, "one of " + ", ".join(form.options), value)
    elif isinstance(form, Words):
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            yield _wrong_form(at, "a list of strings", value)
    elif isinstance(form, Each):
        if not isinstance(value, dict) or not value:
            yield _wrong_form(at, f"a table of {form.says}", value)
        else:
            for name, entry in value.items():
                yield from check_form(form.form, entry, _join(at, name))
    else:
        yield from _check_table(form, value, at)


def _check_table(form: Table, value: object, at: str) -> Iterator[TargetError]:
    if form.or_name and isinstance(value, str):
        return
    if not isinstance(value, dict):
        yield _wrong_form(at, "a table", value)
        return
    known = {**form.required, **form.optional}
    for name in value:
        if name not in known:
            yield TargetError(
                "HETC-T003",
                "unknown key",
                at=_join(at, name),
                expected=nearest(name, known),
                do="correct or remove the key; docs/targets.md lists all of them",
            )
    for name, entry_form in known.items():
        if name in value:
            yield from check_form(entry_form, value[name], _join(at, name))
        elif name in form.required:
            yield TargetError(
                "HETC-T004",
                "a key is missing",
                at=_join(at, name),
                expected=describe_form(entry_form),
            )


def _check_number(form: Number, value: object, at: str) -> Iterator[TargetError]:
    if not isinstance(value, dict):
        yield _wrong_form(at, describe_form(form), value)
        return
    for name in value:
        if name not in _NUMBER_KEYS:
            yield TargetError(
                "HETC-T003", "unknown key", at=_join(at, name), expected=nearest(name, _NUMBER_KEYS)
            )
    number = value.get("value")
    if not _is_finite(number):
        yield _wrong_form(_join(at, "value"), "a finite number", number)
    else:
        yield from _check_bounds(form, number, value.get("range"), at)
    if value.get("unit", form.unit) != form.unit:
        yield TargetError(
            "HETC-T006",
            "wrong unit",
            at=_join(at, "unit"),
            expected=form.unit,
            found=_shown(value["unit"]),
            do="convert to the SI unit; prefixes such as G belong into the value (4.8e12)",
        )
    yield from _check_provenance(form, value, at)


def _check_provenance(form: Number, value: dict[str, Any], at: str) -> Iterator[TargetError]:
    for name in ("source", "why"):
        if name in value and not (isinstance(value[name], str) and value[name].strip()):
            yield _wrong_form(_join(at, name), "a string that is not empty", value[name])
    explained = "range" in value and "why" in value
    if form.constant and not explained:
        missing = [name for name in ("range", "why") if name not in value]
        yield TargetError(
            "HETC-T007",
            "an assumption without its grounds",
            at=at,
            expected="range and why",
            found=f"no {' and no '.join(missing)}",
        )
    elif "source" not in value and not explained:
        yield TargetError(
            "HETC-T007",
            "a number without a source",
            at=at,
            expected="source, or range and why",
            do="name the source, or state the assumption with its range and the reason",
        )
    elif ("range" in value) != ("why" in value):
        yield TargetError(
            "HETC-T007", "range and why come together", at=at, expected="both or neither"
        )


def _check_bounds(form: Number, number: float, span: object, at: str) -> Iterator[TargetError]:
    low_ok = number >= 0 if form.may_be_zero else number > 0
    high = 1.0 if form.unit == "fraction" else math.inf
    if not low_ok or number > high:
        bound = "at least 0" if form.may_be_zero else "more than 0"
        bound += " and at most 1" if form.unit == "fraction" else ""
        yield TargetError(
            "HETC-T008",
            "a number out of bounds",
            at=_join(at, "value"),
            expected=bound,
            found=number,
        )
    if form.unit in ("1", "B", "cycle") and number != int(number):
        yield TargetError(
            "HETC-T008",
            "a count is a whole number",
            at=_join(at, "value"),
            expected="an integer",
            found=number,
        )
    if span is None:
        return
    if not (isinstance(span, list) and len(span) == 2 and all(_is_finite(end) for end in span)):
        yield _wrong_form(_join(at, "range"), "[low, high]", span)
    elif not span[0] <= number <= span[1]:
        yield TargetError(
            "HETC-T008",
            "a value outside its own range",
            at=_join(at, "range"),
            expected=f"low <= {number:g} <= high",
            found=span,
        )


_NUMBER_KEYS = ("value", "unit", "source", "range", "why")


def describe_form(form: Form) -> str:
    """What a value of this form looks like, in a few words for an error."""
    if isinstance(form, Number):
        grounds = 'range = [low, high], why = "..."' if form.constant else 'source = "..."'
        return f'{{ value = ..., unit = "{form.unit}", {grounds} }}'
    if isinstance(form, Text):
        return form.says
    if isinstance(form, Choice):
        return "one of " + ", ".join(form.options)
    if isinstance(form, Words):
        return "a list of strings"
    return "a table"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that look most like `name`, or all of them where none does."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return " or ".join(close) if close else ", ".join(names)


def _is_finite(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # Also false for nan, and for integers that no float can hold.
    return -1e300 < value < 1e300


def _wrong_form(at: str, expected: str, value: object) -> TargetError:
    return TargetError(
        "HETC-T005", "a value of the wrong form", at=at, expected=expected, found=_shown(value)
    )


def _shown(value: object) -> str:
    """The value on one short line; TOML's hexadecimal integers can be too long for Python."""
    try:
        text = "nothing" if value is None else repr(value)
    except ValueError:
        return "an integer of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
