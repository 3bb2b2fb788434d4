"""Whether a bundle may be written at a path: never over anything that is not a bundle."""

from __future__ import annotations

from pathlib import Path

from hetc.bundle.directory import list_files
from hetc.bundle.filenames import MANIFEST
from hetc.bundle.schema import MAX_MANIFEST_BYTES
from hetc.bundle.strict_json import parse_json
from hetc.errors import BundleError


def refuse_target(path: Path, *, overwrite: bool) -> None:
    """Raises `BundleError` HETC-B020 unless `path` is free, an empty directory, or replaceable.

    Replaceable is, with `overwrite`, a bundle of any version that holds nothing but its own files:
    replacing it must not delete what somebody put beside them.
    """
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or not path.is_dir():
        raise _taken(path, "a file or a link")
    if not any(path.iterdir()):
        return
    listed = _listed_files(path)
    if listed is None:
        raise _taken(path, "a directory that is not a hetc bundle")
    if not overwrite:
        raise _taken(
            path, "a bundle", do="let --overwrite replace it, or choose another name with -o"
        )
    foreign = sorted(set(list_files(path)) - listed - {MANIFEST})
    if foreign:
        raise _taken(path, f"a bundle that also holds {foreign[0]}")


def _listed_files(path: Path) -> set[str] | None:
    """The files that a bundle of whatever version says it has; None for what is no bundle."""
    manifest = path / MANIFEST
    if manifest.is_symlink() or not manifest.is_file():
        return None
    if manifest.stat().st_size > MAX_MANIFEST_BYTES:
        return None
    try:
        value = parse_json(manifest.read_bytes(), MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    except BundleError:
        # Damaged beyond recognition: then it is not ours to delete.
        return None
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
        return None
    return set(value["files"]) if str(value.get("schema")).startswith("hetc.bundle/") else None


def _taken(path: Path, found: str, *, do: str = "choose another name with -o") -> BundleError:
    return BundleError(
        "HETC-B020",
        "there is already something where the bundle should go",
        at=str(path),
        expected="a free name",
        found=found,
        do=do,
    )
