"""The one function of a bundle without phases, and the checks around every call of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import ForwardEntry, OpenBundle, Tensor
from hetc.bundle.dtypes import BY_NAME
from hetc.errors import RuntimeFault
from hetc.runtime.handoff import size_of

Arrays = Mapping[str, NDArray[Any]]


class ForwardExecutor(Protocol):
    """Runs the graph of a bundle without phases; an instance serves one bundle."""

    name: str

    def prepare(self, bundle: OpenBundle) -> None:
        """Read and make ready the graph; raises HetcError where it cannot run here."""
        ...

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs for inputs of the types and sizes that the manifest says."""
        ...

    def close(self) -> None:
        """Give back what `prepare` took; a second call does nothing."""
        ...


ForwardFactory = Callable[[], ForwardExecutor]


@dataclass(frozen=True)
class Forward:
    """The function that `entry` describes, on `executor`."""

    executor: ForwardExecutor
    entry: ForwardEntry

    def __call__(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The outputs by name for inputs in order, by name, or both.

        Raises RuntimeFault HETC-R070 where inputs are missing, too many or of another type,
        HETC-R071 where a size does not fit.
        """
        given = self._by_name(args, named)
        sizes: dict[str, int] = {}
        inputs = {tensor.name: _as_tensor(tensor, given[tensor.name]) for tensor in self._inputs}
        for tensor in self._inputs:
            _bind(tensor, inputs[tensor.name].shape, sizes)
        for tensor in self._inputs:
            _check_shape(tensor, inputs[tensor.name].shape, sizes)
        for name, number in sizes.items():
            self._check_range(name, number)
        found = self.executor.run(inputs)
        return {tensor.name: np.asarray(found[tensor.name]) for tensor in self.entry.outputs}

    def close(self) -> None:
        """Let go of the executor."""
        self.executor.close()

    @property
    def _inputs(self) -> tuple[Tensor, ...]:
        return self.entry.inputs

    def _by_name(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        names = [tensor.name for tensor in self._inputs]
        given = {**dict(zip(names, args, strict=False)), **named}
        twice = set(names[: len(args)]) & set(named)
        if len(args) > len(names) or set(given) != set(names) or twice:
            missing = [name for name in names if name not in given]
            others = [*sorted(set(given) - set(names)), *sorted(twice)]
            raise RuntimeFault(
                "HETC-R070",
                "these are not the inputs of this model",
                expected=", ".join(map(_shown, self._inputs)) or "no inputs",
                found=f"{len(args)} in order"
                + (f", missing: {', '.join(missing)}" if missing else "")
                + (f", not expected or given twice: {', '.join(others)}" if others else ""),
            )
        return given

    def _check_range(self, name: str, number: int) -> None:
        low, high = self.entry.sizes.get(name, (0, None))
        if number < low or (high is not None and number > high):
            raise RuntimeFault(
                "HETC-R071",
                "a size is outside of what the model was compiled for",
                at=name,
                expected=f"at least {low}" if high is None else f"{low} to {high}",
                found=number,
            )


def _as_tensor(tensor: Tensor, value: Any) -> NDArray[Any]:
    """`value` as an array of the input's type; only a number of the same kind is converted."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _wrong_input(tensor, f"{type(value).__name__}: {error}") from error
    wanted = BY_NAME[tensor.dtype].numpy
    if array.dtype == wanted:
        return array
    kinds = {"f": "f", "V": "f", "i": "i", "u": "i", "b": "b"}
    kind = kinds.get(array.dtype.kind, "")
    # NumPy does not know that the types of ml_dtypes are floats.
    wanted_kind = "f" if tensor.dtype.startswith(("f", "bf")) else kinds.get(wanted.kind, "")
    if not kind or kind != wanted_kind:
        raise _wrong_input(tensor, f"{array.dtype}{list(array.shape)}")
    if kind == "i" and array.size:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise _wrong_input(tensor, f"{array.min()} to {array.max()}")
    return array.astype(wanted)


def _wrong_input(tensor: Tensor, found: str) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R070",
        "an input is of another type",
        at=tensor.name,
        expected=_shown(tensor),
        found=found,
    )


def _bind(tensor: Tensor, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Give a number to every symbol that is an axis for itself."""
    for dim, size in zip(tensor.shape, shape, strict=False):
        if isinstance(dim, str) and dim.isidentifier():
            sizes.setdefault(dim, size)


def _check_shape(tensor: Tensor, shape: tuple[int, ...], sizes: Mapping[str, int]) -> None:
    fits = len(shape) == len(tensor.shape)
    if fits:
        wanted = tuple(size_of(dim, sizes, at=tensor.name) for dim in tensor.shape)
        fits = wanted == shape
    if not fits:
        symbols = {dim for dim in tensor.shape if isinstance(dim, str)}
        told = ", ".join(f"{name} = {sizes[name]}" for name in sorted(symbols & sizes.keys()))
        raise RuntimeFault(
            "HETC-R071",
            "an input has another shape",
            at=tensor.name,
            expected=_shown(tensor) + (f" with {told}" if told else ""),
            found=list(shape),
        )


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name} {tensor.dtype}[{','.join(map(str, tensor.shape))}]"
