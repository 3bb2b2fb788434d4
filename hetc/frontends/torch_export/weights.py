"""The tensors of an exported program as weights and constants of the graph, loaded when they are
asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.torch_export.context import Pairs
from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_numpy
from hetc.ir.model import WeightData
from hetc.ir.op import Value
from hetc.ir.ops.source import Constant, Weight
from hetc.ir.types import Array, DType, TensorType

if TYPE_CHECKING:
    import torch

# Tensors up to this size that no checkpoint holds become literals.
LITERAL_ELEMENTS = 64


@dataclass
class WeightTable:
    """Name -> data, one entry per storage: tied weights share the name that comes first in the
    state dict."""

    wrapper: str = ""
    found: dict[str, WeightData] = field(default_factory=dict)
    _names: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def name_all(self, tensors: Mapping[str, Any]) -> None:
        """Decide the shared names of the tensors of a state dict, in its order."""
        for name, tensor in tensors.items():
            self._names.setdefault(_storage(tensor), name)

    def value(self, name: str, tensor: torch.Tensor, *, literal: bool) -> Value | Pairs:
        """A weight, or for a small tensor that is no parameter (`literal`) a constant; a complex
        one in two parts."""
        plain = self._names.get(_storage(tensor), name).removeprefix(self.wrapper)
        if tensor.dtype.is_complex:
            parts = (
                self._one(f"{plain}.{part}", tensor, part, literal) for part in ("real", "imag")
            )
            return Pairs(*parts)
        return self._one(plain, tensor, "", literal)

    def _one(self, name: str, tensor: torch.Tensor, part: str, literal: bool) -> Value:
        dtype = dtype_of_torch(tensor.dtype)
        shape = tuple(tensor.shape)
        if literal and tensor.numel() <= LITERAL_ELEMENTS and has_data(tensor):
            data = _nested(_load(name, tensor, part, dtype).tolist())
            return Constant(data, dtype, loc=name.rpartition(".")[0]).result
        self.found.setdefault(
            name, WeightData(shape, dtype, partial(_load, name, tensor, part, dtype))
        )
        return Weight(name, TensorType(dtype, shape), loc=name.rpartition(".")[0]).result


def has_data(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds numbers: not on the meta device, not fake."""
    return tensor.device.type != "meta" and type(tensor).__name__ != "FakeTensor"


def _storage(tensor: torch.Tensor) -> tuple[Any, ...]:
    # The identity of the storage, not its address: empty and meta storages have none.
    identity = tensor.untyped_storage()._cdata
    return (identity, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _load(name: str, tensor: torch.Tensor, part: str, dtype: DType) -> Array:
    if not has_data(tensor):
        raise InputError(
            "HETC-I202",
            f"the weight {name} has no data",
            found="a tensor on the meta device",
            do="export with real weights",
        )
    data = to_numpy(getattr(tensor, part).contiguous() if part else tensor)
    return data if data.dtype == dtype.numpy else data.astype(dtype.numpy)


def _nested(data: Any) -> Any:
    return tuple(_nested(item) for item in data) if isinstance(data, list) else data
