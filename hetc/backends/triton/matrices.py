"""Weights of products: as they are, or small numbers with a scale for each group."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.linear import Quantized
from hetc.backends.triton.memory import Memory
from hetc.bundle.launches import WeightRef
from hetc.ir.op import Value
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.shape import Transpose
from hetc.ir.ops.source import Weight


@dataclass(frozen=True)
class Matrix:
    """A weight [n, k]: the tensors of the bundle that it is, by what they are of it (`` for
    itself, `_scale`, `_zero`, `_shift`), and how it is stored; `transposed` where the bundle has it
    as [k, n]."""

    parts: tuple[tuple[str, Weight], ...]
    form: Quantized | None = None
    transposed: bool = False

    @property
    def alike(self) -> tuple[object, ...]:
        """What matrices must have in common to be one below the other."""
        elements = ((suffix, op.type.dtype.name) for suffix, op in self.parts)
        return (self.form, self.transposed, *elements)


def matrix_of(value: Value) -> Matrix:
    """The matrix that is `value`; raises Refusal (HETC-E058)."""
    op = value.op
    if isinstance(op, Weight):
        return Matrix((("", op),))
    if isinstance(op, Transpose) and isinstance(op.x.op, Weight) and op.perm == (1, 0):
        return Matrix((("", op.x.op),), transposed=True)
    if not isinstance(op, Dequantize):
        kind = op.kind if op else "an input"
        loc = op.loc if op else ""
        raise Refusal("HETC-E058", f"a matrix that {kind} makes is multiplied by", loc)
    numbers = op.x.op
    if isinstance(numbers, Unpack4):
        stored = "u4" if numbers.dtype.name == "u8" else "i4"
        numbers = numbers.x.op
    else:
        stored = op.x.dtype.name
    parts = {"": numbers} | {
        f"_{name}": value.op
        for name in ("scale", "zero", "shift")
        if (value := getattr(op, name)) is not None
    }
    weights = tuple((suffix, part) for suffix, part in parts.items() if isinstance(part, Weight))
    if len(weights) != len(parts) or stored not in ("i8", "u8", "i4", "u4"):
        raise Refusal("HETC-E058", "a matrix is dequantized otherwise than by groups", op.loc)
    elements = {suffix[1:]: part.type.dtype.name for suffix, part in weights if suffix}
    return Matrix(weights, Quantized(stored, op.group, **elements))  # type: ignore[arg-type]


def placed(
    memory: Memory, name: str, matrices: list[Matrix], *, turn: int = 0
) -> dict[str, WeightRef]:
    """The operands of `matrices`, one below the other or in turns of so many rows, as a kernel
    calls them: `name` and what it is of it."""
    found: dict[str, WeightRef] = {}
    for column in zip(*(matrix.parts for matrix in matrices), strict=True):
        suffix, element = column[0][0], column[0][1].type.dtype.name
        ops, transposed = [op for _, op in column], matrices[0].transposed
        found[name + suffix] = tensors(memory, ops, element, transposed=transposed, turn=turn)
    return found


def tensors(
    memory: Memory,
    ops: list[Weight],
    element: str,
    *,
    transposed: bool = False,
    turn: int = 0,
) -> WeightRef:
    """Weights behind each other, or in turns of so many rows."""
    size = sum(op.type.size for op in ops if isinstance(op.type.size, int))
    names = tuple(op.name for op in ops)
    return memory.weight(names, element, size, transposed=transposed, turn=turn)
