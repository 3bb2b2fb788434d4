"""One region as PyTorch calls it: sizes and tensors in, tensors in the expected layout out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import HetcError, Reason
from hetc.interop.runner import Run

if TYPE_CHECKING:
    import torch

Orders = Sequence[tuple[int, ...]]


@dataclass(eq=False)
class RegionCall:
    """Runs a region on its executor, and with PyTorch from then on where a call fails.

    `takes` says which of the arguments the graph's inputs are; an argument that is a number stands
    for a size and becomes an empty tensor of that length. `orders` are the axes of the outputs as
    they lie in memory. Under `strict` a failure is raised.
    """

    name: str
    ops: int
    run: Run | None
    eager: Callable[..., Any]
    takes: Sequence[int]
    orders: Orders
    strict: bool
    tell: Callable[[Reason], None]
    calls: int = field(default=0)

    def __post_init__(self) -> None:
        # torch.fx writes calls of it by this name.
        self.__name__ = self.name

    def __call__(self, *given: Any) -> tuple[torch.Tensor, ...]:
        self.calls += 1
        if self.run is not None:
            try:
                return self._run(given)
            except HetcError as error:
                if self.strict:
                    raise
                # Where PyTorch fails as well, its error is the user's.
                made: tuple[torch.Tensor, ...] = self.eager(*given)
                self.run = None
                self.tell(Reason(error.code, f"{error.what}: {error.found}", at=self.name))
                return made
        results: tuple[torch.Tensor, ...] = self.eager(*given)
        return results

    def _run(self, given: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        assert self.run is not None
        made = self.run([_tensor(given[place]) for place in self.takes])
        return tuple(
            tensor if order == tuple(range(len(order))) else tensor.permute(_inverse(order))
            for tensor, order in zip(made, self.orders, strict=True)
        )


def _tensor(item: Any) -> torch.Tensor:
    import torch

    return item if isinstance(item, torch.Tensor) else torch.empty((int(item), 0), dtype=torch.bool)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
