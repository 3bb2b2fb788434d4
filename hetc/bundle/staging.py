"""The directory that a bundle is written into before it gets its name, and the renames at the end.

`.<name>.partial-<pid>` stands beside the target, so that one rename moves it. Where a bundle is
replaced, the old one waits as `.<name>.old-<pid>` between two renames. A living writer holds a lock
on both, which the kernel drops when the process dies, however it dies: what is unlocked is
abandoned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Staging:
    """A locked, empty directory beside `target`; `publish` gives it the name, `discard` removes it.

    Raises OSError where the file system refuses.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        folder = target.parent
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self.path = _sibling(target, "partial")
        self.path.mkdir()
        self._locks = [_lock(self.path)]

    def publish(self) -> None:
        """Gives the directory its name; a directory of that name is replaced."""
        for folder, _, _ in os.walk(self.path):
            _sync(Path(folder))
        aside = _sibling(self.target, "old")
        replaces = self.target.exists()
        if replaces:
            self._locks.append(_lock(self.target))
            self.target.rename(aside)
        try:
            self.path.rename(self.target)
        except BaseException:
            if replaces and not self.target.exists():
                aside.rename(self.target)
            raise
        _sync(self.target.parent)
        # Where the old bundle cannot be deleted, the new one stands all the same.
        shutil.rmtree(aside, ignore_errors=True)
        self._unlock()

    def discard(self) -> None:
        """Removes the directory, and the parents that were made for it if they are empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()
        for parent in self._made:
            with suppress(OSError):  # Somebody has put something there: it stays.
                parent.rmdir()

    def _unlock(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def recover(target: Path) -> None:
    """Cleans up after writers of `target` that were killed.

    Partial directories go. A bundle that was on its way out comes back where nothing replaced it.
    """
    for path in _abandoned(target, "old"):
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for path in _abandoned(target, "partial"):
        shutil.rmtree(path)


def _abandoned(target: Path, role: str) -> Iterator[Path]:
    prefix = f".{target.name}.{role}-"
    siblings = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    for path in siblings:
        if not path.name.startswith(prefix) or path.is_symlink() or not path.is_dir():
            continue
        try:
            lock = _lock(path)
        except OSError:
            continue  # Its writer lives, or it is not ours to judge; neither stops this one.
        try:
            yield path
        finally:
            os.close(lock)


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{os.getpid()}")


def _lock(path: Path) -> int:
    """Locks a directory until the descriptor is closed; raises OSError where somebody else has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync(folder: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
