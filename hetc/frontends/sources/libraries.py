"""Whether the packages that model sources need are installed."""

from __future__ import annotations

from importlib.util import find_spec

from hetc.errors import MissingDependency


def require(*packages: str, needed_for: str) -> None:
    """Raise `MissingDependency`, which names the extra to install, for a package that is absent."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependency(package, "compile", needed_for=needed_for)


def first_line(error: BaseException) -> str:
    """The one line of a library's exception that a user can act on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # Some say only behind a colon what it is about.
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
