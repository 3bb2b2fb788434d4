"""What every executor of regions is to the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op

if TYPE_CHECKING:
    import torch

Run = Callable[[Sequence["torch.Tensor"]], tuple["torch.Tensor", ...]]


class WholeCall(Protocol):
    """A function of the arguments of a captured graph; `calls` counts those that it ran itself."""

    calls: int

    def __call__(self, *given: Any) -> Any:
        """What the graph returns."""
        ...


@dataclass(frozen=True)
class WholeGraph:
    """A captured graph that was taken as a whole: what runs it, and the graph in the IR, whose
    symbols were `sizes` when it was captured."""

    call: WholeCall
    graph: Graph
    sizes: Mapping[str, int]


class Executor(Protocol):
    """One way to run a region on the tensors of PyTorch."""

    name: str

    def why_not(self, op: Op) -> Reason | None:
        """Why it cannot run `op`, None where it can."""
        ...

    def prepare(self, graph: Graph) -> Run:
        """A function of the tensors of the graph's inputs, in order; its results are new tensors.

        Raises HetcError where the graph cannot be prepared; so does the function where a call
        fails.
        """
        ...
