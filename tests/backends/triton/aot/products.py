"""Small kernels of the tests of ahead-of-time compilation, and their work: a product and a norm."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.triton.kernel import Kernel, Tile
from hetc.bundle.launches import Config, Parameter

PRODUCT = """
import triton
import triton.language as tl


@triton.jit
def product(
    x, w, out, rows, N: tl.constexpr, K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(x + m[:, None] * K + start + k[None, :], mask=m[:, None] < rows, other=0.0)
        b = tl.load(w + n[None, :] * K + start + k[:, None])
        total = tl.dot(a, b, total)
    tl.store(out + m[:, None] * N + n[None, :], total.to(tl.bfloat16), mask=m[:, None] < rows)
"""

NORM = """
import triton
import triton.language as tl


@triton.jit
def norm(x, w, out, rows, eps, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    read = tl.load(x + row * WIDTH + column).to(tl.float32)
    scaled = read * tl.rsqrt(tl.sum(read * read) / WIDTH + eps)
    tl.store(out + row * WIDTH + column, scaled.to(tl.bfloat16) * tl.load(w + column))
"""


@dataclass(frozen=True)
class ProductWork:
    """x [rows, k] times w [n, k], in tiles of BM x BN; of its accumulators and shared memory it
    tells the model a part."""

    n: int
    k: int
    registers_told: float = 1.0
    shared_told: float = 1.0
    element: str = "bf16"

    def tile(self, config: Config, rows: int) -> Tile:
        bm, bn, bk = (config.constants[name] for name in ("BM", "BN", "BK"))
        return Tile(
            flops=2.0 * bm * bn * self.k,
            bytes=2.0 * ((bm + bn) * self.k + bm * bn),
            shared_bytes=int(config.stages * (bm + bn) * bk * 2 * self.shared_told),
            accumulators=int(bm * bn / (32 * config.warps) * self.registers_told),
        )

    def blocks(self, config: Config, rows: int) -> int:
        return -(-rows // config.constants["BM"]) * -(-self.n // config.constants["BN"])


@dataclass(frozen=True)
class NormWork:
    """A block for each row."""

    width: int
    element: str = "f32"

    def tile(self, config: Config, rows: int) -> Tile:
        return Tile(flops=4.0 * self.width, bytes=4.0 * self.width, shared_bytes=0, accumulators=0)

    def blocks(self, config: Config, rows: int) -> int:
        return rows


def tile(bm: int, bn: int, bk: int, *, warps: int = 4, stages: int = 3) -> Config:
    """A configuration of the product."""
    return Config(constants={"BM": bm, "BN": bn, "BK": bk}, warps=warps, stages=stages)


# Two that are compiled quickly; of the third a thread has 256 accumulators.
SMALL, TALL, SPILLING = tile(64, 64, 32), tile(128, 64, 32), tile(64, 128, 32, warps=1, stages=2)


def product(
    *configs: Config,
    n: int = 4096,
    k: int = 4096,
    source: str = PRODUCT,
    work: ProductWork | None = None,
) -> Kernel:
    """x [rows, k] times w [n, k] in bf16."""
    return Kernel(
        symbol="product",
        source=source,
        parameters=(
            *(Parameter(name=name, type="*bf16", divisible=16) for name in ("x", "w", "out")),
            Parameter(name="rows", type="i32"),
        ),
        configs=configs or (SMALL,),
        work=work or ProductWork(n, k),
        constants={"N": n, "K": k},
    )


def norm(width: int = 1024) -> Kernel:
    """An RMS norm in bf16 of rows of `width`."""
    return Kernel(
        symbol="norm",
        source=NORM,
        parameters=(
            *(Parameter(name=name, type="*bf16", divisible=16) for name in ("x", "w", "out")),
            Parameter(name="rows", type="i32"),
            Parameter(name="eps", type="fp32"),
        ),
        configs=(
            Config(constants={}, warps=4, stages=1),
            Config(constants={}, warps=8, stages=1),
        ),
        work=NormWork(width),
        constants={"WIDTH": width},
    )
