"""The state between calls: named tensors that exactly one owner may use, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.contract import Phase
from hetc.bundle.dtypes import BY_NAME
from hetc.errors import RuntimeFault

_NAME_OF = {stored.numpy: name for name, stored in BY_NAME.items()}


class State:
    """The caches of a batch after `past` tokens, made under the contract `contract_sha256`.

    `tensors` maps a state's name to a NumPy array or to a handle of the executor that made it; a
    handle has `shape` (ints), `dtype` (hetc's name, such as `f32`) and `numpy()`. Whoever runs on a
    state takes its tensors, after which it is spent: an executor may then update them in place.
    `copy` forks a state before that.
    """

    def __init__(
        self,
        contract_sha256: str,
        past: int,
        tensors: Mapping[str, Any],
        *,
        owner: Phase = "prefill",
    ) -> None:
        self.contract_sha256 = contract_sha256
        self.past = past
        self.owner: Phase = owner
        self._tensors: dict[str, Any] | None = dict(tensors)

    @property
    def spent(self) -> bool:
        """Whether the tensors were taken."""
        return self._tensors is None

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The tensors by name; raises RuntimeFault HETC-R010 on a spent state."""
        if self._tensors is None:
            raise already_used(self.past)
        return self._tensors

    def take(self) -> dict[str, Any]:
        """The tensors, for good: the state is spent afterwards."""
        taken = dict(self.tensors)
        self._tensors = None
        return taken

    def copy(self) -> State:
        """An independent state with the same contents, as NumPy arrays."""
        arrays = {name: np.array(self.numpy(name)) for name in self.tensors}
        return State(self.contract_sha256, self.past, arrays, owner=self.owner)

    def numpy(self, name: str) -> NDArray[Any]:
        """The tensor `name` as an array; copies only where the executor's handle must."""
        tensor = self.tensors[name]
        return tensor if isinstance(tensor, np.ndarray) else np.asarray(tensor.numpy())

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of the tensor `name`."""
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> str:
        """The element type of the tensor `name`, as hetc names it (`f32`, `bf16`, ...)."""
        dtype = self.tensors[name].dtype
        return dtype if isinstance(dtype, str) else _NAME_OF.get(dtype, str(dtype))

    def nbytes(self, name: str) -> int:
        """The bytes of the tensor `name`."""
        elements = int(np.prod(self.shape(name), dtype=np.int64))
        return elements * BY_NAME[self.dtype(name)].itemsize

    def digests(self) -> dict[str, str]:
        """SHA-256 over the row-major bytes of every tensor, in hexadecimal."""
        return {
            name: hashlib.sha256(np.ascontiguousarray(self.numpy(name)).tobytes()).hexdigest()
            for name in self.tensors
        }


def already_used(past: int) -> RuntimeFault:
    """The error HETC-R010 for a state after `past` tokens that is used again."""
    return RuntimeFault(
        "HETC-R010",
        "this state was already used",
        at=f"state after {past} tokens",
        expected="a state that no hand-off and no decode has taken",
        do="use the state that the last call returned; state.copy() before a call forks",
    )
