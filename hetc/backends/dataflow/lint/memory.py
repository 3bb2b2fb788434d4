"""The memory map: every weight and state in memory, whole, once, and nothing on top of it.

Weights and states are needed every token and no step of a program brings them back, so that in HBM
and DDR they may never share bytes. In SRAM they may where their blocks are not on the chip at one
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.schema import Allocation, Block
from hetc.ir.dims import Dim, capped_rows, evaluate
from hetc.ir.types import TensorType


@rule(
    "HETC-L250",
    "allocations lie inside their tier, on whole words of a memory port",
    "move the allocation, or put tensors into another tier",
)
def inside(facts: Facts) -> Faults:
    tiers = {memory.name: int(memory.bytes.value) for memory in facts.target.device.memories}
    word = int(facts.grid.port_bytes_per_cycle.value)
    used = dict.fromkeys(tiers, 0)
    for item in facts.plan.memory:
        place = f"allocation of {item.tensor}"
        end = item.offset + (item.count - 1) * item.stride + item.bytes
        bound = tiers.get(item.tier, 0)
        used[item.tier] = max(used.get(item.tier, 0), end)
        if end > bound:
            text = f"{item.tensor} of {item.block} ends at byte {number(end)} of {item.tier}"
            text += f", which has {number(bound)}: short by {number(end - bound)}"
            yield Fault(place, text, end, bound)
        for field, value in (("offset", item.offset), ("stride", item.stride)):
            if value % word:
                text = f"the {field} of {item.tensor}, {number(value)}, is no multiple of {word}"
                yield Fault(place, text)
    return ", ".join(f"{tier} up to {number(end)}" for tier, end in used.items() if end)


@rule(
    "HETC-L251",
    "allocations do not overlap, in any iteration",
    "move one of them, or raise the stride to the bytes of all that an iteration holds",
)
def apart(facts: Facts) -> Faults:
    blamed = set()
    count = 0
    for pieces in _epochs(facts):
        count += len(pieces)
        furthest: _Piece | None = None
        for piece in sorted(pieces, key=lambda item: (item.start, item.end)):
            if furthest is not None and piece.start < furthest.end:
                pair = id(furthest.item), id(piece.item)
                if pair not in blamed:
                    blamed.add(pair)
                    text = f"{furthest} and {piece} overlap in {piece.item.tier}"
                    text += f", from byte {number(piece.start)} to {number(furthest.end)}"
                    place = f"allocation of {piece.item.tensor}"
                    yield Fault(place, text, furthest.end, piece.start)
            if furthest is None or piece.end > furthest.end:
                furthest = piece
    return f"{count} pieces of memory"


@dataclass(frozen=True)
class _Piece:
    """What one iteration of an allocation holds: bytes `start` to `end` of a tier."""

    item: Allocation
    iteration: int
    start: int
    end: int

    def __str__(self) -> str:
        turn = f" of iteration {self.iteration}" if self.item.count > 1 else ""
        return f"{self.item.tensor}{turn} of {self.item.block}"


def _epochs(facts: Facts) -> Iterator[list[_Piece]]:
    """What is in memory at one time: all of a tier, and of SRAM what is live with each block."""
    for tier in dict.fromkeys(item.tier for item in facts.plan.memory):
        items = [item for item in facts.plan.memory if item.tier == tier]
        if tier != "sram":
            yield list(_pieces(items))
            continue
        order = facts.block_order
        for here in order.values():
            live = [item for item in items if order[item.live[0]] <= here <= order[item.live[1]]]
            yield list(_pieces(live))


def _pieces(items: Iterable[Allocation]) -> Iterator[_Piece]:
    for item in items:
        # Stride 0: one place that all iterations share.
        for iteration in range(item.count if item.stride else 1):
            start = item.offset + iteration * item.stride
            if item.bytes:
                yield _Piece(item, iteration, start, start + item.bytes)


@rule(
    "HETC-L252",
    "an allocation has a place for every iteration, and is live where its block is",
    "let count be the block's repeat, and live span all blocks that use the tensor",
)
def iterations(facts: Facts) -> Faults:
    order = facts.block_order
    for item in facts.plan.memory:
        place = f"allocation of {item.tensor}"
        repeat = facts.blocks[item.block].repeat
        if item.count != repeat:
            text = f"{item.tensor} has {item.count} places, {item.block} has {repeat} iterations"
            yield Fault(place, text, item.count, repeat)
        first, last = (order[name] for name in item.live)
        if not first <= order[item.block] <= last:
            text = f"{item.tensor} of {item.block} is live from {item.live[0]} to {item.live[1]}"
            yield Fault(place, text)
    return f"{len(facts.plan.memory)} allocations"


@dataclass(frozen=True)
class _Layout:
    """A tensor as stored: rows, and bytes of one row."""

    rows: int
    row_bytes: int


def _layout(facts: Facts, block: Block, tensor: str, type: TensorType, use: str) -> _Layout:
    """A tensor is cut in rows along its first axis, a matrix along N of the product that reads it;
    of a state, rows of all sequences at the full context."""
    bindings = facts.plan.bindings
    sizes = {"B": bindings.batch, "T": 1, "P": bindings.context}
    total = evaluate(type.nbytes, sizes)
    grown = [dim for dim in type.shape if isinstance(dim, Dim) and _grows(dim)]
    if grown:
        rows = bindings.batch * math.prod(evaluate(dim, sizes) for dim in grown)
    else:
        outputs = facts.work.product_rows(block, tensor) if use == "matrix" else None
        first = type.shape[0] if type.shape else 1
        rows = evaluate(first if outputs is None else outputs, sizes)
    return _Layout(rows, total // rows if rows else 0)


def _grows(dim: Dim) -> bool:
    return any(name == "P" or capped_rows(name) is not None for name in dim.symbols)


@rule(
    "HETC-L253",
    "an allocation has the bytes of its rows",
    "state rows times the bytes of a row of the tensor that the socket holds",
)
def row_bytes(facts: Facts) -> Faults:
    for item in facts.plan.memory:
        type = facts.work.tensor_type(facts.blocks[item.block], item.tensor)
        assert type is not None
        first, last = item.rows
        layout = _layout(facts, facts.blocks[item.block], item.tensor, type, item.use)
        wanted = max(0, last - first) * layout.row_bytes
        if item.bytes != wanted:
            text = f"{number(last - first)} rows of {item.tensor} take {number(wanted)} bytes"
            text += f", its allocation has {number(item.bytes)}"
            yield Fault(f"allocation of {item.tensor}", text, item.bytes, wanted)
    return f"{number(sum(item.bytes * item.count for item in facts.plan.memory))} bytes"


@rule(
    "HETC-L254",
    "every row of every weight and state is in memory once for each use",
    "allocate the rows of the tensor once, end to end; of a state, batch times context rows",
)
def rows_once(facts: Facts) -> Faults:
    total = 0
    for block in facts.plan.blocks:
        for name, root in facts.work.tensors(block).items():
            uses: dict[str, list[tuple[int, int]]] = {}
            for item in _allocations(facts, block, name):
                uses.setdefault(item.use, []).append(item.rows)
            for use, found in uses.items() or [("", [])]:
                rows = _layout(facts, block, name, root.type, use).rows
                total += rows
                if _end_to_end(sorted(found), rows):
                    continue
                told = ", ".join(f"{first} to {last}" for first, last in sorted(found)) or "none"
                text = f"{name} of {block.id} has rows 0 to {number(rows)}, in memory are {told}"
                yield Fault(f"allocation of {name}", text)
    return f"{number(total)} rows"


def _end_to_end(found: list[tuple[int, int]], rows: int) -> bool:
    at = 0
    for first, last in found:
        if first != at or last <= first:
            return False
        at = last
    return at == rows


def _allocations(facts: Facts, block: Block, name: str) -> list[Allocation]:
    """Where a tensor of a block lies. A weight of the main graph may lie with another block that
    uses it alike: one that is both table and matrix is stored for each."""
    found = [item for item in facts.plan.memory if (item.block, item.tensor) == (block.id, name)]
    if found or not facts.work.is_main(block):
        return found
    table = any(name in s.tensors and s.kind == "lookup" for s in block.streams)
    order, here = facts.block_order, facts.block_order[block.id]
    return [
        item
        for item in facts.plan.memory
        if item.tensor == name
        and (item.use == "table") == table
        and facts.work.is_main(facts.blocks[item.block])
        and order[item.live[0]] <= here <= order[item.live[1]]
    ]


@rule(
    "HETC-L255",
    "iterations with tensors of their own have places of their own",
    "raise the stride, or let all calls take one tensor",
)
def strides(facts: Facts) -> Faults:
    for block in facts.plan.blocks:
        tensors = facts.work.tensors(block)
        own = [item for item in facts.plan.memory if item.block == block.id]
        for item in own:
            if item.tensor not in tensors:
                continue
            passed = facts.work.stored(block, tensors[item.tensor])
            if len(set(passed)) > 1 and item.stride < item.bytes:
                text = f"{item.tensor} has {len(set(passed))} tensors of {number(item.bytes)} bytes"
                text += f" at a stride of {number(item.stride)}"
                yield Fault(f"allocation of {item.tensor}", text, item.stride, item.bytes)
    return f"{sum(item.count > 1 for item in facts.plan.memory)} strides"
