"""Opening a bundle that nobody vouches for: everything is checked before it is used."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

from hetc.bundle.contract import PHASES, Contract
from hetc.bundle.digests import check_digests, file_sha256, require_digest
from hetc.bundle.directory import check_files
from hetc.bundle.filenames import HANDOFF_FILE, MANIFEST
from hetc.bundle.schema import MAX_MANIFEST_BYTES, Manifest, without_phases
from hetc.bundle.tensor_file import Array, TensorFile
from hetc.errors import BundleError, Reason

Check = Literal["full", "sizes"]

WEIGHTS = "weights/"


class OpenBundle:
    """A checked bundle: its manifest, its contract, and its files by name.

    Nothing is unpickled or executed. Files are mapped or read when asked for; a name that the
    manifest does not list raises `BundleError` HETC-B013. A context manager; `close` lets go of the
    mapped files, and arrays already handed out stay valid.
    """

    def __init__(
        self, root: Path, manifest: Manifest, contract: Contract | None, verified: set[str]
    ) -> None:
        self.root = root
        self.manifest = manifest
        self._contract = contract
        self._verified = verified
        self._tensor_files: dict[str, TensorFile] = {}
        self._weights: dict[str, str] | None = None
        self._closed = False

    @property
    def contract(self) -> Contract:
        """The hand-off contract; raises `BundleError` HETC-B017 for a bundle without phases."""
        if self._contract is None:
            forward = self.manifest.forward
            raise without_phases("" if forward is None else forward.reason)
        return self._contract

    def __enter__(self) -> OpenBundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the mapped files; using the bundle afterwards raises HETC-B015."""
        self._closed = True
        self._tensor_files = {}
        self._weights = {}

    def path(self, rel: str) -> Path:
        """Where a listed file lies, its digest checked; for libraries that open files."""
        path = self._listed(rel)
        if rel not in self._verified:
            with _readable(rel):
                require_digest(rel, self.manifest.files[rel].sha256, file_sha256(path))
            self._verified.add(rel)
        return path

    def read_bytes(self, rel: str) -> bytes:
        """The content of a listed file; its digest is that of the bytes returned."""
        path = self._listed(rel)
        with _readable(rel):
            raw = path.read_bytes()
        require_digest(rel, self.manifest.files[rel].sha256, hashlib.sha256(raw).hexdigest())
        return raw

    def mapped(self, rel: str) -> mmap.mmap:
        """A listed file as read-only memory that all processes share, its digest checked there."""
        path = self._listed(rel)
        with _readable(rel), path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if rel not in self._verified:
            found = hashlib.sha256(memory).hexdigest()
            require_digest(rel, self.manifest.files[rel].sha256, found)
            self._verified.add(rel)
        return memory

    def tensors(self, rel: str) -> TensorFile:
        """The tensors of a listed safetensors file by name, as read-only mapped arrays."""
        found = self._tensor_files.get(rel)
        if found is None or self._closed:
            with _readable(rel):
                found = TensorFile(self.path(rel), rel)
            self._tensor_files[rel] = found
        return found

    def weight(self, name: str) -> Array:
        """One weight by name, from whichever shard holds it: a read-only mapped array."""
        rel = self._weight_index().get(name)
        if rel is None:
            raise BundleError(
                "HETC-B013",
                "the bundle has no such weight",
                at=name,
                expected=f"one of {len(self._weight_index())} weights",
                found="none of this name",
                do="make a bundle with weights" if self.manifest.kind == "plan" else "recompile",
            )
        return self.tensors(rel)[name]

    def weight_names(self) -> tuple[str, ...]:
        """The names of all weights, sorted; empty for a plan."""
        return tuple(sorted(self._weight_index()))

    def _weight_index(self) -> dict[str, str]:
        self._require_open()
        if self._weights is None:
            index: dict[str, str] = {}
            for rel in sorted(self.manifest.files):
                if not (rel.startswith(WEIGHTS) and rel.endswith(".safetensors")):
                    continue
                for name in self.tensors(rel):
                    if name in index:
                        raise BundleError(
                            "HETC-B012",
                            "a weight is in two files",
                            at=f"{rel}: {name}",
                            expected="every weight once",
                            found=f"also in {index[name]}",
                            do="compile the model again",
                        )
                    index[name] = rel
            self._weights = index
        return self._weights

    def _listed(self, rel: str) -> Path:
        self._require_open()
        if rel not in self.manifest.files:
            raise BundleError(
                "HETC-B013",
                "the bundle has no such file",
                at=rel,
                expected=f"one of {len(self.manifest.files)} listed files",
                found="none of this name",
                do="compile the model again",
            )
        return self.root / rel

    def _require_open(self) -> None:
        if self._closed:
            raise BundleError(
                "HETC-B015",
                "the bundle was closed",
                at=str(self.root),
                do="open it again, or close it later",
            )


