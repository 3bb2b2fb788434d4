"""What no plan can say yet: refused at once, with the op that is in the way."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.backends.dataflow.blocks import Run
from hetc.errors import BackendError
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.quant import Dequantize


def require_plannable(runs: Sequence[Run]) -> None:
    """Raise BackendError HETC-E034 or HETC-E036 for blocks that a plan has no form for."""
    _check_states(runs)
    _check_matrices(runs)


def _check_states(runs: Sequence[Run]) -> None:
    """Refuse a state that one block reads and another changes: its memory would be theirs both."""
    layers = {value for run in runs for call in run.calls for value in call.operands}
    for run in (run for run in runs if not run.calls):
        for out in run.outs:
            if run.states.get(out.tensor) in layers or out.tensor not in run.states:
                raise BackendError(
                    "HETC-E034",
                    "a state is changed outside of the layer that reads it",
                    at=out.op.loc or out.tensor,
                    found=f"{out.op.kind} makes {out.tensor} in {run.id} ({run.graph.name})",
                    do="run decode by another executor: a plan keeps a state where it is read",
                )


def _check_matrices(runs: Sequence[Run]) -> None:
    """Refuse experts in groups: of the chosen ones, a stream would bring the scales too."""
    for run in runs:
        for op in run.ops:
            if isinstance(op, ExpertLinear) and isinstance(op.weight.op, Dequantize):
                stored = op.weight.op
                raise BackendError(
                    "HETC-E036",
                    "experts are stored in groups, and a plan has no place for their scales",
                    at=op.loc,
                    found=f"{stored.x.type} with {stored.scale.type}",
                    do="compile with --quantize none for a plan",
                )
