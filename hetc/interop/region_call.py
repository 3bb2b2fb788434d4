"""One region as PyTorch calls it: sizes and tensors in, tensors in the expected layout out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import CheckFailed, HetcError, Reason
from hetc.interop.apart import Apart
from hetc.interop.difference import differing
from hetc.interop.runner import Run

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class RegionCall:
    """Runs a region on its executor, and with PyTorch from then on where a call fails.

    `takes` says which of the arguments the graph's inputs are; an argument that is a number stands
    for a size and becomes an empty tensor of that length. `orders` are the axes of the outputs as
    they lie in memory. The first call runs both ways and compares by `tolerance`, see `differing`.
    Under `strict` a failure is raised, else `tell` gets its reason.
    """

    name: str
    run: Run | None
    eager: Apart
    takes: Sequence[int]
    orders: Sequence[tuple[int, ...]]
    tolerance: float
    strict: bool
    tell: Callable[[Reason], None]
    calls: int = field(default=0)
    is_compared: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        # torch.fx writes calls of it by this name.
        self.__name__ = self.name

    def __call__(self, *given: Any) -> tuple[torch.Tensor, ...]:
        self.calls += 1
        if self.run is None:
            return self.eager(*given)
        try:
            made = self._run(self.run, given)
            if not self.is_compared:
                self._compare(made, self.eager(*given), given)
                self.is_compared = True
        except HetcError as error:
            if self.strict:
                raise
            # Where PyTorch fails as well, its error is the user's, and the region stays.
            results = self.eager(*given)
            self.run = None
            self.tell(Reason(error.code, f"{error.what}: {error.found}", at=self.name))
            return results
        return made

    def _run(self, run: Run, given: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        made = run([_tensor(given[place]) for place in self.takes])
        return tuple(
            tensor if order == tuple(range(len(order))) else tensor.permute(_inverse(order))
            for tensor, order in zip(made, self.orders, strict=True)
        )

    def _compare(
        self,
        made: Sequence[torch.Tensor],
        wanted: Sequence[torch.Tensor],
        given: Sequence[Any],
    ) -> None:
        found = differing(made, wanted, lambda: self.eager.in_f32(*given), self.tolerance)
        if found is not None:
            raise CheckFailed(
                "HETC-V005",
                "a region computes something else than PyTorch",
                at=f"{self.name}, output {found[0]}",
                found=found[1],
                do="report this with the model: PyTorch runs the region",
            )


def _tensor(item: Any) -> torch.Tensor:
    import torch

    return item if isinstance(item, torch.Tensor) else torch.empty((int(item), 0), dtype=torch.bool)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
