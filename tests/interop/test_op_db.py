"""PyTorch's own samples of its ops, compiled and eager; every twelfth op."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch

from hetc.interop import last_report
from tests.interop.compiled import compiled, same

pytest.importorskip("expecttest", reason="PyTorch's tests import it")

from torch.testing._internal.common_methods_invocations import op_db

# Their results are whatever lay in memory.
UNDEFINED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
OPS = [op for op in op_db if op.name not in UNDEFINED][::12]


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.formatted_name)
def test_an_op_gives_what_eager_gives(op: Any) -> None:
    checked = 0
    for dtype in (torch.float32, torch.int64):
        if dtype not in op.supported_dtypes("cpu"):
            continue
        torch.manual_seed(0)
        for sample in itertools.islice(op.sample_inputs("cpu", dtype), 2):
            checked += _check(op, sample)
    assert checked or not op.supported_dtypes("cpu") & {torch.float32, torch.int64}


def _check(op: Any, sample: Any) -> int:
    def call(arguments: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> Any:
        first, others, named = arguments
        return op(first, *others, **named)

    mine = (sample.input, sample.args, sample.kwargs)
    theirs = copy.deepcopy(mine)
    with torch.no_grad():
        torch.manual_seed(1)
        wanted = call(theirs)
        ours = compiled(call)
        torch.manual_seed(1)
        made = ours(mine)
    same((made, mine), (wanted, theirs))
    assert not [f for f in last_report().fallbacks if f.reason.code == "HETC-V005"]
    return 1
