"""The manifest of a bundle (`manifest.json`, schema `hetc.bundle/1`) as frozen dataclasses.

`from_json` validates strictly and `to_json` gives plain values; reading what was written gives the
same manifest. docs/bundle-format.md is the written form of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hetc.bundle.contract import PHASES, Contract, Phase, StateSpec
from hetc.bundle.entries import (
    Fallback,
    FileEntry,
    Golden,
    HalfEntry,
    ModelInfo,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.bundle.fields import Fields, bad_field
from hetc.bundle.filenames import HANDOFF_FILE, MANIFEST, check_filename, refuse_collisions
from hetc.bundle.forward import ForwardEntry, Tensor
from hetc.bundle.strict_json import canonical_json, parse_json
from hetc.bundle.version import BUNDLE, OLDEST, Version, read_version, require_compat
from hetc.errors import BundleError

__all__ = [
    "PHASES",
    "Contract",
    "Fallback",
    "FileEntry",
    "ForwardEntry",
    "Golden",
    "HalfEntry",
    "Manifest",
    "ModelInfo",
    "Phase",
    "StateSpec",
    "TargetRef",
    "Tensor",
    "ToolInfo",
    "Workload",
]

T = TypeVar("T")

MAX_MANIFEST_BYTES = 4 * 2**20
KINDS = ("plan", "runnable")
# The version from which on a bundle may have no phases.
_FORWARD = Version("hetc.bundle", 1, 1)
_STATES_KEY: dict[Phase, str] = {"prefill": "state_outputs", "decode": "state_inputs"}


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says; the writer fills `files` and `contract_sha256`.

    A bundle has two `halves`, a `workload` and a contract; or, without phases, `forward` alone.
    """

    tool: ToolInfo
    kind: str
    model: ModelInfo
    workload: Workload | None
    targets: Mapping[Phase, TargetRef]
    halves: Mapping[Phase, HalfEntry]
    executors: tuple[str, ...]
    golden: Golden | None = None
    summary: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    contract_sha256: str = ""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    forward: ForwardEntry | None = None
    compat: str = str(OLDEST)

    @classmethod
    def from_json(cls, value: object, at: str = MANIFEST) -> Manifest:
        """Reads and checks a manifest.

        Raises `BundleError`: HETC-B003 another schema, HETC-B004 a field, HETC-B005 a newer bundle,
        HETC-B006 a file name.
        """
        f = Fields(value, at)
        version = read_version(f.take("schema"), f.where("schema"), BUNDLE)
        f.newer = version > BUNDLE
        compat = require_compat(f.take("compat"), f.where("compat"), BUNDLE)
        forward = _read_forward(f, version)
        has_phases = forward is None
        manifest = cls(
            tool=_whole(f.nested("tool"), ToolInfo.read),
            kind=f.one_of("kind", KINDS),
            model=_whole(f.nested("model"), ModelInfo.read),
            workload=_phased(f, "workload", has_phases, lambda sub: _whole(sub, Workload.read)),
            targets=_phases(f.nested("targets"), lambda sub, _: TargetRef.read(sub)),
            halves=_phased(f, "halves", has_phases, lambda sub: _phases(sub, _read_half)) or {},
            executors=f.names("executors"),
            golden=f.optional("golden", lambda key: _whole(f.nested(key), Golden.read)),
            summary=f.texts("summary"),
            assumptions=f.texts("assumptions"),
            fallbacks=f.array(
                "fallbacks", lambda v, where: _whole(Fields(v, where, newer=f.newer), Fallback.read)
            ),
            contract_sha256=f.sha256("contract_sha256")
            if has_phases
            else f.optional("contract_sha256", f.sha256) or "",
            files=_read_files(f.nested("files")),
            forward=forward,
            compat=compat,
        )
        f.done()
        manifest._check(f)
        return manifest

    @classmethod
    def from_bytes(cls, raw: bytes, at: str = MANIFEST) -> Manifest:
        """Reads the bytes of `manifest.json`."""
        return cls.from_json(parse_json(raw, at, max_bytes=MAX_MANIFEST_BYTES), at)

    def to_json(self) -> dict[str, object]:
        """The manifest as plain JSON values."""
        return {
            "schema": str(BUNDLE),
            "compat": self.compat,
            "tool": vars(self.tool),
            "kind": self.kind,
            "model": vars(self.model),
            "workload": None if self.workload is None else vars(self.workload),
            "targets": {phase: vars(self.targets[phase]) for phase in PHASES},
            "halves": {phase: _plain_half(self.halves[phase], phase) for phase in PHASES}
            if self.halves
            else None,
            "forward": None if self.forward is None else self.forward.to_json(),
            "executors": list(self.executors),
            "golden": None if self.golden is None else vars(self.golden),
            "summary": list(self.summary),
            "assumptions": list(self.assumptions),
            "fallbacks": [vars(fallback) for fallback in self.fallbacks],
            "contract_sha256": self.contract_sha256 or None,
            "files": {name: vars(entry) for name, entry in self.files.items()},
        }

    def to_bytes(self) -> bytes:
        """The bytes of `manifest.json`; the same manifest always gives the same bytes."""
        return canonical_json(self.to_json())

    @property
    def request(self) -> Workload:
        """The workload; raises BundleError (HETC-B017) for a bundle without phases."""
        if self.workload is None:
            raise without_phases("" if self.forward is None else self.forward.reason)
        return self.workload

    def half(self, phase: Phase) -> HalfEntry:
        """One half; raises BundleError (HETC-B017) for a bundle without phases."""
        if self.forward is not None:
            raise without_phases(self.forward.reason)
        return self.halves[phase]

    def check_contract(self, contract: Contract) -> None:
        """Refuses a contract whose states are not those of both halves, in order (HETC-B014)."""
        names = contract.state_names
        wanted: dict[Phase, tuple[str, ...]] = {
            "prefill": tuple(f"{name}.out" for name in names),
            "decode": names,
        }
        for phase, expected in wanted.items():
            found = self.halves[phase].states
            if found != expected:
                raise BundleError(
                    "HETC-B014",
                    "a half and the hand-off contract do not name the same states",
                    at=f"{MANIFEST}: halves.{phase}.{_STATES_KEY[phase]}",
                    expected=list(expected)[:8],
                    found=list(found)[:8],
                    do="compile the model again",
                )

    def _check(self, f: Fields) -> None:
        """What holds between fields: every file that a field names is listed."""
        named = {HANDOFF_FILE: "contract_sha256"} if self.contract_sha256 else {}
        if self.forward is not None:
            named |= self.forward.files
        for phase, half in self.halves.items():
            named[half.graph] = f"halves.{phase}.graph"
            for key in ("onnx", "plan", "socket"):
                file = getattr(half, key)
                if file is not None:
                    named[file] = f"halves.{phase}.{key}"
        for name, key in named.items():
            if name not in self.files:
                raise bad_field(f.where(key), "a file that is listed in files", name)
        listed = self.files[HANDOFF_FILE].sha256 if HANDOFF_FILE in self.files else ""
        if listed != self.contract_sha256:
            raise bad_field(f.where("contract_sha256"), listed or "null", self.contract_sha256)
        self._check_kind(f)
        if self.kind == "runnable" and not self.executors:
            raise bad_field(f.where("executors"), "at least one executor", [])

    def _check_kind(self, f: Fields) -> None:
        """A bundle with phases says how many tokens it takes; one without says that older readers
        do not know it, and has nothing to hand off."""
        if self.forward is None:
            for key in ("vocab", "max_context"):
                if getattr(self.model, key) < 1:
                    raise bad_field(f.where(f"model.{key}"), "at least 1", getattr(self.model, key))
        elif self.compat == str(OLDEST):
            raise bad_field(f.where("compat"), str(_FORWARD), self.compat)
        elif self.contract_sha256 or self.golden is not None:
            key = "contract_sha256" if self.contract_sha256 else "golden"
            raise bad_field(f.where(key), "null in a bundle without phases", "something else")


