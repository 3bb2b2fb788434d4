"""Files that hetc keeps in a folder of the user's for its own use: read only if nobody else can
have written them."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

_DIGEST_BYTES = hashlib.sha256().digest_size
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_folder(name: str) -> Path | None:
    """hetc's folder `name` among the user's caches (XDG base directory specification, which has
    relative paths ignored); None where there is no home."""
    given, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    base = Path(given) if os.path.isabs(given) else Path(home, ".cache")
    return base / "hetc" / name if base.is_absolute() else None


@dataclass(frozen=True)
class KeptFiles:
    """Files by key in `folder`; the newest `most_files` are kept, of at most `most_bytes` each.

    A file is the data, and the SHA-256 of key and data. It is used only where it is a plain file of
    this user's that nobody else may write, in a folder of which the same holds, and its digest is
    right.
    """

    folder: Path
    suffix: str
    most_files: int
    most_bytes: int

    def path(self, key: bytes) -> Path:
        """Where the data of `key` is kept."""
        return self.folder / (hashlib.sha256(key).hexdigest() + self.suffix)

    def read(self, key: bytes) -> bytes | None:
        """The data kept for `key`; None where there is none. Raises OSError for a file that may not
        be used."""
        try:
            _require_own(os.stat(self.folder), stat.S_IFDIR)
            # A pipe would block here, and a link could lead anywhere.
            descriptor = os.open(self.path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            _require_own(os.fstat(descriptor), stat.S_IFREG)
            whole = file.read(self.most_bytes)
        data = whole[:-_DIGEST_BYTES]
        if whole[-_DIGEST_BYTES:] != _digest(key, data):
            raise OSError("its digest is another")
        return data

    def write(self, key: bytes, data: bytes) -> None:
        """Keep `data` for `key`; raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as drafts:
            draft = Path(drafts, "draft")
            draft.touch(0o600)
            draft.write_bytes(data + _digest(key, data))
            # At once, so that nobody reads half of it.
            draft.replace(self.path(key))
        kept = sorted(self.folder.glob(f"*{self.suffix}"), key=lambda p: p.stat().st_mtime)
        for old in kept[: -self.most_files]:
            old.unlink(missing_ok=True)


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(key).digest() + data).digest()


def _require_own(found: os.stat_result, kind: int) -> None:
    if stat.S_IFMT(found.st_mode) != kind:
        raise OSError("this is something else than a file in a folder")
    if found.st_uid != os.geteuid():
        raise OSError("it belongs to another user")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise OSError("others may write it")
