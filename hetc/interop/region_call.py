"""One region as PyTorch calls it: sizes and tensors in, tensors in the expected layout out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import CheckFailed, HetcError, Reason
from hetc.interop.runner import Run

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class RegionCall:
    """Runs a region on its executor, and with PyTorch from then on where a call fails.

    `takes` says which of the arguments the graph's inputs are; an argument that is a number stands
    for a size and becomes an empty tensor of that length. `orders` are the axes of the outputs as
    they lie in memory. The first call runs both ways and compares: results may be apart by
    `tolerance`, a part of the largest of them. Under `strict` a failure is raised, else `tell` gets
    its reason.
    """

    name: str
    run: Run | None
    eager: Callable[..., Any]
    takes: Sequence[int]
    orders: Sequence[tuple[int, ...]]
    tolerance: float
    strict: bool
    tell: Callable[[Reason], None]
    calls: int = field(default=0)

    def __post_init__(self) -> None:
        # torch.fx writes calls of it by this name.
        self.__name__ = self.name

    def __call__(self, *given: Any) -> tuple[torch.Tensor, ...]:
        self.calls += 1
        if self.run is None:
            return self._eager(given)
        try:
            made = self._run(self.run, given)
            if self.calls == 1:
                self._compare(made, self._eager(given))
        except HetcError as error:
            if self.strict:
                raise
            # Where PyTorch fails as well, its error is the user's, and the region stays.
            results = self._eager(given)
            self.run = None
            self.tell(Reason(error.code, f"{error.what}: {error.found}", at=self.name))
            return results
        return made

    def _eager(self, given: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        results: tuple[torch.Tensor, ...] = self.eager(*given)
        return results

    def _run(self, run: Run, given: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        made = run([_tensor(given[place]) for place in self.takes])
        return tuple(
            tensor if order == tuple(range(len(order))) else tensor.permute(_inverse(order))
            for tensor, order in zip(made, self.orders, strict=True)
        )

    def _compare(self, made: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
        for index, (ours, theirs) in enumerate(zip(made, wanted, strict=True)):
            found = difference(ours, theirs, self.tolerance)
            if found:
                raise CheckFailed(
                    "HETC-V005",
                    "a region computes something else than PyTorch",
                    at=f"{self.name}, output {index}",
                    found=found,
                    do="report this with the model: PyTorch runs the region",
                )


def difference(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> str:
    """In what two tensors differ beyond rounding; empty where they do not."""
    import torch

    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
    if not ours.dtype.is_floating_point or not ours.numel():
        return "" if torch.equal(ours, theirs) else "other whole numbers"
    finite = theirs[theirs.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    if torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        return ""
    return f"a difference of {float((ours - theirs).abs().max()):.1e} on values up to {scale:.1e}"


def _tensor(item: Any) -> torch.Tensor:
    import torch

    return item if isinstance(item, torch.Tensor) else torch.empty((int(item), 0), dtype=torch.bool)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
