"""The side file of `hetc tune`: which configuration of a kernel was fastest on this GPU."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hetc.bundle import OpenBundle
from hetc.errors import Reason
from hetc.runtime.cuda.device import DeviceInfo
from hetc.runtime.cuda.kernels import Choices
from hetc.runtime.kept_files import KeptFiles, user_folder

SCHEMA = "hetc.tuned/1"
_MOST_FILES = 64
_MOST_BYTES = 2**22


class TunedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to `rows` rows (None: any number) the configuration number `config` was fastest."""

    rows: int | None
    config: int


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: choices by kernel, in the order in which they are tried."""

    schema: str
    kernels: dict[str, tuple[TunedChoice, ...]]


@dataclass(frozen=True)
class TunedFile:
    """The side file of one bundle on one kind of GPU with one driver; `path` is where it lies.

    Results are the same with it, without it and with that of another: it is only about time. What
    cannot be used or kept is said as a RuntimeWarning (HETC-R061).
    """

    files: KeptFiles
    key: bytes

    @staticmethod
    def of(bundle: OpenBundle, info: DeviceInfo, folder: Path | None = None) -> TunedFile | None:
        """That of a bundle on a GPU; None where there is no folder to keep it in."""
        folder = folder or user_folder("cuda")
        if folder is None:
            return None
        digest = hashlib.sha256(bundle.manifest.to_bytes()).hexdigest()
        key = "\n".join((SCHEMA, info.name, info.arch, info.driver, digest))
        return TunedFile(KeptFiles(folder, ".json", _MOST_FILES, _MOST_BYTES), key.encode())

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.files.path(self.key)

    def read(self, built: Mapping[str, frozenset[int]]) -> Choices:
        """The choices in it, none where there is no file; `built` has the configurations of each
        kernel that this GPU runs."""
        try:
            raw = self.files.read(self.key)
            if raw is None:
                return {}
            found = msgspec.json.decode(raw, type=Tuned)
            return {name: _checked(name, found, built) for name in found.kernels}
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            reason = Reason("HETC-R061", f"what was tuned is not used: {error}", at=str(self.path))
            warnings.warn(str(reason), RuntimeWarning, stacklevel=2)
            return {}

    def write(self, choices: Choices) -> None:
        """Keep `choices` from now on."""
        kernels = {
            name: tuple(TunedChoice(rows, config) for rows, config in chosen)
            for name, chosen in choices.items()
        }
        try:
            self.files.write(self.key, msgspec.json.encode(Tuned(SCHEMA, kernels)))
        except OSError as error:
            reason = Reason("HETC-R061", f"what was tuned cannot be kept: {error}", str(self.path))
            warnings.warn(str(reason), RuntimeWarning, stacklevel=2)


def _checked(
    name: str, found: Tuned, built: Mapping[str, frozenset[int]]
) -> tuple[tuple[int | None, int], ...]:
    choices = tuple((choice.rows, choice.config) for choice in found.kernels[name])
    bounds = [rows for rows, _ in choices]
    if found.schema != SCHEMA or name not in built:
        raise ValueError("it is of another schema or plan")
    if not bounds or bounds[-1] is not None or None in bounds[:-1]:
        raise ValueError(f"the choices of {name} do not end")
    if not {config for _, config in choices} <= built[name]:
        raise ValueError(f"a choice of {name} was not built for this GPU")
    return choices
