"""The page of docs that says which core ATen op imports as what."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.frontends.aten_coverage import DTYPES, RANDOM, REFUSED, UNDEFINED, Covered, cover
from tests.frontends.aten_samples import core_ops, samples

MOST = 4
NOTES = {
    **dict.fromkeys(RANDOM, "drawn from a seed of the graph; the values are not PyTorch's"),
    **dict.fromkeys(UNDEFINED, "zeros; PyTorch leaves the values undefined"),
    "_embedding_bag.default": "the first result; the others serve the gradient",
    "native_dropout.default": "nothing is dropped, and a note says so",
    "nonzero.default": "the number of rows is a size that the data decides",
    "index.Tensor": "a mask picks a number of elements that the data decides",
    "_local_scalar_dense.default": "a number; as a size it is refused (HETC-I211)",
    "_fft_r2c.default": "complex results as pairs of real ones",
    "_fft_c2r.default": "complex operands as pairs of real ones",
    "as_strided.default": "of tensors that fill their memory; of others refused (HETC-I211)",
}
HEAD = """# Core ATen coverage

Made by `pytest tests/frontends/test_core_aten.py -m slow --update-golden` with PyTorch {version}.

The rows are the ops with `torch.Tag.core`: those that `torch.export` may leave in a program after
all of its decompositions. Each is called on PyTorch's own sample inputs (`op_db`), on at most
{most} of them for an element type, and on some made by hand where `op_db` has none. The columns
count the samples that import without an opaque op and give what eager PyTorch gives: integers and
bools exactly, floats within a relative and absolute error of {tolerances}. Results of 16 bits may
also lie within that of PyTorch's result in f32. Complex element types are left out, but for
Fourier transforms. The last columns say which ops of [the IR](ir-reference.md) a call becomes, and
what to know.

{count} ops, {samples} samples, {refused} refused.

| op | {columns} | imports as | note |
|---|{rule}|---|---|
"""


def page(sizes: Sequence[str]) -> str:
    """The text of docs/aten-coverage.md. `sizes` are ops whose results are sizes, which have tests
    of their own."""
    rows, passed, refused = [], 0, 0
    for name in sorted(core_ops()):
        if name in sizes:
            blank = " | ".join("" for _ in DTYPES)
            rows.append(f"| `{name}` | {blank} | a size | read where it is used |")
            continue
        found = {dtype: _covered(name, torch_type) for dtype, torch_type in DTYPES.items()}
        passed += sum(each.passed for each in found.values())
        refused += sum(each.refused for each in found.values())
        rows.append(_row(name, found))
    head = HEAD.format(
        version=torch.__version__.partition("+")[0],
        most=MOST,
        tolerances="1e-7 (f64), 1e-4 (f32), 4e-3 (f16), 2e-2 (bf16)",
        count=len(rows),
        samples=f"{passed:,}",
        refused=refused or "none",
        columns=" | ".join(DTYPES),
        rule="|".join("---:" for _ in DTYPES),
    )
    return head + "\n".join(rows) + "\n"


def _covered(name: str, dtype: torch.dtype) -> Covered:
    return cover(name, samples(name, dtype, MOST))


def _row(name: str, found: dict[str, Covered]) -> str:
    counts = " | ".join(str(each.passed or "") for each in found.values())
    kinds = sorted(set().union(*(each.kinds for each in found.values())))
    note = NOTES.get(name, "")
    if name in REFUSED:
        note = f"{note}; {REFUSED[name][1]}" if note else REFUSED[name][1]
    return f"| `{name}` | {counts} | {', '.join(kinds) or 'the operand itself'} | {note} |"
