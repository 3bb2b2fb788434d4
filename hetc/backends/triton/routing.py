"""The choice of experts: the best k of each token, and the slots put in order of their experts.

Slot `token * k + i` is the i-th expert of a token. All of it is deterministic: nothing hangs on the
order in which blocks run.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.triton.kernel import Kernel
from hetc.bundle.launches import Argument, Launch, Size


@dataclass(frozen=True)
class TopKSpec:
    """The `k` largest of scores `element` [rows, experts], largest first: the IR's `topk`.

    Ties go to the lower index, NaN is the largest.
    """

    element: str
    experts: int
    k: int


@dataclass(frozen=True)
class SortSpec:
    """Of expert ids i32 [rows, k], the slots in order of their experts: `order` i32.

    The slots of an expert begin at a multiple of `block`; what is left of its last block, and
    everything behind the last expert, holds the number of slots, rows * k. `expert_of_block` i32
    says whose a block is. No buffer needs to be zeroed.
    """

    experts: int
    k: int
    block: int = 128

    def order_size(self, rows: Size) -> Size:
        """Elements of `order`, of `rows` (a product, such as `M`) tokens."""
        return f"{self.k}*{rows}+{self.experts * self.block}"

    def blocks_size(self, rows: Size) -> Size:
        """Elements of `expert_of_block`: no more blocks than slots and experts."""
        return f"{self.k}*{rows}+{self.experts}"

    def counts_size(self, rows: Size) -> Size:
        """Elements of `counts` i32, which the launches use between them."""
        return f"{self.experts}*{rows}"


def top_k_kernel(spec: TopKSpec) -> Kernel:
    """The kernel of `top_k_launch`."""
    raise NotImplementedError


def top_k_launch(
    spec: TopKSpec,
    kernel_id: str,
    *,
    scores: Argument,
    ids: Argument,
    values: Argument,
    rows: Size,
    ops: tuple[str, ...] = (),
) -> Launch:
    """`scores` [rows, experts] give `ids` i32 [rows, k] and `values` `element` [rows, k]."""
    raise NotImplementedError


def sort_kernels(spec: SortSpec) -> tuple[Kernel, Kernel, Kernel]:
    """The kernels of `sort_launches`: they count, add up, and place."""
    raise NotImplementedError


def sort_launches(
    spec: SortSpec,
    kernel_ids: tuple[str, str, str],
    *,
    ids: Argument,
    order: Argument,
    expert_of_block: Argument,
    counts: Argument,
    rows: Size,
    ops: tuple[str, ...] = (),
) -> tuple[Launch, Launch, Launch]:
    """`ids` i32 [rows, k] give `order` and `expert_of_block`, of the sizes that `spec` says."""
    raise NotImplementedError
