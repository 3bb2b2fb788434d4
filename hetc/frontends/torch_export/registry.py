"""The table from ATen names (`mul.Tensor`) to the small functions that import them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Handler = Callable[..., object]
_F = TypeVar("_F", bound=Handler)

TABLE: dict[str, Handler] = {}
# The same for ops on complex tensors, which are pairs of real ones.
COMPLEX: dict[str, Handler] = {}


def aten(*names: str) -> Callable[[_F], _F]:
    """Decorator: the function imports these ATen overloads.

    It is called as `function(ctx, *args, **kwargs)` with the arguments of the overload: tensors as
    `Value`, sizes as dims. Keyword arguments that cannot change values (device, layout, memory
    format) are left out. It returns a `Value`, a tuple of them, or NotImplemented for a form that
    it does not know.
    """

    def register(function: _F) -> _F:
        for name in names:
            if name in TABLE:
                raise KeyError(f"two functions import aten.{name}")
            TABLE[name] = function
        return function

    return register


def complex_aten(name: str) -> Callable[[_F], _F]:
    """Decorator: as `aten`, for an op that takes or gives complex tensors: `Pairs`."""

    def register(function: _F) -> _F:
        COMPLEX[name] = function
        return function

    return register
