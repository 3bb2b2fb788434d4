"""Attention of packed prompts to themselves, in one pass over the keys (Dao 2023,
"FlashAttention-2", algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.triton.attention_work import AttentionWork, configs
from hetc.backends.triton.binding import bind
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import arch_number
from hetc.backends.triton.source import pointer, render
from hetc.bundle.launches import Argument, Extent, Launch, Matrix, Parameter, Size

SYMBOL = "attention"


@dataclass(frozen=True)
class AttentionSpec:
    """The IR's `attention` of each sequence to its own keys, which begin with the sequence.

    Queries are rows [M, heads * width]; keys and values lie in the layout of a state, [groups,
    length, width] and [groups, length, value_width] of each sequence; the result is rows [M, heads
    * value_width]. `sinks` and `slopes` are [heads] of `head_element`. What a query does not see
    has no weight; one that sees nothing gives zeros. With `tma` the tensor memory accelerator
    copies tiles of keys that all queries of a block see: others reach into the next sequence, whose
    values may be infinite, and a weight of 0 does not hide that.
    """

    element: str
    heads: int
    groups: int
    width: int
    value_width: int
    scale: float
    causal: bool = True
    window: int | None = None
    chunk: int | None = None
    softcap: float | None = None
    sinks: bool = False
    slopes: bool = False
    head_element: str = "f32"
    tma: bool = False


def takes_tma(spec: AttentionSpec, arch: str) -> bool:
    """Whether TMA can copy keys and values of `spec`, which says nothing of it yet."""
    whole = all(pieces(width) == (Piece(0, width, width),) for width in _widths(spec))
    return arch_number(arch) >= 90 and spec.element != "f32" and whole


def _widths(spec: AttentionSpec) -> tuple[int, int]:
    return spec.width, spec.value_width


def supports(spec: AttentionSpec) -> str | None:
    """Why there is no kernel of `spec`, as a sentence; None where there is one."""
    if spec.scale <= 0:
        return f"the largest score is looked for before the scale, {spec.scale}, which turns it"
    if max(spec.width, spec.value_width) > 256:
        return f"heads of {max(spec.width, spec.value_width)} columns do not fit in registers"
    return None


@dataclass(frozen=True)
class Piece:
    """Columns of a head that are one operand of tensor cores: `size`, a power of two, from
    `start` on, of which `used` exist."""

    start: int
    size: int
    used: int


def pieces(width: int) -> tuple[Piece, ...]:
    """`width` columns as one or two pieces: 96 are 64 and 32, and not 128."""
    largest = max(16, 1 << (width.bit_length() - 1))
    if largest >= width:
        return (Piece(0, largest, width),)
    rest = max(16, 1 << (width - largest - 1).bit_length())
    if largest + rest >= 2 * largest:
        return (Piece(0, 2 * largest, width),)
    return (Piece(0, largest, largest), Piece(largest, rest, width - largest))


def parameters(spec: AttentionSpec) -> tuple[Parameter, ...]:
    """What the kernel takes, in order."""
    found = {"query": spec.element, "key": spec.element, "value": spec.element}
    if spec.sinks:
        found["sinks"] = spec.head_element
    if spec.slopes:
        found["slopes"] = spec.head_element
    found |= {"starts": "i32", "out": spec.element}
    matrices: dict[str, Matrix] = {}
    if spec.tma:
        # The same memory once more.
        found |= {"key_map": spec.element, "value_map": spec.element}
        rows = f"{spec.groups}*M"
        matrices = {
            name: Matrix(rows=rows, columns=width, tile=("BLOCK_N", width))
            for name, width in zip(("key_map", "value_map"), _widths(spec), strict=True)
        }
    return tuple(
        Parameter(name=name, type=pointer(e), divisible=16, matrix=matrices.get(name))
        for name, e in found.items()
    )


def kernel(spec: AttentionSpec) -> Kernel:
    """The kernel of `launch`. `spec` must be one that `supports` has nothing against."""
    taken = parameters(spec)
    source = render(
        "attention.py.j2",
        spec=spec,
        symbol=SYMBOL,
        parameters=[parameter.name for parameter in taken],
        key_pieces=pieces(spec.width),
        value_pieces=pieces(spec.value_width),
    )
    return Kernel(
        symbol=SYMBOL,
        source=source,
        parameters=taken,
        configs=configs(spec),
        work=AttentionWork(spec),
    )


def launch(
    spec: AttentionSpec,
    kernel_id: str,
    *,
    longest: Size = "S",
    sequences: Size = "B",
    ops: tuple[str, ...] = (),
    **operands: Argument,
) -> Launch:
    """Bind what `parameters` names. A grid of heads, tiles of `longest` rows, and `sequences`."""
    pairs = 1 if spec.causal else 2
    if spec.tma:
        operands |= {"key_map": operands["key"], "value_map": operands["value"]}
    return bind(
        kernel_id,
        parameters(spec),
        operands,
        sizes={},
        grid=(
            (Extent(size=str(spec.heads)),),
            (Extent(size=longest, by="BLOCK_M"),),
            (Extent(size=sequences),),
        ),
        outputs=("out",),
        ops=ops,
        flops=f"{pairs * spec.heads * (spec.width + spec.value_width)}*M*{longest}",
    )
