"""Recurrences along the tokens: what they have in common, and the one whose state is a matrix."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import Array, TensorType


class Recurrence(Op):
    """An op that goes from token to token with a state of one size.

    Its first result has a row for each token, its second is the state after the last one;
    `initial` is the state to begin with, zeros where absent.
    """

    initial: Value | None


@op("linear_attention")
class LinearAttention(Recurrence):
    """Attention without a softmax, whose keys and values are summed in one matrix a head.

    `q, k [B, G, T, N]`, `v [B, H, T, P]`, `decay [B, H, T, N]` or `[B, H, T, 1]`, `beta [B, H, T,
    1]`, `initial [B, H, N, P]` -> every `y [B, H, T, P]` and the last state; H is a multiple of G.
    For each head and token, with M the state:

        M = decay * M,  M = M + k (outer) u,  y = q M   where u is v, or beta * (v - k M)

    Without `beta` this is gated linear attention (Yang et al. 2023, eq. 3) and the state space
    duality of Mamba-2 (Dao & Gu 2024, eq. 1: q is C, k is B); with P = 1 and one head a channel it
    is Mamba (Gu & Dao 2023, eq. 2a, 2b). With `beta` it is the gated delta rule (Yang et al. 2024,
    "Gated Delta Networks", eq. 10).
    """

    q: Value
    k: Value
    v: Value
    decay: Value
    beta: Value | None = None
    initial: Value | None = None

    def infer(self) -> tuple[TensorType, TensorType]:
        self.require(all(value.rank == 4 for value in self.operands), "every operand has four axes")
        types = {value.dtype for value in self.operands}
        self.require(
            len(types) == 1 and self.v.dtype.is_float, "the operands must be of one float type"
        )
        self.require(self.q.type == self.k.type, "q and k must have one type")
        batch, heads, length, columns = self.v.shape
        groups, rows = self.q.shape[1], self.q.shape[3]
        divides = isinstance(heads, int) and isinstance(groups, int) and heads % groups == 0
        self.require(divides, "the heads of v must be a multiple of those of q and k")
        self.require(
            (self.q.shape[0], self.q.shape[2]) == (batch, length),
            "q is [B, G, T, N], v [B, H, T, P]",
        )
        each = (batch, heads, length)
        self.require(
            self.decay.shape in ((*each, rows), (*each, 1)), "the decay is [B, H, T, N] or [.., 1]"
        )
        self.require(self.beta is None or self.beta.shape == (*each, 1), "beta is [B, H, T, 1]")
        state = TensorType(self.v.dtype, (batch, heads, rows, columns))
        self.require(
            self.initial is None or self.initial.type == state, f"the initial state is {state}"
        )
        return self.v.type, state

    @property
    def repeats(self) -> int:
        """How many heads share one q and k."""
        heads, groups = self.v.shape[1], self.q.shape[1]
        assert isinstance(heads, int)
        assert isinstance(groups, int)
        return heads // groups

    def cost(self) -> Cost:
        base = super().cost()
        # Decay 1, outer product and sum 2, product with q 2; the delta rule's product with k 2.
        flops = (5 if self.beta is None else 7) * self.v.size * self.q.shape[3]
        return Cost(flops, base.bytes_read, base.bytes_written)

    def semantics(
        self, q: Array, k: Array, v: Array, decay: Array, *extra: Array
    ) -> tuple[Array, Array]:
        given = iter(extra)
        beta = as_f32(next(given)) if self.beta is not None else None
        initial = as_f32(next(given)) if self.initial is not None else None
        queries, keys = (np.repeat(as_f32(x), self.repeats, axis=1) for x in (q, k))
        values, rates = as_f32(v), as_f32(decay)
        state = np.zeros((*v.shape[:2], q.shape[3], v.shape[3]), values.dtype)
        state = state if initial is None else initial
        history = np.empty_like(values)
        for t in range(v.shape[2]):
            state = rates[:, :, t, :, None] * state
            update = values[:, :, t]
            if beta is not None:
                read = np.einsum("bhn,bhnp->bhp", keys[:, :, t], state)
                update = beta[:, :, t] * (update - read)
            state = state + keys[:, :, t, :, None] * update[:, :, None, :]
            history[:, :, t] = np.einsum("bhn,bhnp->bhp", queries[:, :, t], state)
        return history.astype(v.dtype), state.astype(v.dtype)
