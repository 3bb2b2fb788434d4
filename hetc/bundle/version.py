"""Schema versions, `hetc.<what>/MAJOR[.MINOR]`, and the rule for reading other versions.

The policy is in docs/bundle-format.md: another major is refused; a newer minor is read and its
unknown fields are ignored, unless the bundle's `compat` says that they matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hetc.bundle.strict_json import describe
from hetc.errors import BundleError

_FORM = re.compile(r"(hetc\.[a-z]{1,32})/(0|[1-9][0-9]{0,5})(?:\.(0|[1-9][0-9]{0,5}))?")


@dataclass(frozen=True, order=True)
class Version:
    """A schema version; minor 0 is written without its minor: `hetc.bundle/1`."""

    what: str
    major: int
    minor: int = 0

    def __str__(self) -> str:
        return f"{self.what}/{self.major}" + (f".{self.minor}" if self.minor else "")


BUNDLE = Version("hetc.bundle", 1, 1)
# Whose readers know bundles of prefill and decode alone.
OLDEST = Version("hetc.bundle", 1)
HANDOFF = Version("hetc.handoff", 1)


def read_version(value: object, at: str, reads: Version) -> Version:
    """The version in `value`, of the same schema and major as `reads`.

    Raises `BundleError` HETC-B003 for another schema or major, or text that names no version.
    """
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    found = Version(match[1], int(match[2]), int(match[3] or 0)) if match else None
    if found is None or (found.what, found.major) != (reads.what, reads.major):
        newer = found is not None and found.what == reads.what and found.major > reads.major
        raise BundleError(
            "HETC-B003",
            "this version of hetc does not read this schema",
            at=at,
            expected=f"{reads.what}/{reads.major}",
            found=found if found is not None else describe(value),
            do="install a newer hetc" if newer else "compile the model again with this hetc",
        )
    return found


def require_compat(value: object, at: str, reads: Version) -> str:
    """The `compat` string: the oldest schema version whose readers may use this bundle.

    Raises `BundleError` HETC-B005 when this reader is older than that.
    """
    needs = read_version(value, at, reads)
    if needs > reads:
        raise BundleError(
            "HETC-B005",
            "the bundle needs a newer hetc",
            at=at,
            expected=f"at most {reads}",
            found=needs,
            do="install a newer hetc, or compile the model again with this one",
        )
    return str(needs)
