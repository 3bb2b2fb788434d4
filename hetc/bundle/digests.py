"""SHA-256 of files, several at a time: hashlib releases the interpreter's lock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hetc.bundle.schema import FileEntry
from hetc.errors import BundleError

CHUNK_BYTES = 2**20


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal; a link in the last place is not followed."""
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def check_digests(root: Path, files: Mapping[str, FileEntry]) -> None:
    """Hashes every file below `root`; raises `BundleError` HETC-B011 for the first that differs."""
    # The largest first, so that no thread is left alone with one at the end.
    names = sorted(files, key=lambda name: (-files[name].size, name))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(names, pool.map(lambda n: file_sha256(root / n), names), strict=True))
    for name in sorted(found):
        require_digest(name, files[name].sha256, found[name])


def require_digest(name: str, expected: str, found: str) -> None:
    """Raises `BundleError` HETC-B011 where the hashes differ."""
    if found != expected:
        raise BundleError(
            "HETC-B011",
            "a file of the bundle was changed",
            at=name,
            expected=f"sha256 {expected}",
            found=f"sha256 {found}",
            do="copy the bundle again from its source, or compile the model again",
        )