def _whole(f: Fields, read: Callable[[Fields], T]) -> T:
    """Reads an object and refuses what is left of it."""
    found = read(f)
    f.done()
    return found


def without_phases(reason: str) -> BundleError:
    """HETC-B017: something of prefill and decode was asked of a bundle that has neither."""
    return BundleError(
        "HETC-B017",
        "this bundle has no phases: neither prefill nor decode",
        expected="a bundle of a decoder",
        found=reason,
        do="call it as one function: bundle.run(...) or hetc run BUNDLE --inputs FILE",
    )


def _read_forward(f: Fields, version: Version) -> ForwardEntry | None:
    if version < _FORWARD:
        return None
    return f.optional("forward", lambda key: _whole(f.nested(key), ForwardEntry.read))


def _phased(f: Fields, key: str, has_phases: bool, read: Callable[[Fields], T]) -> T | None:
    """A field that every bundle with phases has, and that is null in others."""
    if has_phases:
        return read(f.nested(key))
    if f.take(key) is not None:
        raise bad_field(f.where(key), "null in a bundle without phases", found="something else")
    return None


def _phases(f: Fields, read: Callable[[Fields, Phase], T]) -> dict[Phase, T]:
    found: dict[Phase, T] = {}
    for phase in PHASES:
        sub = f.nested(phase)
        found[phase] = read(sub, phase)
        sub.done()
    f.done()
    return found


def _read_half(f: Fields, phase: Phase) -> HalfEntry:
    def filename(key: str) -> str:
        return check_filename(f.take(key), f.where(key))

    spatial = ("plan", "socket") if phase == "decode" else ()
    return HalfEntry(
        filename("graph"),
        f.optional("onnx", filename),
        f.names(_STATES_KEY[phase]),
        *(f.optional(key, filename) for key in spatial),
    )


def _plain_half(half: HalfEntry, phase: Phase) -> dict[str, object]:
    plain: dict[str, object] = {"graph": half.graph, "onnx": half.onnx}
    plain[_STATES_KEY[phase]] = list(half.states)
    return plain | ({"plan": half.plan, "socket": half.socket} if phase == "decode" else {})


def _read_files(f: Fields) -> dict[str, FileEntry]:
    found: dict[str, FileEntry] = {}
    for name, value in f.items():
        check_filename(name, f.at)
        if name == MANIFEST:
            raise bad_field(f.at, "every file but the manifest itself", name)
        found[name] = _whole(Fields(value, f"{f.at}[{name!r}]", newer=f.newer), FileEntry.read)
    refuse_collisions(found, f.at)
    return found
