"""Each row times the matrix of its expert, as one grouped product over slots in expert order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetc.backends.triton.kernel import Kernel
from hetc.bundle.launches import Argument, Launch, Size


@dataclass(frozen=True)
class ExpertLinearSpec:
    """`x[row of slot] @ weight[expert]^T + bias[expert]` for every slot; accumulates in f32.

    Slots lie in `order` as `SortSpec(experts, per_token, block)` puts them. x is [rows, k], one row
    for `per_token` slots, or with `x_of` "slots" [rows * per_token, k]. The weight is [experts, n,
    k], or `transposed` [experts, k, n]; bias [experts, n]. Gated, gate and up are the halves of n,
    or interleaved, gate first, and the result is `activation(gate) * (up + up_offset)`; with a
    `limit`, gate is at most that, and up no further from 0. Its `silu` is `gate * sigmoid(sharpness
    * gate)`. The result is [rows * per_token, n], gated [.., n / 2], a row for each slot.
    """

    element: str
    experts: int
    n: int
    k: int
    per_token: int
    block: int = 128
    x_of: Literal["tokens", "slots"] = "tokens"
    transposed: bool = False
    bias: bool = False
    gated: Literal["", "halves", "interleaved"] = ""
    activation: Literal["silu", "gelu", "gelu_tanh", "sigmoid", "relu"] = "silu"
    limit: float | None = None
    sharpness: float = 1.0
    up_offset: float = 0.0

    @property
    def width(self) -> int:
        """Columns of the result."""
        return self.n // 2 if self.gated else self.n


def kernel(spec: ExpertLinearSpec) -> Kernel:
    """The kernel of `launch`."""
    raise NotImplementedError


def launch(
    spec: ExpertLinearSpec,
    kernel_id: str,
    *,
    x: Argument,
    weight: Argument,
    order: Argument,
    expert_of_block: Argument,
    out: Argument,
    rows: Size,
    bias: Argument | None = None,
    ops: tuple[str, ...] = (),
) -> Launch:
    """Bind buffers: `rows` (a product, such as `M`) tokens, whose slots `order` holds."""
    raise NotImplementedError
