"""Which names a file inside a bundle may have.

An allow-list, so that no platform reads more into a name than this one does: ASCII letters, digits
and `._-`, segments parted by `/`. It leaves no room for `..`, absolute paths, backslashes, drive
letters or NUL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hetc.bundle.strict_json import describe
from hetc.errors import BundleError

MANIFEST = "manifest.json"
HANDOFF_FILE = "handoff.json"

MAX_NAME = 200
MAX_SEGMENTS = 8
_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


def check_filename(value: object, at: str) -> str:
    """`value` as a relative name inside the bundle; raises `BundleError` HETC-B006."""
    if isinstance(value, str) and len(value) <= MAX_NAME:
        segments = value.split("/")
        plain = all(_SEGMENT.fullmatch(s) and not _DEVICES.fullmatch(s) for s in segments)
        if plain and len(segments) <= MAX_SEGMENTS:
            return value
    raise BundleError(
        "HETC-B006",
        "a file name could leave the bundle's directory or mean something else elsewhere",
        at=at,
        expected="letters, digits and ._- in segments parted by /",
        found=ascii(value)[:120] if isinstance(value, str) else describe(value),
        do="do not use this bundle; compile the model again",
    )


def refuse_collisions(names: Iterable[str], at: str) -> None:
    """Refuses names that differ only in case, or where one file is the folder of another."""
    seen: set[str] = set()
    for name in sorted(names):
        folded = name.lower()
        parents = {folded.rsplit("/", i)[0] for i in range(1, folded.count("/") + 1)}
        if folded in seen or parents & seen:
            raise BundleError(
                "HETC-B006",
                "two file names of the bundle collide",
                at=at,
                expected="names that differ in more than case, none a folder of another",
                found=name,
                do="do not use this bundle; compile the model again",
            )
        seen.add(folded)
