"""What the manifest says of a model without phases: its one graph, with inputs and outputs by
name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hetc.bundle.contract import Dim, read_dim
from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.fields import Fields, bad_field
from hetc.bundle.filenames import check_filename


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, element type, and sizes, which are integers or expressions."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    @classmethod
    def from_json(cls, value: object, at: str, *, newer: bool) -> Tensor:
        """Reads one entry of `forward.inputs` or `forward.outputs`."""
        f = Fields(value, at, newer=newer)
        found = cls(f.text("name"), f.one_of("dtype", BY_NAME), f.array("shape", read_dim))
        f.done()
        if not found.name:
            raise bad_field(f.where("name"), "a name", found.name)
        return found

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class ForwardEntry:
    """The graph of a model without phases.

    `reason` says why there are none. `sizes` gives the range of every symbol of the inputs, the
    second number None where there is no bound, and `planned` the sizes that the cut was made for.
    `golden` is a file of inputs and the outputs that they give, named `input.NAME` and
    `output.NAME`.
    """

    graph: str
    onnx: str | None
    reason: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sizes: Mapping[str, tuple[int, int | None]]
    planned: Mapping[str, int]
    golden: str | None = None

    @classmethod
    def read(cls, f: Fields) -> ForwardEntry:
        """Reads `forward`."""

        def filename(key: str) -> str:
            return check_filename(f.take(key), f.where(key))

        def tensors(key: str) -> tuple[Tensor, ...]:
            read = f.array(key, lambda v, at: Tensor.from_json(v, at, newer=f.newer))
            names = [tensor.name for tensor in read]
            if len(set(names)) != len(names):
                raise bad_field(f.where(key), "names, each once", names)
            return read

        found = cls(
            graph=filename("graph"),
            onnx=f.optional("onnx", filename),
            reason=f.text("reason"),
            inputs=tensors("inputs"),
            outputs=tensors("outputs"),
            sizes=_ranges(f.nested("sizes")),
            planned=_numbers(f.nested("planned")),
            golden=f.optional("golden", filename),
        )
        if not found.outputs:
            raise bad_field(f.where("outputs"), "at least one output", [])
        if set(found.planned) != set(found.sizes):
            raise bad_field(
                f.where("planned"),
                ", ".join(sorted(found.sizes)) or "no sizes",
                sorted(found.planned),
            )
        return found

    def to_json(self) -> dict[str, object]:
        """The field as plain JSON values."""
        return dict(vars(self)) | {
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "sizes": {name: {"min": low, "max": high} for name, (low, high) in self.sizes.items()},
            "planned": dict(self.planned),
        }

    @property
    def files(self) -> dict[str, str]:
        """The field that names a file, by the file."""
        named = {"graph": self.graph, "onnx": self.onnx, "golden": self.golden}
        return {file: f"forward.{key}" for key, file in named.items() if file is not None}


def _ranges(f: Fields) -> dict[str, tuple[int, int | None]]:
    found: dict[str, tuple[int, int | None]] = {}
    for name, value in f.items():
        ends = Fields(value, f.where(name), newer=f.newer)
        low = ends.integer("min")

        def high(key: str, ends: Fields = ends, low: int = low) -> int:
            return ends.integer(key, low=low)

        found[name] = (low, ends.optional("max", high))
        ends.done()
    return found


def _numbers(f: Fields) -> dict[str, int]:
    return {name: Fields({name: value}, f.at).integer(name, low=1) for name, value in f.items()}
