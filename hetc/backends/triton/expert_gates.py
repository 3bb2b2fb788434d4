"""The gate that follows a grouped product: what of the graph is one with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hetc.backends.triton.values import Values
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.binary import Add, Maximum, Minimum, Mul
from hetc.ir.ops.elementwise_base import Binary
from hetc.ir.ops.shape import Slice, Split

_GATES = frozenset({"silu", "gelu", "gelu_tanh", "sigmoid"})
# Of the kernels' `quick_gelu`: x * sigmoid(1.702 * x).
_QUICK = 1.702
_B = TypeVar("_B", bound=Binary)


@dataclass(frozen=True)
class GateForm:
    """What of an `ExpertLinearSpec` says this gate, the ops that it is, and its result."""

    fields: Mapping[str, Any]
    ops: tuple[Op, ...]

    @property
    def result(self) -> Value:
        return self.ops[-1].results[0]


def gate_of(values: Values, product: Value) -> GateForm | None:
    """The gate that is all that reads `product`, where it is of a form that kernels know."""
    if product in values.graph.outputs:
        return None
    return _halves(values, product) or _interleaved(values, product)


def only_reader(values: Values, value: Value) -> Op | None:
    """The only op that reads `value`; None where there are more, or it is an output."""
    users = values.users.get(value, [])
    return users[0] if len(users) == 1 and value not in values.graph.outputs else None


def _halves(values: Values, product: Value) -> GateForm | None:
    """`activation(first half) * second half`."""
    split = only_reader(values, product)
    if not isinstance(split, Split) or len(split.results) != 2 or split.sizes[0] != split.sizes[1]:
        return None
    gate, other = (only_reader(values, half) for half in split.results)
    if not isinstance(gate, Gated) or other is not gate or gate.activation not in _GATES:
        return None
    if (gate.gate, gate.up) != split.results:
        return None
    return GateForm({"gated": "halves", "activation": gate.activation}, (gate,))


def _interleaved(values: Values, product: Value) -> GateForm | None:
    """gpt-oss: of even columns g at most a limit, `g * sigmoid(1.702 * g)`, times odd columns
    within the limit, plus an offset."""
    slices = values.users.get(product, [])
    starts = {op.start: op for op in slices if isinstance(op, Slice) and op.step == 2}
    if len(slices) != 2 or starts.keys() != {0, 1}:
        return None
    limited = _scalar(only_reader(values, starts[0].result), Minimum)
    low = _scalar(only_reader(values, starts[1].result), Maximum)
    high = None if low is None else _scalar(only_reader(values, low[0].result), Minimum)
    offset = None if high is None else _scalar(only_reader(values, high[0].result), Add)
    if limited is None or low is None or high is None or offset is None:
        return None
    limits = {limited[1], -low[1], high[1]}
    gate = _sharpened(values, limited[0].result)
    last = only_reader(values, offset[0].result)
    if gate is None or len(limits) != 1 or not isinstance(last, Mul):
        return None
    sharp, gated = gate
    if sharp[1] != _QUICK:
        return None
    if {*last.operands} != {offset[0].result, gated.result} or len(last.operands) != 2:
        return None
    if only_reader(values, gated.result) is not last:
        return None
    fields = {
        "gated": "interleaved",
        "activation": "quick_gelu",
        "limit": limited[1],
        "up_offset": offset[1],
    }
    ops = (limited[0], sharp[0], gated, low[0], high[0], offset[0], last)
    return GateForm(fields, ops)


def _sharpened(values: Values, gate: Value) -> tuple[tuple[Mul, float], Gated] | None:
    """`gate * sigmoid(number * gate)`, which is all that reads `gate`."""
    users = values.users.get(gate, [])
    sharp = next((found for user in users if (found := _scalar(user, Mul)) is not None), None)
    gated = next((user for user in users if isinstance(user, Gated)), None)
    if sharp is None or gated is None or len(users) != 2 or gate in values.graph.outputs:
        return None
    whole = gated.activation == "sigmoid" and gated.up is gate and gated.gate is sharp[0].result
    return (sharp, gated) if whole and only_reader(values, sharp[0].result) is gated else None


def _scalar(op: Op | None, kind: type[_B]) -> tuple[_B, float] | None:
    """An op of this kind with a number, and the number."""
    if not isinstance(op, kind) or not isinstance(op.y, int | float):
        return None
    return op, float(op.y)
