"""Keeps object code of halves in a folder of the user's, so that the next load need not compile."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from hetc.errors import Reason
from hetc.runtime.native.object_code import ObjectCode, can_link

_DIGEST_BYTES = hashlib.sha256().digest_size
_SUFFIX = ".code"
# A bundle takes two for each instruction set; 64 KB each.
_MOST_FILES = 128
_MOST_BYTES = 2**24
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_folder() -> Path | None:
    """Where code is kept unless options say otherwise: in the user's folder for caches (XDG base
    directory specification, which has relative paths ignored).

    None where there is no home, or where this machine's object files are of a kind not known here.
    """
    given, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    base = Path(given) if os.path.isabs(given) else Path(home, ".cache")
    return base / "hetc" / "native" if base.is_absolute() and can_link() else None


@dataclass(frozen=True)
class CodeCache:
    """Object code by key, in `folder`; the newest files are kept.

    A file is the code, and the SHA-256 of key and code. It is used only where it is a plain file of
    this user's that nobody else may write, in a folder of which the same holds, and its digest is
    right. What cannot be used or kept is said as a RuntimeWarning (HETC-R043), and compiled anew.
    """

    folder: Path

    def read(self, key: bytes, symbol: str) -> ObjectCode | None:
        """The function `symbol` kept for `key`; None where there is none that can be used."""
        path = self._path(key)
        try:
            _require_own(os.stat(self.folder), stat.S_IFDIR)
            # A pipe would block here, and a link could lead anywhere.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                _require_own(os.fstat(descriptor), stat.S_IFREG)
                data = file.read(_MOST_BYTES)
            code = data[:-_DIGEST_BYTES]
            if data[-_DIGEST_BYTES:] != _digest(key, code):
                raise OSError("its digest is another")
            return ObjectCode(code, symbol)
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn(Reason("HETC-R043", f"kept code is not used: {_why(error)}", at=str(path)))
            return None

    def write(self, key: bytes, symbol: str, code: bytes) -> ObjectCode | None:
        """Keep the object file `code`, which has `symbol`, for `key`; what `read` will give."""
        path = self._path(key)
        try:
            # What cannot be read again is not kept.
            made = ObjectCode(code, symbol)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as drafts:
                draft = Path(drafts, "draft")
                draft.touch(0o600)
                draft.write_bytes(code + _digest(key, code))
                # At once, so that nobody reads half of it.
                draft.replace(path)
            kept = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
            for old in kept[:-_MOST_FILES]:
                old.unlink(missing_ok=True)
            return made
        except OSError as error:
            _warn(Reason("HETC-R043", f"code cannot be kept: {_why(error)}", at=str(path)))
            return None

    def _path(self, key: bytes) -> Path:
        return self.folder / (hashlib.sha256(key).hexdigest() + _SUFFIX)


def _digest(key: bytes, code: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(key).digest() + code).digest()


def _require_own(found: os.stat_result, kind: int) -> None:
    if stat.S_IFMT(found.st_mode) != kind:
        raise OSError("this is something else than a file in a folder")
    if found.st_uid != os.geteuid():
        raise OSError("it belongs to another user")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise OSError("others may write it")


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _warn(reason: Reason) -> None:
    warnings.warn(str(reason), RuntimeWarning, stacklevel=3)
