"""Writing a bundle so that it appears whole or not at all, the same bytes for the same input."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path
from types import TracebackType

from hetc.bundle.filenames import HANDOFF_FILE, MANIFEST, check_filename, refuse_collisions
from hetc.bundle.overwrite import refuse_target
from hetc.bundle.schema import Contract, FileEntry, Manifest
from hetc.bundle.staging import Staging, recover
from hetc.bundle.strict_json import canonical_json
from hetc.bundle.tensor_layout import (
    SHARD_BYTES,
    TensorSource,
    encode_header,
    plan_shards,
    shard_names,
)
from hetc.errors import BundleError

CHUNK_BYTES = 16 * 2**20


class BundleWriter:
    """A context in which files are written; `commit` makes them the bundle at `path`.

    Until `commit`, nothing stands at `path`; leaving the context without it (an exception, Ctrl-C)
    removes what was written. An existing bundle is replaced only with `overwrite`, and only if
    every file in it is its own. Raises `BundleError`: HETC-B020 the place is taken, HETC-B021 no
    space, HETC-B022 the file system refuses, HETC-B023 the caller's mistake, HETC-B006 a file name.
    """

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self._overwrite = overwrite
        self._shard_bytes = shard_bytes
        self._staging: Staging | None = None
        self._files: dict[str, FileEntry] = {}

    def __enter__(self) -> BundleWriter:
        with self._translated(str(self.path), needed=0):
            recover(self.path)
            refuse_target(self.path, overwrite=self._overwrite)
            self._staging = Staging(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._staging is not None:
            self._staging.discard()
            self._staging = None

    @property
    def files(self) -> dict[str, FileEntry]:
        """Size and SHA-256 of every file written so far."""
        return dict(self._files)

    def write_bytes(self, relpath: str, data: bytes) -> None:
        """Writes one file."""
        with self._file(relpath, needed=len(data)) as file:
            file.write(memoryview(data))

    def write_chunks(self, relpath: str, size: int, chunks: Iterable[memoryview]) -> None:
        """Writes one file of `size` bytes piece by piece, one piece in memory at a time."""
        self._require_space(relpath, size)
        with self._file(relpath, needed=size) as file:
            for chunk in chunks:
                file.write(chunk)
            if file.size != size:
                raise _misuse(relpath, f"{size} bytes", f"{file.size} bytes")

    def write_json(self, relpath: str, value: object) -> None:
        """Writes plain JSON values: sorted keys, two spaces, a newline at the end."""
        self.write_bytes(relpath, canonical_json(value))

    def write_tensors(self, relpath: str, tensors: Iterable[TensorSource]) -> list[str]:
        """Writes `(name, dtype, shape, loader)` tensors as safetensors, one in memory at a time.

        `dtype` is hetc's name (`bf16`); `loader()` returns an ndarray of that dtype and shape.
        Files grow to at most `shard_bytes` of data; the names written are returned: `relpath`, or
        `model-00001-of-0000N.safetensors` for `model.safetensors` in several shards.
        """
        shards = plan_shards(tensors, shard_bytes=self._shard_bytes)
        total = sum(tensor.nbytes for shard in shards for tensor in shard)
        self._require_space(relpath, total)
        names = shard_names(relpath, len(shards))
        for name, shard in zip(names, shards, strict=True):
            with self._file(name, needed=sum(tensor.nbytes for tensor in shard)) as file:
                file.write(memoryview(encode_header(shard)))
                for tensor in shard:
                    file.write(tensor.values())
        return names

    def commit(self, manifest: Manifest) -> Manifest:
        """Completes `manifest` (files, contract hash), writes it last, then names the bundle.

        A `contract_sha256` that is already set must be that of `handoff.json`, which only a bundle
        without phases lacks. Returns the manifest as it stands in the bundle. Whatever a reader
        would refuse is refused here.
        """
        staging = self._open_staging()
        handoff = staging.path / HANDOFF_FILE
        has_phases = manifest.forward is None
        if has_phases and HANDOFF_FILE not in self._files:
            raise _misuse(HANDOFF_FILE, "a hand-off contract", "no such file was written")
        sha256 = self._files[HANDOFF_FILE].sha256 if HANDOFF_FILE in self._files else ""
        if manifest.contract_sha256 not in ("", sha256):
            raise _misuse(HANDOFF_FILE, manifest.contract_sha256, sha256)
        whole = replace(manifest, contract_sha256=sha256, files=self.files)
        raw = whole.to_bytes()
        if Manifest.from_bytes(raw) != whole:
            raise _misuse(MANIFEST, "a manifest that reads back the same", "another one")
        if has_phases:
            whole.check_contract(Contract.from_bytes(handoff.read_bytes()))
        refuse_collisions((*self._files, MANIFEST), MANIFEST)
        with self._file(MANIFEST, needed=len(raw)) as file:
            file.write(memoryview(raw))
        with self._translated(str(self.path), needed=0):
            refuse_target(self.path, overwrite=self._overwrite)
            staging.publish()
        self._staging = None
        return whole

    def _open_staging(self) -> Staging:
        if self._staging is None:
            raise _misuse(str(self.path), "a writer between `with` and `commit`", "a closed one")
        return self._staging

    @contextmanager
    def _file(self, relpath: str, *, needed: int) -> Iterator[HashingFile]:
        path = self._open_staging().path / check_filename(relpath, relpath)
        if relpath in self._files:
            raise _misuse(relpath, "every file once", "a second one of this name")
        with self._translated(relpath, needed=needed):
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = path.open("xb", buffering=0)
        # Only writes are translated: a loader's OSError is about the model's file, not this one.
        with opened as raw:
            file = HashingFile(raw, lambda: self._translated(relpath, needed=needed))
            yield file
            with self._translated(relpath, needed=needed):
                os.fsync(raw.fileno())
        self._files[relpath] = FileEntry(file.size, file.digest.hexdigest())

    def _require_space(self, relpath: str, needed: int) -> None:
        """Fails before minutes of writing rather than after them."""
        available = shutil.disk_usage(self._open_staging().path).free
        if needed > available:
            raise _no_space(relpath, needed, available)

    @contextmanager
    def _translated(self, at: str, *, needed: int) -> Iterator[None]:
        """Turns the file system's errors into one `BundleError`."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                available = shutil.disk_usage(_existing(self.path)).free
                raise _no_space(at, needed, available) from error
            raise BundleError(
                "HETC-B022",
                "the bundle cannot be written",
                at=at,
                found=error.strerror or str(error),
                do=f"write where you may: check the permissions of {self.path.parent}",
            ) from error


class HashingFile:
    """An open file that counts and hashes what is written to it."""

    def __init__(self, raw: FileIO, guard: Callable[[], AbstractContextManager[None]]) -> None:
        self._raw = raw
        self._guard = guard
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        """Writes all of `data`."""
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            self.digest.update(chunk)
            self.size += len(chunk)
            with self._guard():
                # An unbuffered file may take less than it is given, when a disk fills for example.
                while chunk:
                    chunk = chunk[self._raw.write(chunk) :]


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _no_space(at: str, needed: int, available: int) -> BundleError:
    return BundleError(
        "HETC-B021",
        "there is no space left for the bundle",
        at=at,
        expected=f"{needed} bytes for this file",
        found=f"{available} bytes available",
        do="free some space, write elsewhere with -o, or store smaller weights with --dtype bf16",
    )


def _misuse(at: str, expected: str, found: str) -> BundleError:
    return BundleError(
        "HETC-B023",
        "the bundle's writer was used wrongly",
        at=at,
        expected=expected,
        found=found,
        do="report this: the compiler wrote a bundle in the wrong way",
    )
