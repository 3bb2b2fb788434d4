"""Matrix products on tensor cores, with what stands before and behind them in a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetc.backends.triton.binding import bind
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import arch_number
from hetc.backends.triton.linear_work import GROUP_M, LinearWork, configs
from hetc.backends.triton.source import pointer, render
from hetc.bundle.launches import (
    MATRIX_ALIGNMENT,
    Argument,
    Extent,
    Launch,
    Matrix,
    Parameter,
    Size,
)

# Rows of a weight are columns of the product. Tensor cores leave so many of them in one register of
# four threads, and the next ones in another register of the same (PTX ISA, "wgmma", fragments).
TURN = 8
Activation = Literal[
    "", "silu", "gelu", "gelu_tanh", "quick_gelu", "sigmoid", "tanh", "relu", "relu_squared"
]


@dataclass(frozen=True)
class NormSpec:
    """An RMS norm: the row over its root mean square, times `weight + offset` where there is a
    weight; `weight` is its element, or nothing."""

    eps: float
    weight: str = ""
    offset: float = 0.0


@dataclass(frozen=True)
class Quantized:
    """A matrix [N, K] of small numbers, `(number - zero) * scale + shift` for `group` columns each.

    `stored` is the element; `i4` and `u4` lie two in a byte, the low half first, in u8 [N, K / 2].
    `scale`, `zero` and `shift` are elements of matrices [N, K / group], or nothing.
    """

    stored: Literal["i8", "u8", "i4", "u4", "f8e4m3"]
    group: int = 0
    scale: str = ""
    zero: str = ""
    shift: str = ""

    @property
    def packed(self) -> bool:
        """Whether a byte holds two numbers."""
        return self.stored in ("i4", "u4")


@dataclass(frozen=True)
class HeadsSpec:
    """The columns of a product are heads: `heads` of queries, then `groups` of keys and of values,
    each `width` columns.

    Queries and keys are normalised (`norm`, each with a weight of its own), then their first
    `rotary` columns are turned: in pairs (i, i + rotary/2), or (2i, 2i+1) if `interleaved`, by
    `cos` and `sin` [positions, rotary] of element `table`. With `equal_halves` the second half of a
    row of the tables is the first (of interleaved pairs, both columns are equal).
    """

    heads: int
    groups: int
    width: int
    norm: NormSpec | None = None
    rotary: int = 0
    interleaved: bool = False
    table: str = "f32"
    equal_halves: bool = False


@dataclass(frozen=True)
class LinearSpec:
    """`residual + activation((norm(x) @ weight^T + bias) * scale)`, accumulated in f32.

    x is [rows, k] of `element`, the weight [n, k], bias [n] of `element`; the result [rows, n] and
    the residual are of `out_element` (as `element` if nothing). `gated` has two weights and biases:
    `activation(x @ gate_weight^T) * (x @ up_weight^T)`. `softcap` c makes `c * tanh(y / c)`.
    `weight` is None for one of `element`. With `heads` there is no result: queries go to rows
    [rows, heads * width], keys and values to the layout of a state, in `out_element`.
    With `tma` the tensor memory accelerator copies tiles of x, all rows of a call, and of the
    weight. Those of a gate are one then, [2 n, k], in which both take turns, `TURN` rows each: an
    instruction of tensor cores multiplies twice as many columns, and reads x once for both.
    """

    element: str
    n: int
    k: int
    bias: bool = False
    residual: bool = False
    activation: Activation = ""
    gated: bool = False
    scale: float = 1.0
    softcap: float | None = None
    out_element: str = ""
    weight: Quantized | None = None
    norm: NormSpec | None = None
    heads: HeadsSpec | None = None
    tma: bool = False

    @property
    def symbol(self) -> str:
        """The name of the function, which says what is special of it."""
        kind = "heads" if self.heads else "gated_linear" if self.gated else "linear"
        return f"norm_{kind}" if self.norm else kind

    @property
    def columns(self) -> int:
        """What the grid divides: columns of the product, or pairs of them where a block of heads
        collects both from afar."""
        if self.heads and not self.tma:
            return self.n // 2
        return 2 * self.n if self.takes_turns else self.n

    @property
    def takes_turns(self) -> bool:
        """Whether one matrix has the rows of the gate and of what it multiplies."""
        return self.gated and self.tma


def supports(spec: LinearSpec, arch: str = "sm_90") -> str | None:
    """Why there is no kernel of `spec` on `arch`, as a sentence; None where there is one."""
    if spec.heads is not None:
        heads = spec.heads
        if spec.n != (heads.heads + 2 * heads.groups) * heads.width:
            return f"{spec.n} columns are not the heads of queries, keys and values"
        if heads.width % 2:
            return f"heads of an odd width, {heads.width}, have no pairs of columns"
        half = heads.width // 2
        if heads.norm is not None and (half & (half - 1) or half > 128):
            return f"norms of heads need a width that is a power of two up to 256, not {2 * half}"
        if spec.gated or spec.residual or spec.activation or spec.softcap is not None:
            return "heads take a bias and a norm only"
    if spec.tma and (reason := _needs_pointers(spec, arch)):
        return reason
    if spec.weight is not None:
        if spec.weight.stored == "f8e4m3" and arch_number(arch) < 89:
            return f"{arch} has no f8e4m3"
        if spec.weight.packed and spec.k % 2:
            return "two numbers of a byte are of two rows"
    return None


def takes_tma(spec: LinearSpec, arch: str) -> bool:
    """Whether TMA can copy the operands of `spec`, which says nothing of it yet."""
    return not _needs_pointers(spec, arch)


def _needs_pointers(spec: LinearSpec, arch: str) -> str:
    """Why TMA cannot copy the operands, as a sentence; empty if it can."""
    if arch_number(arch) < 90:
        return f"{arch} has no tensor memory accelerator"
    if spec.element == "f32" or spec.weight is not None or spec.norm is not None:
        return "operands that are changed before they are multiplied, or of 32 bits, are loaded"
    if spec.k * 2 % MATRIX_ALIGNMENT:
        return f"rows of {spec.k} columns begin where no tensor map can"
    if spec.gated and spec.n % TURN:
        return f"{spec.n} columns of a gate cannot take turns with those of its other half"
    heads = spec.heads
    if heads is not None:
        whole = heads.rotary in (0, heads.width)
        halved = heads.rotary * 2 == heads.width and not heads.interleaved
        if heads.width & (heads.width - 1) or not (whole or halved) or heads.width > 256:
            return f"pairs of {heads.rotary} columns of {heads.width} are no reshape of a tile"
    return ""


def parameters(spec: LinearSpec) -> tuple[Parameter, ...]:
    """What the kernel takes, in order."""
    out = spec.out_element or spec.element
    found = {"x": spec.element}
    if spec.norm is not None and spec.norm.weight:
        found["norm_weight"] = spec.norm.weight
    for name in _weights(spec):
        found |= _matrix(name, spec)
    for name in _biases(spec):
        found[name] = spec.element
    if spec.residual:
        found["residual"] = out
    if spec.heads is not None:
        found |= _heads(spec.heads, out)
    else:
        found["out"] = out
    matrices = _matrices(spec) if spec.tma else {}
    pointers = [
        Parameter(name=name, type=pointer(e), divisible=16, matrix=matrices.get(name))
        for name, e in found.items()
    ]
    return (*pointers, Parameter(name="rows", type="i32"))


def _matrices(spec: LinearSpec) -> dict[str, Matrix]:
    """What TMA copies, and in which tiles."""
    weight = Matrix(rows=str(spec.columns), columns=spec.k, tile=("BLOCK_N", "BLOCK_K"))
    x = Matrix(rows="rows", columns=spec.k, tile=("BLOCK_M", "BLOCK_K"))
    return {"x": x} | dict.fromkeys(_weights(spec), weight)


def _weights(spec: LinearSpec) -> tuple[str, ...]:
    return ("gate_weight", "up_weight") if spec.gated and not spec.tma else ("weight",)


def _biases(spec: LinearSpec) -> tuple[str, ...]:
    if not spec.bias:
        return ()
    return ("gate_bias", "up_bias") if spec.gated else ("bias",)


def _matrix(name: str, spec: LinearSpec) -> dict[str, str]:
    if spec.weight is None:
        return {name: spec.element}
    stored = "u8" if spec.weight.packed else spec.weight.stored
    numbers = {part: getattr(spec.weight, part) for part in ("scale", "zero", "shift")}
    return {name: stored} | {f"{name}_{part}": e for part, e in numbers.items() if e}


def _heads(heads: HeadsSpec, out: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if heads.norm is not None and heads.norm.weight:
        found |= {"query_norm": heads.norm.weight}
        found |= {"key_norm": heads.norm.weight} if heads.groups else {}
    if heads.rotary:
        found |= {"cos": heads.table, "sin": heads.table}
    if heads.rotary or heads.groups:
        found["positions"] = "i32"
    found["query"] = out
    if heads.groups:
        found |= {"sequences": "i32", "starts": "i32", "key": out, "value": out}
    return found


def kernel(spec: LinearSpec) -> Kernel:
    """The kernel of `launch`. `spec` must be one that `supports` has nothing against."""
    taken = parameters(spec)
    space = configs(spec)
    source = render(
        "linear.py.j2",
        spec=spec,
        turn=TURN,
        heads=spec.heads,
        quantized=spec.weight,
        norm=spec.norm,
        parameters=[parameter.name for parameter in taken],
        weights=_weights(spec),
        biases=_biases(spec),
        # Where every tile divides, nothing is masked.
        whole_k=all(spec.k % config.constants["BLOCK_K"] == 0 for config in space),
        whole_n=all(spec.columns % config.constants["BLOCK_N"] == 0 for config in space),
        one_group=spec.weight is not None
        and bool(spec.weight.group)
        and all(spec.weight.group % config.constants["BLOCK_K"] == 0 for config in space),
    )
    return Kernel(
        symbol=spec.symbol,
        source=source,
        parameters=taken,
        configs=space,
        work=LinearWork(spec),
        constants={"GROUP_M": GROUP_M},
    )


def launch(
    spec: LinearSpec,
    kernel_id: str,
    *,
    rows: Size = "M",
    ops: tuple[str, ...] = (),
    **operands: Argument,
) -> Launch:
    """Bind what `parameters` names, but `rows`, a product such as `M` or `B`."""
    weight_rows = 2 * spec.n if spec.gated else spec.n
    return bind(
        kernel_id,
        parameters(spec),
        operands,
        sizes={"rows": rows},
        grid=((Extent(size=rows, by="BLOCK_M"), Extent(size=str(spec.columns), by="BLOCK_N")),),
        outputs=("out", "query", "key", "value"),
        ops=ops,
        flops=f"{2 * weight_rows * spec.k}*{rows}",
    )
