"""Ops whose result at a position depends on earlier ones, and the state that carries those."""

from __future__ import annotations

import numpy as np

from hetc.ir.dims import symbol
from hetc.ir.op import Cost, Op, Scalar, Value, op
from hetc.ir.ops.elementwise_base import as_f32, fits, literal_array
from hetc.ir.ops.recurrence import Recurrence
from hetc.ir.ops.shape import View
from hetc.ir.types import BOOL, Array, TensorType


@op("kv_append")
class KVAppend(Op):
    """The rows of `past`, then those of `new` along `axis`: a cache that grows. Writes `new`."""

    past: Value
    new: Value
    axis: int

    def infer(self) -> TensorType:
        self.require(self.past.rank == self.new.rank, "past and new must have one rank")
        axis = self.require_axis(self.axis, self.past)
        rest = [(v.dtype, v.shape[:axis], v.shape[axis + 1 :]) for v in (self.past, self.new)]
        self.require(rest[0] == rest[1], "past and new must agree on dtype and the other axes")
        shape = list(self.past.shape)
        shape[axis] = self.past.shape[axis] + self.new.shape[axis]
        return TensorType(self.past.dtype, tuple(shape))

    def cost(self) -> Cost:
        return Cost(0, self.new.nbytes, self.new.nbytes)

    def semantics(self, past: Array, new: Array) -> Array:
        return np.concatenate([past, new], axis=self.axis)


@op("keep_last")
class KeepLast(View):
    """The last `rows` rows along `axis`, or all while there are fewer.

    The dim `K<rows>` is min(P+T, rows).
    """

    x: Value
    axis: int
    rows: int

    def infer(self) -> TensorType:
        axis = self.require_axis(self.axis, self.x)
        length = self.x.shape[axis]
        kept = min(length, self.rows) if isinstance(length, int) else symbol(f"K{self.rows}")
        return TensorType(self.x.dtype, (*self.x.shape[:axis], kept, *self.x.shape[axis + 1 :]))

    def semantics(self, x: Array) -> Array:
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(max(0, x.shape[self.axis] - self.rows), None)
        result: Array = x[tuple(index)]
        return result


@op("conv1d_causal")
class Conv1dCausal(Op):
    """A 1-d convolution that sees only the present and the `k-1` inputs before it.

    `x [B, C, T]`, `weight [O, C/groups, k]`, `bias [O]` -> `[B, O, T]`. `history [B, C, k-1]` are
    the inputs before `x`; zeros where absent.
    """

    x: Value
    weight: Value
    bias: Value | None = None
    history: Value | None = None
    groups: int = 1

    def infer(self) -> TensorType:
        self.require(
            self.x.rank == 3 and self.weight.rank == 3, "x is [B,C,T], weight is [O,C/groups,k]"
        )
        outputs, channels, taps = self.weight.shape
        self.require(self.x.shape[1] == channels * self.groups, "channels differ")
        divides = isinstance(outputs, int) and outputs % self.groups == 0
        self.require(divides, "the outputs must be a multiple of the groups")
        if self.bias is not None:
            self.require(self.bias.shape == (outputs,), "the bias is [O]")
        if self.history is not None:
            before = TensorType(self.x.dtype, (*self.x.shape[:2], taps - 1))
            self.require(self.history.type == before, f"the history must be {before}")
        return TensorType(self.x.dtype, (self.x.shape[0], self.weight.shape[0], self.x.shape[2]))

    def cost(self) -> Cost:
        base = super().cost()
        taps = self.weight.shape[1] * self.weight.shape[2]
        return Cost(2 * self.result.size * taps, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, weight: Array, *extra: Array) -> Array:
        given = iter(extra)
        bias = next(given) if self.bias is not None else None
        history = next(given) if self.history is not None else None
        taps = weight.shape[2]
        if history is None:
            history = np.zeros((*x.shape[:2], taps - 1), x.dtype)
        windows = np.lib.stride_tricks.sliding_window_view(
            as_f32(np.concatenate([history, x], axis=2)), taps, axis=2
        )
        batch, _, length, _ = windows.shape
        grouped = windows.reshape(batch, self.groups, -1, length, taps)
        filters = as_f32(weight).reshape(self.groups, -1, *weight.shape[1:])
        result = np.einsum("bgclk,gock->bgol", grouped, filters).reshape(batch, -1, length)
        biased: Array = result if bias is None else result + as_f32(bias)[:, None]
        return biased.astype(x.dtype)


@op("scan")
class Scan(Recurrence):
    """The linear recurrence h[t] = decay[t] * h[t-1] + x[t] along `axis`, from `initial` or zeros.

    Results: every h, and the last one (the state to carry on). With a decay of 1 it is a running
    sum. With `maximum` it is the same over (max, +): h[t] = max(decay[t] + h[t-1], x[t]), what
    exponentials of a recurrence are scaled by so that they stay small.
    """

    x: Value
    decay: Scalar
    initial: Value | None = None
    axis: int = 1
    maximum: bool = False

    def infer(self) -> tuple[TensorType, TensorType]:
        self.require(self.x.dtype is not BOOL, "bools have no sum: cast them first")
        self.require(not self.maximum or self.x.dtype.is_float, "a running maximum is of floats")
        if isinstance(self.decay, Value):
            self.require(self.x.type == self.decay.type, "x and decay must have one type")
        else:
            rule = f"{self.decay} is no {self.x.dtype}: cast x first"
            self.require(fits(self.decay, self.x.dtype), rule)
        axis = self.require_axis(self.axis, self.x)
        last = TensorType(self.x.dtype, (*self.x.shape[:axis], *self.x.shape[axis + 1 :]))
        if self.initial is not None:
            self.require(
                self.initial.type == last, "the initial state must have the type of one step"
            )
        return self.x.type, last

    @property
    def is_running_sum(self) -> bool:
        """Whether nothing decays: every h is the sum of the x so far."""
        return not isinstance(self.decay, Value) and self.decay == 1 and not self.maximum

    def cost(self) -> Cost:
        base = super().cost()
        flops = self.x.size if self.is_running_sum else 2 * self.x.size
        return Cost(flops, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, *extra: Array) -> tuple[Array, Array]:
        given = iter(extra)
        decay = (
            as_f32(next(given))
            if isinstance(self.decay, Value)
            else literal_array(self.decay, x.dtype)
        )
        initial = next(given) if self.initial is not None else None
        steps = np.moveaxis(as_f32(x), self.axis, 0)
        rates = np.moveaxis(np.broadcast_to(decay, x.shape), self.axis, 0)
        state = np.zeros(steps.shape[1:], steps.dtype) if initial is None else as_f32(initial)
        history = np.empty_like(steps)
        for index, (step, rate) in enumerate(zip(steps, rates, strict=True)):
            state = np.maximum(rate + state, step) if self.maximum else rate * state + step
            history[index] = state
        return np.moveaxis(history, 0, self.axis).astype(x.dtype), state.astype(x.dtype)
