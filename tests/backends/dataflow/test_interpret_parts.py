"""The parts of the plan interpreter by themselves: layout, FIFOs, products, exchanges, rings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.dataflow.interpret.exchange import exchange
from hetc.backends.dataflow.interpret.fifo import Fifo
from hetc.backends.dataflow.interpret.layout import Matrix, lane_parts, shares
from hetc.backends.dataflow.interpret.products import Product
from hetc.backends.dataflow.interpret.states import StoredState
from hetc.backends.dataflow.schema import Allocation, Collective, Stage, Tiling, Units
from hetc.errors import PlanError
from hetc.ir.op import Value
from hetc.ir.ops.control import AllGather, AllReduce
from hetc.ir.types import F32, Array, TensorType

TURN = (0, 0, 0)


def matrix(name: str, outputs: int, inputs: int, *pieces: tuple[int, int]) -> Matrix:
    return Matrix(name, outputs, inputs, np.dtype(np.float32), pieces or ((0, outputs),))


def test_the_layout_of_two_matrices_side_by_side() -> None:
    """The example of a page: 3 + 2 outputs of 4 inputs in tiles of 4 x 3."""
    tiles = shares((matrix("a", 3, 4), matrix("b", 2, 4)), Tiling(outputs=4, inputs=3, rows=1))
    found = [(s.tensor, s.rows, s.columns, s.offset, s.bytes) for s in tiles]
    assert found == [
        ("a", (0, 3), (0, 3), 0, 36),
        ("b", (0, 1), (0, 3), 0, 12),
        ("a", (0, 3), (3, 4), 36, 12),
        ("b", (0, 1), (3, 4), 12, 4),
        ("b", (1, 2), (0, 3), 16, 12),
        ("b", (1, 2), (3, 4), 28, 4),
    ]


@st.composite
def cut_matrices(draw: st.DrawFn) -> tuple[list[Matrix], Tiling]:
    inputs = draw(st.integers(1, 9))
    made = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        outputs = draw(st.integers(1, 9))
        at = draw(st.integers(0, outputs - 1))
        pieces = ((0, at), (at, outputs)) if at else ((0, outputs),)
        made.append(matrix(name, outputs, inputs, *pieces))
    sizes = st.integers(1, 12)
    return made, Tiling(outputs=draw(sizes), inputs=draw(sizes), rows=1)


@given(cut_matrices())
def test_every_element_is_in_one_share(cut: tuple[list[Matrix], Tiling]) -> None:
    matrices, tiling = cut
    seen = {m.tensor: np.zeros((m.outputs, m.inputs), int) for m in matrices}
    ends: dict[tuple[str, int], int] = {}
    for share in shares(matrices, tiling):
        seen[share.tensor][slice(*share.rows), slice(*share.columns)] += 1
        assert share.offset == ends.get((share.tensor, share.piece), 0)
        assert share.bytes == 4 * share.shape[0] * share.shape[1]
        ends[share.tensor, share.piece] = share.offset + share.bytes
    assert all((count == 1).all() for count in seen.values())
    for m in matrices:
        for number, (first, stop) in enumerate(m.pieces):
            assert ends[m.tensor, number] == 4 * (stop - first) * m.inputs


@given(cut_matrices(), st.integers(1, 4), st.integers(1, 3))
def test_products_of_tiles_are_the_product(
    cut: tuple[list[Matrix], Tiling], split_k: int, rows: int
) -> None:
    matrices, tiling = cut
    rng = np.random.default_rng(0)
    weights = {m.tensor: rng.normal(size=(1, m.outputs, m.inputs)) for m in matrices}
    x = rng.normal(size=(rows, matrices[0].inputs))
    products = {m.tensor: Product((x,), m.outputs, split_k) for m in matrices}
    for share in shares(matrices, tiling):
        part = weights[share.tensor][:, slice(*share.rows), slice(*share.columns)]
        products[share.tensor].add(share, part.swapaxes(1, 2))
    for name, product in products.items():
        np.testing.assert_allclose(product.result(None)[0], x @ weights[name][0].T)


@given(st.integers(1, 20), st.integers(1, 7))
def test_lanes_share_all_inputs_of_a_tile(width: int, split_k: int) -> None:
    parts = list(lane_parts(width, split_k))
    assert [at for _, (first, stop) in parts for at in range(first, stop)] == list(range(width))
    assert len(parts) <= split_k


def bytes_of(text: str) -> Array:
    return np.frombuffer(text.encode(), np.uint8).reshape(1, -1)


def test_a_fifo_gives_its_bytes_in_order() -> None:
    fifo = Fifo("s", sockets=1, credits=6)
    fifo.push(bytes_of("abcd"), TURN)
    assert not fifo.has_room(3)
    fifo.push(bytes_of("ef"), TURN)
    taken = [fifo.pop(n, TURN).tobytes().decode() for n in (1, 4, 1)]
    assert taken == ["a", "bcde", "f"]
    assert (fifo.level, fifo.taken) == (0, 6)


def test_a_fifo_knows_for_which_turn_it_was_filled() -> None:
    fifo = Fifo("b1.s1.w", sockets=1, credits=6)
    fifo.push(bytes_of("abcd"), (0, 1, 2))
    with pytest.raises(PlanError, match="token 0, step 1, iteration 2"):
        fifo.pop(2, (0, 1, 3))


def stage(nbytes: int, algorithm: str, chunks: int = 8) -> Stage:
    sent = Collective(
        algorithm="two-shot" if algorithm == "two-shot" else "one-shot",
        bytes=nbytes,
        chunks=chunks,
        wire_cycles=0.0,
        latency_cycles=0.0,
    )
    return Stage(
        id="b0.s0",
        name="sum",
        template="all_reduce",
        ops=(),
        units=Units(lanes=1),
        rate_bytes_per_cycle=1.0,
        work_cycles=0.0,
        latency_cycles=0.0,
        bound="link",
        collective=sent,
    )


def vectors(sockets: int) -> tuple[Sequence[Array], Value]:
    rng = np.random.default_rng(sockets)
    held = [rng.normal(size=(1, 1, 13)).astype(np.float32) for _ in range(sockets)]
    return held, Value(TensorType(F32, (1, 1, 13)))


@pytest.mark.parametrize("algorithm", ["one-shot", "two-shot"])
@pytest.mark.parametrize(("sockets", "group"), [(1, 1), (2, 2), (4, 4), (4, 2), (8, 4)])
def test_sums_over_groups_of_sockets(algorithm: str, sockets: int, group: int) -> None:
    """Groups are one holder of each part: sockets r, r + holders, ..."""
    held, value = vectors(sockets)
    found = exchange(AllReduce(value, group), tuple(held), stage(52, algorithm))
    holders = sockets // group
    for rank, total in enumerate(found):
        wanted = sum(held[rank % holders :: holders])
        np.testing.assert_allclose(total, wanted, rtol=1e-6)


def test_parts_are_joined_in_the_order_of_the_sockets() -> None:
    held, value = vectors(4)
    found = exchange(AllGather(value, 2, 4), tuple(held), stage(4 * 52, "one-shot"))
    for joined in found:
        np.testing.assert_array_equal(joined, np.concatenate(held, axis=2))


def test_an_exchange_of_other_bytes_is_refused() -> None:
    held, value = vectors(2)
    with pytest.raises(PlanError, match="HETC-L311"):
        exchange(AllReduce(value, 2), tuple(held), stage(48, "one-shot"))


def state(capacity: int, ring: int | None) -> StoredState:
    """Two sequences of rows of 8 bytes, at address 1000, one iteration 500 behind the other."""
    piece = Allocation(
        block="b1",
        tensor="key",
        kind="state",
        use="state",
        tier="hbm",
        rows=(0, 2 * capacity),
        offset=1000,
        bytes=16 * capacity,
        stride=500,
        count=2,
        live=("b1", "b1"),
    )
    value = Value(TensorType(F32, (2, 1, 2)))
    return StoredState(value, piece, 2, capacity, 8, grows=True, ring=ring, is_written=True)


def test_rows_of_a_ring_come_in_logical_order() -> None:
    ring = state(capacity=4, ring=4)
    assert ring.kept(3) == 3
    assert ring.kept(6) == 4
    spans = [(span.address, span.bytes) for span in ring.spans(1, 2, 6)]
    # Positions 2 and 3 lie behind 4 and 5, for each of the two sequences.
    assert spans == [(1516, 16), (1500, 16), (1548, 16), (1532, 16)]


def test_a_state_without_room_is_refused() -> None:
    assert list(state(capacity=4, ring=None).spans(0, 0, 4))
    with pytest.raises(PlanError, match="HETC-L309"):
        list(state(capacity=4, ring=None).spans(0, 4, 5))
