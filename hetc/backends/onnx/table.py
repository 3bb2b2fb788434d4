"""The table of emitters: op class -> how it is written, and when it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hetc.backends.onnx.elements import kernel_type, onnx_type
from hetc.backends.onnx.sizes import Sizes
from hetc.backends.onnx.writer import Writer
from hetc.errors import Reason
from hetc.ir.op import Op
from hetc.ir.ops.control import describe


@dataclass(frozen=True)
class Context:
    """What an emitter gets: the graph in the making, and sizes at run time."""

    w: Writer
    sizes: Sizes


Emitted = str | tuple[str, ...]
Emitter = Callable[[Context, Any], Emitted]
Refuse = Callable[[Any], str | None]
_E = TypeVar("_E", bound=Emitter)


@dataclass(frozen=True)
class Rule:
    """How one kind of op is written.

    `kernels` are the ONNX ops that must take the element type of the first operand; `refuse` gives
    the sentence that says why this very op cannot be written.
    """

    emit: Emitter
    kernels: tuple[str, ...]
    refuse: Refuse | None


RULES: dict[type[Op], Rule] = {}


def emits(
    *ops: type[Op], kernels: tuple[str, ...] = (), refuse: Refuse | None = None
) -> Callable[[_E], _E]:
    """Function decorator: registers an emitter for `ops`."""

    def register(emit: _E) -> _E:
        for op in ops:
            assert op not in RULES, f"{op.kind} has two emitters"
            RULES[op] = Rule(emit, kernels, refuse)
        return emit

    return register


def why_not(op: Op) -> Reason | None:
    """Why `op` cannot be written as ONNX that ONNX Runtime's CPU kernels run; None where it can.

    HETC-E010: no emitter. HETC-E011: an element type. HETC-E012: an attribute or a shape.
    """
    rule = RULES.get(type(op))
    at = op.loc or op.kind
    if rule is None:
        return Reason("HETC-E010", f"the onnx backend has no form of {describe(op)}", at)
    for value in (*op.operands, *op.results):
        if onnx_type(value.dtype) is None:
            return Reason("HETC-E011", f"the onnx backend has no {value.dtype} tensors", at)
    for kernel in rule.kernels:
        dtype = op.operands[0].dtype
        if kernel_type(kernel, dtype) is None:
            return Reason("HETC-E011", f"ONNX Runtime has no {kernel} of {dtype} on the CPU", at)
    refused = rule.refuse(op) if rule.refuse else None
    return (
        Reason("HETC-E012", f"the onnx backend cannot write this {op.kind}: {refused}", at)
        if refused
        else None
    )
