"""Movement between devices, which is none in one process. (Calls are inlined: see `emit`.)"""

from __future__ import annotations

from hetc.backends.onnx.table import Context, emits
from hetc.ir.ops.control import COLLECTIVES, Collective, Transfer


@emits(Transfer)
def transfer(c: Context, op: Transfer) -> str:
    return c.w[op.x]


def _sharded(op: Collective) -> str | None:
    return None if op.group_size == 1 else f"it is over {op.group_size} processes"


@emits(*COLLECTIVES, refuse=_sharded)
def collective(c: Context, op: Collective) -> str:
    return c.w[op.x]
