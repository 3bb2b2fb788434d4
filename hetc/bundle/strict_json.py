"""JSON as a bundle writes it and as a distrustful loader reads it.

Written form: sorted keys, two spaces, UTF-8, a newline at the end; the same value gives the same
bytes.
"""

from __future__ import annotations

import json
import re

from hetc.errors import BundleError

type_names = {dict: "object", list: "array", str: "string", int: "integer", bool: "boolean"}

MAX_CONTAINERS = 1_000_000

# A string without an end is taken to the end of the text, so that the search stays linear.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_STEP = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def canonical_json(value: object) -> bytes:
    """`value` as the bytes of a bundle's JSON file; raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_json(raw: bytes, at: str, *, max_bytes: int, max_depth: int = 16) -> object:
    """The value in `raw`, UTF-8 JSON; `at` names the file in errors.

    Raises `BundleError` HETC-B002 for more than `max_bytes`, nesting beyond `max_depth`, a million
    objects, a key that stands twice, NaN, infinities and anything that is not JSON.
    """
    if len(raw) > max_bytes:
        raise _unreadable(at, f"at most {max_bytes} bytes", f"{len(raw)} bytes")
    depth = containers = 0
    for token in _STRUCTURE.finditer(raw):
        step = _STEP.get(token[0], 0)
        depth += step
        containers += step > 0
        if depth > max_depth or containers > MAX_CONTAINERS:
            limits = f"at most {max_depth} levels and {MAX_CONTAINERS} objects"
            raise _unreadable(at, limits, "more")
    try:
        value: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise _unreadable(at, "JSON in UTF-8, every key once", error) from error
    return value


def describe(value: object) -> str:
    """A value as an error shows it: its JSON type, and the value where it is short."""
    if value is None:
        return "null"
    name = type_names.get(type(value), type(value).__name__)
    shown = repr(value)
    return f"{name} {shown}" if len(shown) <= 80 else f"{name} {shown[:77]}..."


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _unreadable(at: str, expected: str, found: object) -> BundleError:
    return BundleError(
        "HETC-B002",
        "the bundle's JSON cannot be read",
        at=at,
        expected=expected,
        found=found,
        do="compile the model again, or copy the bundle again from its source",
    )
