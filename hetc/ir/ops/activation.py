"""The elementwise heart of gated MLPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hetc.ir.op import Op, Value, op
from hetc.ir.ops.elementwise_base import Elementwise, as_f32
from hetc.ir.ops.unary import Gelu, Sigmoid, Silu
from hetc.ir.types import Array, TensorType


@dataclass(frozen=True)
class Gate:
    """An activation by name: the op that it stands for."""

    make: Callable[[Value], Op]

    def matches(self, op: Op) -> bool:
        """Whether `op` is this activation."""
        same = self.make(op.operands[0])
        return type(same) is type(op) and list(same.attributes()) == list(op.attributes())


GATES: dict[str, Gate] = {
    "silu": Gate(Silu),
    "gelu": Gate(Gelu),
    "gelu_tanh": Gate(lambda x: Gelu(x, tanh=True)),
    "sigmoid": Gate(Sigmoid),
}


@op("gated")
class Gated(Elementwise):
    """`activation(gate) * up`, in f32 inside (Shazeer 2020, "GLU variants improve transformer").

    `activation` is `silu`, `gelu`, `gelu_tanh` or `sigmoid`.
    """

    gate: Value
    up: Value
    activation: str = "silu"
    flops_per_element = 12

    def infer(self) -> TensorType:
        self.require(self.activation in GATES, f"the activation is one of {', '.join(GATES)}")
        self.require(self.gate.type == self.up.type, "gate and up must have one type")
        return self.gate.type

    def semantics(self, gate: Array, up: Array) -> Array:
        activated = GATES[self.activation].make(self.gate).semantics(as_f32(gate))
        assert not isinstance(activated, tuple)
        return (activated * as_f32(up)).astype(gate.dtype)
