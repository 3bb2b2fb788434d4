"""The tokens of a value: the axis that carries them, and the errors of ops that mix them.

`TokenAxis(axis, outer, inner)` says that axis `axis` of a value has size outer * S * inner, tokens
being the middle part: reshapes may merge the batch before it or heads after it. A value without a
token axis is invariant: the same for every token.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetc.errors import StateError
from hetc.ir.dims import DimLike, symbol
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import describe

LENGTH = symbol("S")
_CAUSAL = "export a causal form of the model"


@dataclass(frozen=True)
class TokenAxis:
    """Where the token axis is: `axis` has size outer * S * inner."""

    axis: int
    outer: DimLike = 1
    inner: DimLike = 1

    @property
    def is_whole(self) -> bool:
        """Whether the axis holds tokens and nothing else."""
        return self.outer == 1 and self.inner == 1


Axes = dict[Value, TokenAxis | None]


class Mixes(Exception):
    """An op mixes tokens, or hetc cannot show that it does not: how, and what the user can do."""

    def __init__(self, how: str, do: str = _CAUSAL) -> None:
        super().__init__(how)
        self.do = do


def refuse(op: Op, reason: str, do: str = _CAUSAL) -> StateError:
    """The error for an op on data that mixes tokens in a way that has no state."""
    return StateError(
        "HETC-S014",
        f"decode cannot be derived: {reason}",
        at=op.loc or describe(op),
        found=f"{describe(op)} over {', '.join(str(value.type) for value in op.operands)}",
        do=do,
    )
