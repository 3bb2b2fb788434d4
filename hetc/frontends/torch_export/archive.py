"""Reading `.pt2` files from anyone: nothing in them is unpickled, and no text in them is evaluated
before it is read here."""

from __future__ import annotations

import json
import zipfile
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.recurrences import register_ops
from hetc.frontends.torch_export.archive_text import check_model

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_PROGRAM = "models/model.json"
_SAMPLES = "data/sample_inputs/"
_PAYLOADS = ("data/weights/", "data/constants/")
_DO = "export the model again with torch.export.save, without custom classes or tensor subclasses"


def load_pt2(path: str | PathLike[str]) -> ExportedProgram:
    """Load an exported program with its weights and nothing else.

    `torch.export.load` unpickles whatever a file asks it to and evaluates its size expressions.
    Here the same file is read through a reader that hands out plain tensors and checked text only.
    A program from another device arrives on the CPU. Raises InputError: HETC-I220 not a readable
    `.pt2` file, HETC-I221 a file that would run code, HETC-I222 a program that this PyTorch cannot
    read.
    """
    from torch._export.serde.serialize import SerializeError
    from torch._export.verifier import SpecViolationError
    from torch.export.pt2_archive._package import _load_exported_programs

    # Programs may use them.
    register_ops()
    archive = CheckedArchive(Path(path))
    try:
        programs = _load_exported_programs(archive, [_PROGRAM], None)  # type: ignore[arg-type]
    except InputError:
        raise
    except (SerializeError, SpecViolationError, AssertionError, *_DAMAGE) as error:
        raise InputError(
            "HETC-I222",
            "this PyTorch cannot read the exported program",
            at=fspath(path),
            found=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            do="save it again with this PyTorch, or check that the file is complete",
        ) from error
    return programs["model"]


# What PyTorch raises on damaged content.
_DAMAGE = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    OSError,
)


class CheckedArchive:
    """Stands in for PyTorch's archive reader; every byte that PyTorch would interpret goes through
    `read_bytes`.

    Raw weights are copied from the file as numbers by `archive_file`, without interpretation.
    """

    def __init__(self, path: Path) -> None:
        import torch

        self.path = str(path)
        if not path.is_file():
            raise InputError("HETC-I220", "there is no such file", at=self.path)
        self._check_container(path)
        try:
            self.archive_file = torch._C.PyTorchFileReader(self.path)
            # Names that leave the archive's folder are refused here.
            self._names = list(self.archive_file.get_all_records())
        except RuntimeError as error:
            raise self._unreadable(str(error).partition("\n")[0]) from error
        if _PROGRAM not in self._names:
            raise self._unreadable(
                "no exported program inside (TorchScript and AOTInductor packages are none)"
            )

    def _check_container(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as file:
                entries = file.infolist()
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise self._unreadable(str(error)) from error
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            # PyTorch stores without compression; a small file that unpacks to a huge one is an
            # attack.
            raise self._unreadable("compressed entries, which torch.export.save does not write")
        if len({entry.filename for entry in entries}) != len(entries):
            raise self._unreadable("two entries of one name")

    def _unreadable(self, found: str) -> InputError:
        return InputError(
            "HETC-I220",
            "not a readable .pt2 file",
            at=self.path,
            found=found,
            do="write it with torch.export.save",
        )

    def get_file_names(self) -> list[str]:
        """Every entry of the archive."""
        return self._names

    def read_string(self, name: str) -> str:
        """A text entry, checked."""
        return self.read_bytes(name).decode()

    def read_bytes(self, name: str) -> bytes:
        """An entry that PyTorch will interpret: checked JSON, and no bytes at all for the pickled
        sample inputs."""
        if name.startswith(_SAMPLES):
            return b""
        if name == _PROGRAM:
            return self._checked(name, check_model)
        if name.startswith(_PAYLOADS) and name.endswith("_config.json"):
            return self._checked(name, self._check_payload)
        raise self._runs_code(f"{name} is pickled data")

    def _checked(self, name: str, check: Any) -> bytes:
        try:
            content = json.loads(self.archive_file.get_record(name))
            problem = check(content)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
            RecursionError,
        ) as error:
            raise self._unreadable(f"{name}: {type(error).__name__}: {error}") from error
        if problem:
            raise self._runs_code(f"{name}: {problem}")
        _to_cpu(content)
        return json.dumps(content).encode()

    def _check_payload(self, content: Any) -> str:
        for target, payload in content["config"].items():
            if payload["use_pickle"]:
                return f"{target} is a pickled object"
            if payload["path_name"].startswith(("custom_obj_", "opaque_obj_")):
                return f"{target} is an object of a custom class"
        return ""

    def _runs_code(self, found: str) -> InputError:
        return InputError(
            "HETC-I221",
            "loading this file could run code that it brings",
            at=self.path,
            found=found,
            do=_DO,
        )


def _to_cpu(content: Any) -> None:
    """Devices in the program become the CPU: the export's device says nothing about where it will
    run."""
    if isinstance(content, dict):
        if set(content) == {"type", "index"} and isinstance(content["type"], str):
            content["type"], content["index"] = "cpu", None
        for part in content.values():
            _to_cpu(part)
    elif isinstance(content, list):
        for part in content:
            _to_cpu(part)
