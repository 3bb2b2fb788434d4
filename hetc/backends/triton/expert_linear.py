"""Each row times the matrix of its expert, as one grouped product over slots in expert order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetc.backends.triton.binding import bind
from hetc.backends.triton.kernel import Kernel, Tile
from hetc.backends.triton.linear import Activation, Quantized
from hetc.backends.triton.source import pointer, render
from hetc.bundle.launches import Argument, Config, Extent, Launch, Parameter, Size
from hetc.ir.types import DTYPES

# Rows, columns (of gate and up together) and warps of a tile: 16 rows where experts have few.
_TILES = (
    (64, 128, 4), (16, 64, 4), (16, 128, 4), (16, 256, 4), (32, 64, 4), (32, 128, 4),
    (32, 256, 4), (64, 64, 4), (64, 256, 4), (64, 256, 8), (128, 128, 4), (128, 128, 8),
    (128, 256, 8),
)  # fmt: skip
_STAGES = (3, 4)
_SLOTS_OF_AN_EXPERT = 8
# What a block of sm_90 and later can have; older ones have less, which is checked after compiling.
_SHARED_BYTES = 227 * 1024


@dataclass(frozen=True)
class ExpertLinearSpec:
    """`x[row of slot] @ weight[expert]^T + bias[expert]` for every slot; accumulates in f32.

    Slots lie in `order` as `SortSpec(experts, per_token)` puts them. x is [rows, k], one row
    for `per_token` slots, or with `x_of` "slots" [rows * per_token, k]. The weight is [experts, n,
    k], or `transposed` [experts, k, n]; bias [experts, n]. The result is [rows * per_token, n], a
    row for each slot, after the `activation`.

    Gated, gate and up are the halves of n, or interleaved, gate first, and the result is
    `activation(gate) * (up + up_offset)`, half as wide; with a `limit`, gate is at most that, and
    up no further from 0.

    `quantized` matrices, not transposed, are those of `LinearSpec` with [experts] in front.
    """

    element: str
    experts: int
    n: int
    k: int
    per_token: int
    x_of: Literal["tokens", "slots"] = "tokens"
    transposed: bool = False
    bias: bool = False
    gated: Literal["", "halves", "interleaved"] = ""
    activation: Activation = ""
    limit: float | None = None
    up_offset: float = 0.0
    quantized: Quantized | None = None

    @property
    def width(self) -> int:
        """Columns of the result."""
        return self.n // 2 if self.gated else self.n


def supports(spec: ExpertLinearSpec, arch: str = "sm_90") -> str | None:
    """Why there is no kernel of `spec` on `arch`, as a sentence; None where there is one."""
    if spec.gated and spec.n % 2:
        return f"{spec.n} columns have no halves"
    if spec.limit is not None and not spec.gated:
        return "only gates have a limit"
    if spec.quantized is not None:
        if spec.transposed:
            return "groups of a transposed matrix do not lie behind each other"
        if spec.quantized.packed and spec.k % 2:
            return "two numbers of a byte are of two rows"
        if spec.quantized.stored == "f8e4m3" and arch < "sm_89":
            return f"{arch} has no f8e4m3"
    return None


def parameters(spec: ExpertLinearSpec) -> tuple[Parameter, ...]:
    """What the kernel takes, in order."""
    found = {"x": spec.element, "weight": spec.element}
    if spec.quantized is not None:
        found["weight"] = "u8" if spec.quantized.packed else spec.quantized.stored
        numbers = {part: getattr(spec.quantized, part) for part in ("scale", "zero", "shift")}
        found |= {f"weight_{part}": element for part, element in numbers.items() if element}
    found |= {"bias": spec.element} if spec.bias else {}
    found |= {"order": "i32", "ends": "i32", "out": spec.element}
    pointers = [Parameter(name=name, type=pointer(e), divisible=16) for name, e in found.items()]
    return tuple(pointers)


def kernel(spec: ExpertLinearSpec) -> Kernel:
    """The kernel of `launch`. `spec` must be one that `supports` has nothing against."""
    taken, space = parameters(spec), _configs(spec)
    # Where every tile divides, nothing is masked.
    whole_n = all(spec.width % config.constants["BLOCK_N"] == 0 for config in space)
    whole_k = all(spec.k % config.constants["BLOCK_K"] == 0 for config in space)
    source = render(
        "expert_linear.py.j2",
        spec=spec,
        parameters=[parameter.name for parameter in taken],
        experts=1 << (spec.experts - 1).bit_length(),
        whole_n=whole_n,
        whole_k=whole_k,
        quantized=spec.quantized,
        one_group=spec.quantized is not None
        and bool(spec.quantized.group)
        and all(spec.quantized.group % config.constants["BLOCK_K"] == 0 for config in space),
        precision=', input_precision="tf32x3"' if spec.element == "f32" else "",
    )
    return Kernel(
        symbol="expert_linear",
        source=source,
        parameters=taken,
        configs=tuple(space),
        work=ExpertLinearWork(spec),
    )


def launch(
    spec: ExpertLinearSpec,
    kernel_id: str,
    *,
    rows: Size,
    ops: tuple[str, ...] = (),
    **operands: Argument,
) -> Launch:
    """Bind what `parameters` names, but `rows`, a product such as `M`: tokens, whose slots `order`
    holds."""
    slots = f"{spec.per_token}*{rows}"
    # An expert's last tile is no full one: more tiles than slots fill. What is more than blocks,
    # they do one after the other; blocks without a tile would cost as much as a wave of them.
    tiles = Extent(size=f"{slots}+{_SLOTS_OF_AN_EXPERT * spec.experts}", by="BLOCK_M")
    return bind(
        kernel_id,
        parameters(spec),
        operands,
        sizes={},
        grid=((tiles,), (Extent(size=str(spec.width), by="BLOCK_N"),)),
        outputs=("out",),
        ops=ops,
        flops=f"{2 * spec.n * spec.k}*{slots}",
    )


@dataclass(frozen=True)
class ExpertLinearWork:
    """The work of a launch of `spec`, if all experts have as many slots; see
    `hetc.backends.triton.kernel.Work`."""

    spec: ExpertLinearSpec

    @property
    def element(self) -> str:
        """What tensor cores multiply."""
        return self.spec.element

    def tile(self, config: Config, rows: int) -> Tile:
        """One tile: all of its rows of x and its columns of the weight are loaded."""
        spec, block_m = self.spec, config.constants["BLOCK_M"]
        out = config.constants["BLOCK_N"]
        columns = out * 2 if spec.gated else out
        moved = block_m * (spec.k + out) * _bytes(spec) + columns * spec.k * _weight_bytes(spec)
        return Tile(
            flops=2.0 * block_m * columns * spec.k,
            bytes=moved,
            shared_bytes=_shared_bytes(spec, config),
            accumulators=block_m * columns // (32 * config.warps),
        )

    def blocks(self, config: Config, rows: int) -> int:
        """Tiles that hold a slot."""
        slots = rows * self.spec.per_token
        busy = min(slots, self.spec.experts)
        tiles = busy * -(-slots // (busy * config.constants["BLOCK_M"]))
        return tiles * -(-self.spec.width // config.constants["BLOCK_N"])


def _configs(spec: ExpertLinearSpec) -> list[Config]:
    found = []
    for block_m, columns, warps in _TILES:
        for block_k in _block_ks(spec, block_m):
            constants = {
                "BLOCK_M": block_m,
                "BLOCK_N": columns // 2 if spec.gated else columns,
                "BLOCK_K": block_k,
            }
            for stages in _STAGES:
                config = Config(constants=constants, warps=warps, stages=stages)
                if _shared_bytes(spec, config) <= _SHARED_BYTES:
                    found.append(config)
    return found


def _block_ks(spec: ExpertLinearSpec, block_m: int) -> list[int]:
    # 128 bytes are what tensor cores read at a time; few rows wait for memory, so that longer reads
    # are under way.
    line = 128 // int(_bytes(spec))
    wanted = [line, 2 * line] if block_m <= 32 else [line]
    whole = [size for size in (32, 64, 128) if spec.k % size == 0]
    if spec.quantized is not None and spec.quantized.group:
        # A tile within a group needs one scale for each column.
        whole = [size for size in whole if spec.quantized.group % size == 0]
    return [size for size in wanted if size in whole] or whole[-1:] or wanted[:1]


def _shared_bytes(spec: ExpertLinearSpec, config: Config) -> int:
    """The stages of both operands, and of quantized matrices one more tile."""
    constants = config.constants
    columns = constants["BLOCK_N"] * (2 if spec.gated else 1)
    stage = constants["BLOCK_M"] * _bytes(spec) + columns * _weight_bytes(spec)
    unpacked = 0 if spec.quantized is None else columns * _bytes(spec)
    return int((stage * config.stages + unpacked) * constants["BLOCK_K"])


def _bytes(spec: ExpertLinearSpec) -> float:
    return DTYPES[spec.element].bits / 8


def _weight_bytes(spec: ExpertLinearSpec) -> float:
    if spec.quantized is None:
        return _bytes(spec)
    return 0.5 if spec.quantized.packed else 1.0
