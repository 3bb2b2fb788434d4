"""Recurrences as custom ops of torch: `hetc::linear_attention` and `hetc::scan`.

They mean what the IR's ops of these names mean, and run in eager torch, so that a model that uses
them still works. They have no gradient.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]

NAMESPACE = "hetc"


@cache
def register_ops() -> None:
    """Make torch know the ops: needed before a program that uses them is exported or loaded."""
    import torch

    for name, run, fake, schema in _OPS:
        made = torch.library.custom_op(f"{NAMESPACE}::{name}", run, mutates_args=(), schema=schema)
        made.register_fake(fake)


def linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor,
    beta: torch.Tensor | None = None,
    initial: torch.Tensor | None = None,
) -> Pair:
    """The op `linear_attention` of the IR: every row, and the last state."""
    import torch

    result: Pair = torch.ops.hetc.linear_attention(q, k, v, decay, beta, initial)
    return result


def scan(
    x: torch.Tensor,
    decay: torch.Tensor,
    initial: torch.Tensor | None = None,
    axis: int = 1,
    *,
    maximum: bool = False,
) -> Pair:
    """The op `scan` of the IR: every state, and the last one."""
    import torch

    result: Pair = torch.ops.hetc.scan(x, decay, initial, axis, maximum)
    return result


def _run_linear_attention(
    q: Any, k: Any, v: Any, decay: Any, beta: Any = None, initial: Any = None
) -> Pair:
    import torch

    repeats = v.shape[1] // q.shape[1]
    q, k = (x.repeat_interleave(repeats, dim=1) for x in (q, k))
    state = v.new_zeros(*v.shape[:2], q.shape[3], v.shape[3]) if initial is None else initial
    rows = []
    for t in range(v.shape[2]):
        state = decay[:, :, t, :, None] * state
        update = v[:, :, t]
        if beta is not None:
            update = beta[:, :, t] * (update - torch.einsum("bhn,bhnp->bhp", k[:, :, t], state))
        state = state + k[:, :, t, :, None] * update[:, :, None]
        rows.append(torch.einsum("bhn,bhnp->bhp", q[:, :, t], state))
    return torch.stack(rows, 2), state.clone()


def _fake_linear_attention(
    q: Any, k: Any, v: Any, decay: Any, beta: Any = None, initial: Any = None
) -> Pair:
    return v.new_empty(v.shape), v.new_empty(v.shape[0], v.shape[1], q.shape[3], v.shape[3])


def _run_scan(
    x: Any, decay: Any, initial: Any = None, axis: int = 1, maximum: bool = False
) -> Pair:
    import torch

    state = torch.zeros_like(x.select(axis, 0)) if initial is None else initial
    rows = []
    for t in range(x.shape[axis]):
        rate, now = decay.select(axis, t), x.select(axis, t)
        state = torch.maximum(rate + state, now) if maximum else rate * state + now
        rows.append(state)
    return torch.stack(rows, axis), state.clone()


def _fake_scan(
    x: Any, decay: Any, initial: Any = None, axis: int = 1, maximum: bool = False
) -> Pair:
    rest = [size for place, size in enumerate(x.shape) if place != axis % x.dim()]
    return x.new_empty(x.shape), x.new_empty(rest)


_OPS = (
    (
        "linear_attention",
        _run_linear_attention,
        _fake_linear_attention,
        "(Tensor q, Tensor k, Tensor v, Tensor decay, Tensor? beta=None, Tensor? initial=None)"
        " -> (Tensor, Tensor)",
    ),
    (
        "scan",
        _run_scan,
        _fake_scan,
        "(Tensor x, Tensor decay, Tensor? initial=None, int axis=1, bool maximum=False)"
        " -> (Tensor, Tensor)",
    ),
)
