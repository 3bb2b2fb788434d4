"""A function beside itself compiled: the same results, in the same layout, and the same writes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from hetc.interop import Report, backend, last_report

Function = Callable[..., Any]


def compiled(fn: Function, options: dict[str, Any] | None = None, **settings: Any) -> Function:
    """`fn` compiled by hetc, with nothing left of earlier compilations."""
    torch._dynamo.reset()
    made: Function = torch.compile(fn, backend=backend, options=options or {}, **settings)
    return made


def compare(
    fn: Function, *args: Any, options: dict[str, Any] | None = None, calls: int = 2, **settings: Any
) -> Report:
    """Call `fn` eagerly and compiled with `args`, each with arguments of its own, and hold results
    and arguments against each other; what the backend says of it."""
    mine, theirs = copy.deepcopy(args), copy.deepcopy(args)
    ours = compiled(fn, options, **settings)
    with torch.no_grad():
        for _ in range(calls):
            same((ours(*mine), mine), (fn(*theirs), theirs))
    return last_report()


def same(made: Any, wanted: Any) -> None:
    """Raise AssertionError unless all leaves are equal but for rounding, strides included."""
    ours, theirs = tree_leaves(made), tree_leaves(wanted)
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        if not isinstance(y, torch.Tensor):
            assert type(x) is type(y)
            assert x == y
            continue
        narrow = y.dtype in (torch.bfloat16, torch.float16)
        rtol, atol = (5e-2, 5e-2) if narrow else (1e-4, 1e-5)
        torch.testing.assert_close(x, y, check_stride=True, equal_nan=True, rtol=rtol, atol=atol)


def executors(report: Report) -> list[str]:
    """Who ran the regions, in order."""
    return [region.executor for graph in report.graphs for region in graph.regions]
