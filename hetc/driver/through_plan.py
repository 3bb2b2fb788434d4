"""Verify a bundle through its plan: decode as the plan says it, tile by tile, on every socket."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetc.backends.dataflow.interpret import PlanCheck, verify_plan
from hetc.backends.dataflow.plan_file import read_plan
from hetc.errors import UsageError
from hetc.ir.text import parse
from hetc.ir.types import Array
from hetc.runtime import Bundle


def through_plan(
    bundle: Bundle, tokens: Array, split: int, expected: Array, tolerance: float
) -> PlanCheck:
    """Prefill `split` of `tokens` i64[1,N] on the bundle's executor, hand the state to the plan,
    and decode the rest through it; `expected` [N-split,V] are the logits of each step.

    Every sequence of the plan's batch gets the same tokens. Raises UsageError HETC-U012 for a
    bundle without a plan, PlanError HETC-L3xx for a plan that cannot be executed as written.
    """
    files = bundle.files
    half = files.manifest.half("decode")
    if half.plan is None or half.socket is None:
        raise UsageError(
            "HETC-U012",
            "this bundle has no spatial plan",
            at=files.manifest.targets["decode"].name,
            do="compile with --decode sn40l, or another target that has a grid",
        )
    plan = read_plan(files.read_bytes(half.plan), half.plan)
    graph = parse(files.read_bytes(half.socket).decode())
    _, state = bundle.prefill(tokens[:, :split])
    states = {name: _whole(tensor, plan.bindings.batch) for name, tensor in state.take().items()}
    rows = np.repeat(tokens[:, split:], plan.bindings.batch, axis=0)
    wanted = np.repeat(expected[None], plan.bindings.batch, axis=0)
    return verify_plan(
        plan, graph, files.weight, states, rows, wanted, past=split, tolerance=tolerance
    )


def _whole(tensor: Any, batch: int) -> Array:
    array = tensor if isinstance(tensor, np.ndarray) else np.asarray(tensor.numpy())
    return np.repeat(array, batch, axis=0)
