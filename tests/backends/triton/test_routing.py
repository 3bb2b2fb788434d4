"""The choice of experts in the interpreter: the IR's `topk`, and slots in order of experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hetc.backends.triton.routing import (
    SortSpec,
    TopKSpec,
    sort_kernels,
    sort_launches,
    top_k_kernel,
    top_k_launch,
)
from hetc.bundle.launches import BufferRef
from hetc.ir.op import Value
from hetc.ir.ops.index import TopK
from hetc.ir.types import DTYPES, Array, TensorType, dtype_of
from hetc.runtime.handoff import size_of
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.launching import run_launch

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Few different ones, so that there are ties.
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 2.5, -1.0, -3e38, np.inf, -np.inf, np.nan, -np.nan])


@st.composite
def scores_and_k(draw: st.DrawFn) -> tuple[Array, int]:
    experts = draw(st.integers(1, 40))
    shape = draw(st.integers(1, 9)), experts
    scores = draw(hnp.arrays(np.float32, shape, elements=NUMBERS))
    element = draw(st.sampled_from(["f32", "f16", "bf16"]))
    with np.errstate(over="ignore"):
        return scores.astype(DTYPES[element].numpy), draw(st.integers(1, min(experts, 9)))


@quick
@given(scores_and_k(), st.integers(0, 3))
def test_top_k(interpreter: Interpreter, drawn: tuple[Array, int], config: int) -> None:
    scores, k = drawn
    rows, experts = scores.shape
    spec = TopKSpec(dtype_of(scores).name, experts, k)
    kernel = top_k_kernel(spec)
    scores_at, ids_at, values_at = (BufferRef(name=name) for name in ("scores", "ids", "values"))
    launch = top_k_launch(spec, kernel.id, scores=scores_at, ids=ids_at, values=values_at, rows="M")
    ids, values = np.zeros((rows, k), np.int32), np.zeros((rows, k), scores.dtype)
    arrays = {"scores": scores, "ids": ids, "values": values}
    chosen = kernel.configs[config % len(kernel.configs)]
    run_launch(interpreter, kernel, launch, arrays, {"M": rows}, chosen)
    value = Value(TensorType(dtype_of(scores), scores.shape))
    expected_values, expected_ids = TopK(value, k).semantics(scores)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(values.astype(np.float32), expected_values.astype(np.float32))


def sorted_slots(interpreter: Interpreter, spec: SortSpec, ids: Array) -> tuple[Array, Array]:
    """`order` and `ends` for `ids` [rows, k], from buffers that hold something else."""
    sizes = {"M": len(ids)}
    order, counts = (
        np.full(size_of(size, sizes, at="a buffer"), 12345, np.int32)
        for size in (spec.order_size("M"), spec.counts_size("M"))
    )
    arrays = {"ids": ids, "order": order, "counts": counts}
    arrays["ends"] = np.full(spec.experts, 12345, np.int32)
    kernels = sort_kernels(spec)
    count, place, slots = kernels
    launches = sort_launches(
        spec,
        (count.id, place.id, slots.id),
        ids=BufferRef(name="ids"),
        order=BufferRef(name="order"),
        ends=BufferRef(name="ends"),
        counts=BufferRef(name="counts"),
        rows="M",
    )
    for kernel, launch in zip(kernels, launches, strict=True):
        run_launch(interpreter, kernel, launch, arrays, sizes)
    return arrays["order"], arrays["ends"]


def check_order(interpreter: Interpreter, spec: SortSpec, ids: Array) -> None:
    """Slots of an expert stay in their order."""
    order, ends = sorted_slots(interpreter, spec, ids)
    flat = ids.reshape(-1)
    np.testing.assert_array_equal(order, np.argsort(flat, kind="stable"))
    np.testing.assert_array_equal(ends, np.cumsum(np.bincount(flat, minlength=spec.experts)))


@settings(quick, max_examples=30)
@given(
    st.builds(
        SortSpec,
        experts=st.integers(1, 40),
        k=st.integers(1, 4),
        chunk=st.sampled_from([16, 32, 1024]),
    ),
    st.integers(1, 150),
    st.data(),
)
def test_slots_are_in_order_of_experts(
    interpreter: Interpreter, spec: SortSpec, rows: int, data: st.DataObject
) -> None:
    # Of few experts, so that others are empty.
    used = data.draw(st.lists(st.integers(0, spec.experts - 1), min_size=1, max_size=5))
    ids = np.random.default_rng(rows).choice(used, (rows, spec.k)).astype(np.int32)
    check_order(interpreter, spec, ids)


@pytest.mark.parametrize(("experts", "k", "rows"), [(128, 8, 513), (512, 10, 310), (8, 2, 1024)])
def test_many_chunks_and_tiles(interpreter: Interpreter, experts: int, k: int, rows: int) -> None:
    ids = np.random.default_rng(rows).integers(0, experts, (rows, k)).astype(np.int32)
    ids[: rows // 2] = experts - 1
    check_order(interpreter, SortSpec(experts, k), ids)


def test_work_is_that_of_the_rows() -> None:
    count, place, _ = sort_kernels(SortSpec(experts=128, k=8))
    config = count.configs[0]
    # 8 slots of 4 bytes a token, 1,024 slots a block; 128 counts of 4 bytes for each of those.
    assert [count.work.blocks(config, rows) for rows in (1, 128, 8192)] == [1, 1, 64]
    assert count.work.tile(config, 8192).bytes == 4 * 1024
    assert [place.work.blocks(config, rows) for rows in (1, 8192)] == [1, 1]
    assert place.work.tile(config, 8192).bytes == 64 * 128 * 4
    chosen = top_k_kernel(TopKSpec("bf16", 128, 8))
    config = chosen.configs[0]
    rows = config.constants["BLOCK_ROWS"]
    assert chosen.work.tile(config, 8192).bytes == rows * 128 * 2
    assert chosen.work.blocks(config, 8192) == 8192 // rows
