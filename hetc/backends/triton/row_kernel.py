"""A row program as a Triton kernel.

A block of a launch does some rows. Where nothing is summed along them, it does a part of their
columns, so that wide rows are many blocks; where something is, a row is held whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from hetc.backends.triton.binding import bind
from hetc.backends.triton.kernel import Kernel, Tile
from hetc.backends.triton.row_program import (
    Apply,
    At,
    Below,
    Expression,
    Reduce,
    Rounded,
    RowProgram,
)
from hetc.backends.triton.row_source import RowSource, row_source
from hetc.backends.triton.source import pointer, render
from hetc.bundle.launches import (
    Argument,
    BufferRef,
    Config,
    Extent,
    Launch,
    Parameter,
    StateRef,
)
from hetc.errors import BackendError
from hetc.ir.types import DTYPES

# With 32 warps, 64 numbers a thread of each tile.
_WIDEST_REDUCED = 65536


def kernel(program: RowProgram, symbol: str = "rows") -> Kernel:
    """The kernel of `launch`, whose function is called `symbol`.

    Raises InternalError (HETC-Z030) for a program that means nothing, BackendError (HETC-E069)
    where a row that is summed along is too wide.
    """
    width, whole = _width(program)
    source = row_source(program, exact=program.columns % width == 0)
    text = render(
        "row_kernel.py.j2",
        title=f"Rows of {program.columns} columns, {program.inner} for each of the {program.over}.",
        symbol=symbol,
        parameters=[parameter.name for parameter in _parameters(source)],
        functions=source.functions,
        lines=source.lines,
        tiled=not whole,
    )
    return Kernel(
        symbol=symbol,
        source=text,
        parameters=_parameters(source),
        configs=tuple(_configs(width)),
        work=_work(program, width, whole=whole),
        constants={"BLOCK_COLUMNS": width},
    )


def launch(
    program: RowProgram,
    kernel_id: str,
    operands: Mapping[str, Argument],
    ops: tuple[str, ...] = (),
) -> Launch:
    """Bind `operands` by the names of the accesses (and of their `index`); what the caller gives
    (positions, sequences, starts) is bound where the program needs it."""
    width, _ = _width(program)
    source = row_source(program, exact=program.columns % width == 0)
    counted = "B" if program.over == "sequences" else "M"
    rows = f"{program.inner}*{counted}" if program.inner > 1 else counted
    columns = Extent(size=str(program.columns), by=width)
    bound = bind(
        kernel_id,
        _parameters(source),
        operands,
        sizes={"rows": counted, "longest": "S"},
        grid=((Extent(size=rows, by="BLOCK_ROWS"),), (columns,)),
        outputs=tuple(store.access.name for store in program.stores),
        ops=ops,
        flops=f"{len(source.lines) * program.columns * program.inner}*{counted}",
    )
    loaded = {access.name for access in program.accesses[: -len(program.stores)]}
    in_place = {store.access.name for store in program.stores} & loaded
    also_read = {
        place.name
        for name, place in operands.items()
        if name in in_place and isinstance(place, BufferRef | StateRef)
    }
    return replace(bound, reads=(*bound.reads, *sorted(also_read)))


def _parameters(source: RowSource) -> tuple[Parameter, ...]:
    # What is picked by an index is read by single numbers, which need no alignment.
    operands = [
        Parameter(name=name, type=pointer(element), divisible=1 if name in source.indices else 16)
        for name, element in source.operands
    ]
    inputs = [Parameter(name=name, type=pointer("i32")) for name in source.inputs]
    sizes = ["rows", "longest"] if source.takes_longest else ["rows"]
    return (*operands, *inputs, *(Parameter(name=name, type="i32") for name in sizes))


@dataclass(frozen=True)
class RowWork:
    """The work of a row kernel: it reads and writes; nothing runs on tensor cores.

    Of every token (or sequence) there are `inner` rows, of `parts` blocks of `width` columns each;
    `whole` rows are one. A block moves `row_bytes` for each of its rows, and `block_bytes` once.
    """

    element: str
    inner: int
    parts: int
    width: int
    over_tokens: bool
    row_bytes: float
    block_bytes: float
    whole: bool

    def tile(self, config: Config, rows: int) -> Tile:
        """One block: every operand once, and what all rows share once for the block."""
        block = config.constants["BLOCK_ROWS"]
        return Tile(
            flops=0.0,
            bytes=block * self.row_bytes + self.block_bytes,
            shared_bytes=4 * block * config.warps if self.whole else 0,
            # A tile that is summed, and one that is read at the same time.
            accumulators=2 * block * self.width // (32 * config.warps),
        )

    def blocks(self, config: Config, rows: int) -> int:
        """Blocks for `rows` tokens; of a launch over sequences, of one sequence."""
        counted = rows if self.over_tokens else 1
        return -(-counted * self.inner // config.constants["BLOCK_ROWS"]) * self.parts


def _work(program: RowProgram, width: int, *, whole: bool) -> RowWork:
    moved = {True: 0.0, False: 0.0}
    for access in program.accesses:
        shared = access.place == "none" and not access.inner
        numbers = min(width, program.columns) if access.step else 1
        moved[shared] += numbers * DTYPES[access.element].bits / 8
    return RowWork(
        element=program.stores[0].access.element,
        inner=program.inner,
        parts=-(-program.columns // width),
        width=width,
        over_tokens=program.over == "tokens",
        row_bytes=moved[False],
        block_bytes=moved[True],
        whole=whole,
    )


def _width(program: RowProgram) -> tuple[int, bool]:
    """Columns of a block, and whether those are whole rows."""
    columns = max(program.columns, 1)
    whole = 1 << (columns - 1).bit_length()
    # One number for a row is stored by one block.
    if _reduces(program) or any(not store.access.step for store in program.stores):
        if whole > _WIDEST_REDUCED:
            raise BackendError(
                "HETC-E069",
                "a row is too wide to be summed by one block",
                expected=f"at most {_WIDEST_REDUCED} columns",
                found=columns,
            )
        return whole, True
    # The least columns that do not exist; 64 are a whole line of a cache in 16 bits.
    widths = [width for width in (1024, 512, 256, 128, 64) if width <= whole] or [whole]
    return min(widths, key=lambda width: -(-columns // width) * width), False


def _configs(width: int) -> list[Config]:
    """8 to 32 numbers a thread, of blocks of 1,024 to 8,192."""
    found = {}
    for numbers in (4096, 1024, 8192):
        rows = max(numbers // width, 1)
        for each in (16, 8, 32):
            warps = min(max(rows * width // (32 * each), 1), 32)
            found[rows, warps] = Config(constants={"BLOCK_ROWS": rows}, warps=warps, stages=1)
    return list(found.values())


def _reduces(program: RowProgram) -> bool:
    """Whether something is summed, or compared, along a row."""
    seen: set[int] = set()

    def search(expression: Expression) -> bool:
        if id(expression) in seen:
            return False
        seen.add(id(expression))
        match expression:
            case Reduce():
                return True
            case Apply(_, arguments):
                return any(search(argument) for argument in arguments)
            case At(argument) | Rounded(argument):
                return search(argument)
            case Below(_, then, otherwise):
                return search(then) or search(otherwise)
            case _:
                return False

    return any(search(store.value) for store in program.stores)
