"""Typed reading of one JSON object, field by field, with the field's full name in every error."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TypeVar

from hetc.bundle.strict_json import describe
from hetc.errors import BundleError

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1
MAX_TEXT = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Fields:
    """The fields of one JSON object; each is taken once, and `done` refuses what nobody took.

    `at` names the object (`manifest.json: halves.decode`). With `newer`, the file says that it is
    of a newer minor version, whose additional fields this reader may ignore.
    """

    def __init__(self, value: object, at: str, *, newer: bool = False) -> None:
        if not isinstance(value, dict):
            raise bad_field(at, "an object", value)
        self.at = at
        self.newer = newer
        self._left = dict(value)

    def where(self, key: str) -> str:
        """The full name of a field: `manifest.json: model.layers`."""
        shown = key if key.isprintable() and len(key) <= 80 else ascii(key)[:80]
        return f"{self.at}.{shown}" if ": " in self.at else f"{self.at}: {shown}"

    def take(self, key: str) -> object:
        """The raw value of a field that must be there."""
        if key not in self._left:
            raise bad_field(self.where(key), "the field", found="no such field")
        value: object = self._left.pop(key)
        return value

    def done(self) -> None:
        """Refuses fields that this version of the schema does not have."""
        if self._left and not self.newer:
            key = min(self._left)
            raise bad_field(self.where(key), "only fields of this schema", found="this field")

    def text(self, key: str, *, max_length: int = MAX_TEXT) -> str:
        """A string without control characters and with at most `max_length` characters."""
        return check_text(self.take(key), self.where(key), max_length)

    def one_of(self, key: str, allowed: Collection[str]) -> str:
        """A string out of `allowed`."""
        value = self.take(key)
        if not isinstance(value, str) or value not in allowed:
            raise bad_field(self.where(key), f"one of {', '.join(sorted(allowed))}", value)
        return value

    def sha256(self, key: str) -> str:
        """64 lower-case hexadecimal digits."""
        value = self.take(key)
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise bad_field(self.where(key), "64 lower-case hexadecimal digits", value)
        return value

    def integer(self, key: str, *, low: int = 0) -> int:
        """An integer from `low` to 2**63 - 1; `true` and `1.0` are not integers."""
        return check_integer(self.take(key), self.where(key), low)

    def array(self, key: str, item: Callable[[object, str], T]) -> tuple[T, ...]:
        """An array whose items are read by `item(value, at)`."""
        value = self.take(key)
        if not isinstance(value, list):
            raise bad_field(self.where(key), "an array", value)
        return tuple(item(entry, f"{self.where(key)}[{i}]") for i, entry in enumerate(value))

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings."""
        return self.array(key, check_text)

    def names(self, key: str) -> tuple[str, ...]:
        """An array of strings, none empty, none twice."""
        found = self.texts(key)
        if len(set(found)) != len(found) or "" in found:
            raise bad_field(self.where(key), "names, each once", list(found))
        return found

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """None where the field is null, else what `read(key)` gives; the field must be there."""
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return read(key)

    def nested(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self.take(key), self.where(key), newer=self.newer)

    def items(self) -> tuple[tuple[str, object], ...]:
        """All fields left, for an object that is a map."""
        found = tuple(self._left.items())
        self._left = {}
        return found


def check_text(value: object, at: str, max_length: int = MAX_TEXT) -> str:
    """`value` as text that is safe to print: no control characters, no lone surrogates."""
    if not isinstance(value, str) or len(value) > max_length:
        raise bad_field(at, f"a string of at most {max_length} characters", value)
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise bad_field(at, "a string without control characters", value)
    return value


def check_integer(value: object, at: str, low: int = 0) -> int:
    """`value` as an integer from `low` to 2**63 - 1."""
    # bool is a subclass of int, and `true` is no count.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_INTEGER:
        raise bad_field(at, f"an integer from {low} to 2**63 - 1", value)
    return value


def bad_field(at: str, expected: str, value: object = None, *, found: str = "") -> BundleError:
    """The error for one field: what it holds, or the phrase `found` where that says more."""
    return BundleError(
        "HETC-B004",
        "a field of the bundle is not valid",
        at=at,
        expected=expected,
        found=found or describe(value),
        do="compile the model again; bundles are not meant to be edited by hand",
    )
