"""Hold a declared op to its declaration: run on some of the tokens, it must give the rows of those
tokens in what it gives on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hetc.errors import CheckFailed
from hetc.ir.op import Value
from hetc.ir.ops.control import Opaque
from hetc.ir.types import Array
from hetc.passes.declared_ops import token_axis_of
from hetc.passes.length_use import holds_length


def check_declared(
    op: Opaque, arrays: Mapping[Value, Array], spans: Sequence[range], tolerance: float
) -> None:
    """Run `op` on each of `spans` of the tokens; the last ends with the last token.

    `arrays` has its operands and results on all tokens and a batch of two; `tolerance` is relative
    to the largest number of a result. Raises CheckFailed (HETC-V004), and what the op itself raises
    on fewer tokens.
    """
    values = (*op.operands, *op.results)
    if any(token_axis_of(value) is None and holds_length(value.shape) for value in values):
        return  # It depends on positions alone, and is computed for all of them at once.
    length = spans[-1].stop
    for span in spans:
        inputs = [_rows(value, arrays[value], span, length) for value in op.operands]
        made = op.at({"B": 2, "S": len(span)}).semantics(*inputs)
        for value, found in zip(op.results, made, strict=True):
            expected = _rows(value, arrays[value], span, length)
            difference = _difference(found, expected)
            if not difference <= tolerance:
                raise _refuted(op, span, length, difference)


def _rows(value: Value, array: Array, span: range, length: int) -> Array:
    """The rows of the tokens in `span`; a batch may be merged before the tokens on their axis."""
    axis = token_axis_of(value)
    if axis is None:
        return array
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    parted = array.reshape(*before, -1, length, *after)
    return np.take(parted, span, axis + 1).reshape(*before, -1, *after)


def _difference(found: Array, expected: Array) -> float:
    """The largest difference, relative to the largest number; nothing where infinities agree."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    scale = np.max(np.abs(b), where=np.isfinite(b), initial=np.finfo(np.float32).tiny)
    return float(np.max(np.abs(a[~same] - b[~same])) / scale)


def _refuted(op: Opaque, span: range, length: int, difference: float) -> CheckFailed:
    return CheckFailed(
        "HETC-V004",
        f"{op.target} is declared token-wise, and is not",
        at=op.loc or op.target,
        expected=f"the same for tokens {span.start} to {span.stop - 1} alone as among {length}",
        found=f"a relative difference of {difference:.0e}",
        do=f'take "{op.target}" out of token_wise in the policy, and the op out of the model',
    )