def open_bundle(path: str | Path, *, check: Check = "full") -> OpenBundle:
    """Opens and checks the bundle at `path`.

    `full` hashes every file now; `sizes` compares names and sizes now and hashes each file at its
    first use. Either way no byte is handed out unchecked. Raises `BundleError`, whose code and `at`
    say what is wrong with which file or field (docs/bundle-format.md lists them).
    """
    root = Path(path)
    manifest = _read_manifest(root)
    with _readable(str(root)):
        check_files(root, manifest)
        verified: set[str] = set()
        if check == "full":
            check_digests(root, manifest.files)
            verified = set(manifest.files)
    contract = None if manifest.forward is not None else _read_contract(root, manifest)
    return OpenBundle(root, manifest, contract, verified)


def _read_contract(root: Path, manifest: Manifest) -> Contract:
    with _readable(str(root)):
        raw = (root / HANDOFF_FILE).read_bytes()
    require_digest(HANDOFF_FILE, manifest.contract_sha256, hashlib.sha256(raw).hexdigest())
    contract = Contract.from_bytes(raw)
    manifest.check_contract(contract)
    return contract


def check_compat(path: str | Path, target_names: Collection[str]) -> tuple[Reason, ...]:
    """Why the bundle at `path` is not for these targets; reads the manifest only.

    Empty where nothing stands against it. Raises `BundleError` where the manifest itself cannot be
    used by this version of hetc.
    """
    manifest = _read_manifest(Path(path))
    reasons = [
        Reason(
            "HETC-B030",
            f"the {phase} half was compiled for {manifest.targets[phase].name}",
            at=f"targets.{phase}",
        )
        for phase in PHASES
        if manifest.targets[phase].name not in target_names
    ]
    if manifest.kind == "plan":
        reasons.append(
            Reason("HETC-B031", "it is a plan without weights and cannot run", at="kind")
        )
    return tuple(reasons)


def _read_manifest(root: Path) -> Manifest:
    file = root / MANIFEST
    with _readable(str(file)):
        if not root.is_dir() or not os.path.lexists(file):
            raise BundleError(
                "HETC-B001",
                "this is not a bundle",
                at=str(root),
                expected=f"a directory with {MANIFEST}",
                found="no such directory" if not root.is_dir() else f"no {MANIFEST}",
                do="pass the directory that `hetc compile -o` wrote",
            )
        # Before it is opened: opening a pipe would wait for ever, and a link could lead anywhere.
        if file.is_symlink() or not file.is_file():
            raise BundleError(
                "HETC-B007",
                "a bundle holds plain files only",
                at=MANIFEST,
                expected="a regular file",
                found="a symbolic link" if file.is_symlink() else "a directory, device or pipe",
                do="copy the bundle again from its source",
            )
        with file.open("rb") as opened:
            raw = opened.read(MAX_MANIFEST_BYTES + 1)
    if not raw.endswith(b"\n"):
        raise BundleError(
            "HETC-B002",
            "the bundle's JSON cannot be read",
            at=MANIFEST,
            expected="a newline at the end",
            found=f"{len(raw)} bytes without one: the file was cut off",
            do="compile the model again, or copy the bundle again from its source",
        )
    return Manifest.from_bytes(raw)


@contextmanager
def _readable(at: str) -> Iterator[None]:
    """Turns the file system's errors into one `BundleError`."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            "HETC-B016",
            "the bundle cannot be read",
            at=at,
            found=error.strerror or str(error),
            do="check that the file is there and that you may read it",
        ) from error
