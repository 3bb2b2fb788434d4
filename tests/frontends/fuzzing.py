"""Damaged input: what every file of a fuzzing test must end as, and how bytes are damaged."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

from hetc.errors import HetcError, InternalError

# No example may take longer than this, nor more memory than this beyond what it begins with. Both
# are far from what a sound compile of these models takes, on a machine that others use too.
MOST_SECONDS = 60
MOST_BYTES = 3 * 2**30


@contextmanager
def bounded() -> Iterator[None]:
    """Raise TimeoutError where the body hangs, and MemoryError where it asks for too much."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_BYTES, limits[1]))
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def outcome(work: Callable[[], object]) -> str:
    """The code of the one error that `work` ends in, or `ok`.

    Any other exception passes on, and so fails the test; so does a fault of hetc itself.
    """
    with bounded():
        try:
            work()
        except HetcError as error:
            if isinstance(error, InternalError):
                raise
            return error.code
    return "ok"


@st.composite
def damaged(draw: Any, data: bytes, within: int | None = None) -> bytes:
    """`data` with bytes changed, put in or taken out, or cut off; `within` its first ones."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, min(len(made), within or len(made)) - 1)))
        kind = draw(st.sampled_from(("flip", "put in", "take out", "cut off", "number")))
        if kind == "flip" and made:
            made[place] = draw(st.integers(0, 255))
        elif kind == "put in":
            made[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "take out":
            del made[place : place + draw(st.integers(1, 8))]
        elif kind == "number":
            number = draw(st.sampled_from((0, 1, 2**31 - 1, 2**32, 2**62, 2**64 - 1)))
            made[place : place + 8] = number.to_bytes(8, "little")
        else:
            del made[place:]
    return bytes(made)


# What a field of a file may absurdly hold.
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 2**31, 2**62, 2**70, 0.5, float("nan"), 1e308),
    *("", "x", "../../etc/passwd", "\n", "a" * 1000),
    *([], {}, [1], [[[]]], {"a": {"b": [1]}}),
)


@st.composite
def damaged_json(draw: Any, value: Any) -> Any:
    """`value`, of JSON, with one or two of its parts replaced, dropped, doubled or moved."""
    paths = [path for path in _paths(value) if path]
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(paths))
        parent = value
        for key in path[:-1]:
            parent = _part(parent, key)
        if _part(parent, path[-1]) is None and not isinstance(parent, dict | list):
            continue
        kind = draw(st.sampled_from(("replace", "drop", "double", "add")))
        if kind == "replace":
            _put(parent, path[-1], draw(st.sampled_from(JSON_VALUES)))
        elif isinstance(parent, dict) and kind == "drop":
            parent.pop(path[-1], None)
        elif isinstance(parent, dict):
            parent["unheard of"] = draw(st.sampled_from(JSON_VALUES))
        elif isinstance(parent, list) and kind == "double":
            parent.extend(parent[:1])
    return value


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from _paths(part, (*at, key))


def _part(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (TypeError, LookupError):
        return None


def _put(value: Any, key: Any, part: Any) -> None:
    if isinstance(value, dict) or (isinstance(value, list) and key < len(value)):
        value[key] = part
