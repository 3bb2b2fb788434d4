"""What lies in a bundle's directory, without following anything out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hetc.bundle.filenames import MANIFEST, MAX_SEGMENTS
from hetc.bundle.schema import Manifest
from hetc.errors import BundleError

MAX_FILES = 100_000


def list_files(root: Path) -> dict[str, int]:
    """Every regular file below `root`, by relative name with `/`, and its size in bytes.

    Raises `BundleError` HETC-B007 for a symbolic link, a device, a socket or a pipe anywhere, and
    for more folders or files than any bundle has. Hard links are regular files: their content is
    hashed like any other, and nothing is written through them.
    """
    found: dict[str, int] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                rel = folder + entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode) and rel.count("/") + 1 < MAX_SEGMENTS:
                    folders.append(rel + "/")
                elif stat.S_ISREG(mode) and len(found) < MAX_FILES:
                    found[rel] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise _not_plain(root, rel, mode)
    return found


def check_files(root: Path, manifest: Manifest) -> None:
    """Compares the directory with the manifest: the same files, each of its size.

    Raises `BundleError`: HETC-B007 not a plain file, HETC-B008 a file that is not listed, HETC-B009
    a listed file that is not there, HETC-B010 another size.
    """
    found = list_files(root)
    unlisted = sorted(set(found) - set(manifest.files) - {MANIFEST})
    if unlisted:
        raise BundleError(
            "HETC-B008",
            "the bundle holds a file that its manifest does not list",
            at=_shown(unlisted[0]),
            expected=f"the {len(manifest.files)} listed files and {MANIFEST}",
            found=f"{len(unlisted)} more: {', '.join(map(_shown, unlisted[:3]))}",
            do="move it out of the bundle's directory",
        )
    for name, entry in sorted(manifest.files.items()):
        if name not in found:
            raise _damaged("HETC-B009", "a file of the bundle is missing", name, "the file", "none")
        if found[name] != entry.size:
            raise _damaged(
                "HETC-B010",
                "a file of the bundle has another size",
                name,
                f"{entry.size} bytes",
                f"{found[name]} bytes",
            )


def _shown(name: str) -> str:
    """A name that somebody else chose, without what could move a terminal's cursor."""
    return name if name.isprintable() else ascii(name)


def _damaged(code: str, what: str, at: str, expected: str, found: str) -> BundleError:
    do = "copy the bundle again from its source, or compile the model again"
    return BundleError(code, what, at=at, expected=expected, found=found, do=do)


def _not_plain(root: Path, rel: str, mode: int) -> BundleError:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder too deep"}
    kinds |= {stat.S_IFREG: f"more than {MAX_FILES} files"}
    found = kinds.get(stat.S_IFMT(mode), "a device, socket or pipe")
    if stat.S_ISLNK(mode):
        found += f" to {os.readlink(root / rel)!r}"
    return BundleError(
        "HETC-B007",
        "a bundle holds plain files only",
        at=_shown(rel),
        expected="a regular file",
        found=found,
        do="replace it by a copy of the file, or copy the bundle again from its source",
    )
