"""The choice of experts: the best k of each token, and the slots put in order of their experts.

Slot `token * k + i` is the i-th expert of a token. All of it is deterministic: nothing hangs on the
order in which blocks run. Slots are ordered in chunks: one launch counts the slots of each chunk
and expert, the next adds up, the third puts every slot in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from msgspec.structs import replace

from hetc.backends.triton.binding import bind
from hetc.backends.triton.kernel import Kernel, Tile
from hetc.backends.triton.source import pointer, render
from hetc.bundle.launches import Argument, BufferRef, Config, Extent, Launch, Parameter, Size
from hetc.ir.types import DTYPES

# Numbers of a tile [slots or chunks, experts].
_TILE = 4096
# Below all keys of scores.
_TAKEN = -(2**63) + 1


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
    """Of expert ids i32 [rows, k], the slots in order of their experts: `order` i32 [rows * k].

    `ends` i32 [experts] says where the slots of each end. No buffer needs to be zeroed. A block of
    a launch does `chunk` slots.
    """

    experts: int
    k: int
    chunk: int = 1024

    def order_size(self, rows: Size) -> Size:
        """Elements of `order`, of `rows` (a product, such as `M`) tokens."""
        return f"{self.k}*{rows}"

    def counts_size(self, rows: Size) -> Size:
        """Elements of `counts` i32, which the launches use between them: no more chunks than
        tokens."""
        return f"{self.experts}*{rows}"


@dataclass(frozen=True)
class RoutingWork:
    """Blocks that read `bytes_of_row` of `rows_of_block` rows each, or of as many as the
    configuration says; of any number of rows, it is one block."""

    element: str
    bytes_of_row: float
    rows_of_block: float | None = None

    def tile(self, config: Config, rows: int) -> Tile:
        """One block: it reads, and what it writes is little."""
        read = min(rows, self._rows(config)) * self.bytes_of_row
        return Tile(flops=0.0, bytes=read, shared_bytes=0, accumulators=_TILE // 128)

    def blocks(self, config: Config, rows: int) -> int:
        """Blocks for `rows` tokens."""
        return int(-(-rows // self._rows(config)))

    def _rows(self, config: Config) -> float:
        return self.rows_of_block or config.constants["BLOCK_ROWS"]


def top_k_kernel(spec: TopKSpec) -> Kernel:
    """The kernel of `top_k_launch`."""
    experts = _power(spec.experts)
    source = render("top_k.py.j2", spec=spec, experts=experts, k=_power(spec.k), taken=_TAKEN)
    warps = {max(numbers // experts, 1): numbers // 512 for numbers in (4096, 1024, 2048, 512)}
    return Kernel(
        symbol="top_k",
        source=source,
        parameters=_top_k_parameters(spec),
        configs=tuple(
            Config(constants={"BLOCK_ROWS": block}, warps=count, stages=1)
            for block, count in warps.items()
        ),
        work=RoutingWork(spec.element, spec.experts * DTYPES[spec.element].bits / 8),
    )


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
    return bind(
        kernel_id,
        _top_k_parameters(spec),
        {"scores": scores, "ids": ids, "values": values},
        sizes={"rows": rows},
        grid=((Extent(size=rows, by="BLOCK_ROWS"),),),
        outputs=("ids", "values"),
        ops=ops,
        flops="0",
    )


def sort_kernels(spec: SortSpec) -> tuple[Kernel, Kernel, Kernel]:
    """The kernels of `sort_launches`: they count, add up, and place."""
    experts = _power(spec.experts)
    tile = min(max(_TILE // experts, 16), spec.chunk)
    per_chunk = RoutingWork("i32", 4.0 * spec.k, spec.chunk / spec.k)
    alone = RoutingWork("i32", 4.0 * spec.experts * spec.k / spec.chunk, inf)
    numbers = {"experts": experts, "tile": tile}

    def made(symbol: str, work: RoutingWork) -> Kernel:
        return Kernel(
            symbol=symbol,
            source=render(f"{symbol}.py.j2", spec=spec, **numbers),
            parameters=_sort_parameters(symbol),
            configs=tuple(Config(constants={}, warps=warps, stages=1) for warps in (4, 8)),
            work=work,
        )

    return (
        made("count_experts", per_chunk),
        made("place_experts", alone),
        made("order_slots", per_chunk),
    )


def sort_launches(
    spec: SortSpec,
    kernel_ids: tuple[str, str, str],
    *,
    ids: Argument,
    order: Argument,
    ends: Argument,
    counts: BufferRef,
    rows: Size,
    ops: tuple[str, ...] = (),
) -> tuple[Launch, Launch, Launch]:
    """`ids` i32 [rows, k] give `order` and `ends`; `counts` is used between the launches."""
    given: dict[str, Argument] = {"ids": ids, "order": order, "ends": ends, "counts": counts}
    chunks = (Extent(size=f"{spec.k}*{rows}", by=spec.chunk),)

    def made(symbol: str, kernel_id: str, grid: tuple[Extent, ...], outputs: list[str]) -> Launch:
        return bind(
            kernel_id,
            _sort_parameters(symbol),
            {name: given[name] for name in _SORT_POINTERS[symbol]},
            sizes={"rows": rows},
            grid=(grid,),
            outputs=tuple(outputs),
            ops=ops,
            flops="0",
        )

    place = made("place_experts", kernel_ids[1], (), ["counts", "ends"])
    return (
        made("count_experts", kernel_ids[0], chunks, ["counts"]),
        # The counts become the places that slots begin at.
        replace(place, reads=(counts.name,)),
        made("order_slots", kernel_ids[2], chunks, ["order"]),
    )


_SORT_POINTERS = {
    "count_experts": ("ids", "counts"),
    "place_experts": ("counts", "ends"),
    "order_slots": ("ids", "counts", "order"),
}


def _top_k_parameters(spec: TopKSpec) -> tuple[Parameter, ...]:
    elements = {"scores": spec.element, "ids": "i32", "values": spec.element}
    return (
        *(Parameter(name=name, type=pointer(x), divisible=16) for name, x in elements.items()),
        Parameter(name="rows", type="i32"),
    )


def _sort_parameters(symbol: str) -> tuple[Parameter, ...]:
    pointers = (
        Parameter(name=name, type=pointer("i32"), divisible=16) for name in _SORT_POINTERS[symbol]
    )
    return (*pointers, Parameter(name="rows", type="i32"))


def _power(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << (number - 1).bit_length()
