"""Calls of subgraphs, ops that hetc does not know, and movement between devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.errors import BackendError
from hetc.ir.graph import Graph
from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.shape import View
from hetc.ir.types import Array, TensorType

OpaqueRunner = Callable[["Opaque", "tuple[Array, ...]"], "tuple[Array, ...]"]
OPAQUE_RUNNERS: dict[str, OpaqueRunner] = {}


@op("call")
class Call(Op):
    """The results of another graph: a repeated layer is one graph, called with its own weights."""

    callee: Graph
    args: tuple[Value, ...]

    def infer(self) -> tuple[TensorType, ...]:
        expected = [value.type for value in self.callee.inputs]
        self.require(
            [value.type for value in self.args] == expected,
            f"@{self.callee.name} takes other types",
        )
        return tuple(value.type for value in self.callee.outputs)

    def cost(self) -> Cost:
        total = Cost()
        for inner in self.callee.ops:
            cost = inner.cost()
            total = Cost(
                total.flops + cost.flops,
                total.bytes_read + cost.bytes_read,
                total.bytes_written + cost.bytes_written,
            )
        return total


@op("opaque")
class Opaque(Op):
    """An op that no table knows, kept with its name and arguments.

    Only the reference executor can run it. `framework` is `aten` or `onnx`; `arguments` is JSON
    that the frontend of that framework understands. `pointwise`: the framework says that every
    element of the results hangs on the elements at its own place alone. `token_wise`: the user
    declares that it works token by token; nobody has shown that.
    """

    inputs: tuple[Value, ...]
    framework: str
    target: str
    arguments: str
    types: tuple[TensorType, ...]
    pointwise: bool = False
    token_wise: bool = False

    def infer(self) -> tuple[TensorType, ...]:
        return self.types

    def semantics(self, *inputs: Array) -> tuple[Array, ...]:
        runner = OPAQUE_RUNNERS.get(self.framework)
        if runner is None:
            raise BackendError(
                "HETC-E001",
                f"nothing here can run {self.target}",
                at=self.loc,
                found=f"an opaque {self.framework} op",
                do=f"install what runs {self.framework} ops: pip install 'hetc[compile]'",
            )
        results = runner(self, inputs)
        shapes = [result.shape for result in results]
        if shapes != [type.shape for type in self.types]:
            raise BackendError(
                "HETC-E003",
                f"{self.target} makes tensors of other sizes than it declares",
                at=self.loc,
                expected=", ".join(map(str, self.types)),
                found=", ".join(str(list(shape)) for shape in shapes),
                do="correct its fake implementation or its shape inference, and export again",
            )
        # A dtype among the arguments still names that of the export after the graph was retyped.
        return tuple(
            result.astype(type.dtype.numpy, copy=False)
            for result, type in zip(results, self.types, strict=True)
        )


@op("transfer")
class Transfer(Op):
    """`x` moved to another device, unchanged."""

    x: Value
    source: str
    destination: str

    def infer(self) -> TensorType:
        return self.x.type

    def semantics(self, x: Array) -> Array:
        return x


@op("all_reduce")
class AllReduce(Op):
    """The sum of `x` over the `group_size` shards of a tensor-parallel group; alone, `x` itself."""

    x: Value
    group_size: int = 1

    def infer(self) -> TensorType:
        return self.x.type

    def semantics(self, x: Array) -> Array:
        self.require(self.group_size == 1, "one process holds one shard")
        return x


@op("all_gather")
class AllGather(Op):
    """The `x` of the `group_size` shards of a tensor-parallel group, put together along `axis`."""

    x: Value
    axis: int
    group_size: int = 1

    def infer(self) -> TensorType:
        axis = self.require_axis(self.axis, self.x)
        shape = list(self.x.shape)
        shape[axis] = shape[axis] * self.group_size
        return TensorType(self.x.dtype, tuple(shape))

    def semantics(self, x: Array) -> Array:
        self.require(self.group_size == 1, "one process holds one shard")
        return x


@op("take_part")
class TakePart(View):
    """This shard's part of `x`, which all `group_size` shards hold: the inverse of `all_gather`."""

    x: Value
    axis: int
    group_size: int = 1

    def infer(self) -> TensorType:
        axis = self.require_axis(self.axis, self.x)
        shape = list(self.x.shape)
        whole = shape[axis]
        if not isinstance(whole, int) or self.group_size < 1 or whole % self.group_size:
            raise self.misfit(f"axis {self.axis} has no {self.group_size} equal parts")
        shape[axis] = whole // self.group_size
        return TensorType(self.x.dtype, tuple(shape))

    def semantics(self, x: Array) -> Array:
        self.require(self.group_size == 1, "one process holds one shard")
        return x


Collective = AllReduce | AllGather | TakePart
COLLECTIVES = (AllReduce, AllGather, TakePart)
"""The ops whose result on one shard depends on the others, or on which shard it is."""


def describe(item: Any) -> str:
    """The name that people know an op by: the target of an opaque one, the kind of another."""
    return item.target if isinstance(item, Opaque) else str(item.kind)
