"""Keeps object code of halves in a folder of the user's, so that the next load need not compile."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from hetc.errors import Reason
from hetc.runtime import kept_files
from hetc.runtime.kept_files import KeptFiles
from hetc.runtime.native.object_code import ObjectCode, can_link

_SUFFIX = ".code"
# A bundle takes two for each instruction set; 64 KB each.
_MOST_FILES = 128
_MOST_BYTES = 2**24


def user_folder() -> Path | None:
    """Where code is kept unless options say otherwise; None where there is no home, or where this
    machine's object files are of a kind not known here."""
    return kept_files.user_folder("native") if can_link() else None


@dataclass(frozen=True)
class CodeCache:
    """Object code by key, in `folder`, as `KeptFiles` keeps it.

    What cannot be used or kept is said as a RuntimeWarning (HETC-R043), and compiled anew.
    """

    folder: Path

    def read(self, key: bytes, symbol: str) -> ObjectCode | None:
        """The function `symbol` kept for `key`; None where there is none that can be used."""
        try:
            code = self._files.read(key)
            return None if code is None else ObjectCode(code, symbol)
        except OSError as error:
            path = str(self._files.path(key))
            _warn(Reason("HETC-R043", f"kept code is not used: {_why(error)}", at=path))
            return None

    def write(self, key: bytes, symbol: str, code: bytes) -> ObjectCode | None:
        """Keep the object file `code`, which has `symbol`, for `key`; what `read` will give."""
        try:
            # What cannot be read again is not kept.
            made = ObjectCode(code, symbol)
            self._files.write(key, code)
            return made
        except OSError as error:
            path = str(self._files.path(key))
            _warn(Reason("HETC-R043", f"code cannot be kept: {_why(error)}", at=path))
            return None

    @property
    def _files(self) -> KeptFiles:
        return KeptFiles(self.folder, _SUFFIX, _MOST_FILES, _MOST_BYTES)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _warn(reason: Reason) -> None:
    warnings.warn(str(reason), RuntimeWarning, stacklevel=3)
