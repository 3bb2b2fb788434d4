"""Movement between devices, which is none in one process. (Calls are inlined: see `emit`.)"""

from __future__ import annotations

from hetc.backends.onnx.table import Context, emits
from hetc.ir.ops.control import AllReduce, Transfer


@emits(Transfer)
def transfer(c: Context, op: Transfer) -> str:
    return c.w[op.x]


def _sharded(op: AllReduce) -> str | None:
    return None if op.group_size == 1 else f"a sum over {op.group_size} processes"


@emits(AllReduce, refuse=_sharded)
def all_reduce(c: Context, op: AllReduce) -> str:
    return c.w[op.x]
