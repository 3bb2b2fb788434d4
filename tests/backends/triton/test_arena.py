"""Buffers in one arena: apart while they are in use, aligned, and little more than must be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.triton.arena import place_buffers
from hetc.backends.triton.memory import ALIGNMENT, VirtualBuffer, aligned_size
from hetc.bundle.launches import Launch
from hetc.ir.dims import evaluate, parse_dim

SIZES = ["64*M", "100*M", "4*S", "8192*B", "12*M+512", "12*M+512", "4*B*S", "7"]
CALLS = [
    {"M": m, "B": b, "S": s} for m, b, s in ((1, 1, 1), (17, 3, 11), (4096, 1, 4096), (9, 9, 1))
]


def launch(reads: tuple[str, ...], writes: tuple[str, ...]) -> Launch:
    return Launch(kernel="", arguments=(), grid=((), (), ()), ops=(), reads=reads, writes=writes)


@st.composite
def lives(draw: st.DrawFn) -> tuple[dict[str, VirtualBuffer], list[Launch]]:
    """Buffers of random sizes, each written by a launch and read by a later one."""
    count = draw(st.integers(2, 12))
    writes: list[list[str]] = [[] for _ in range(count)]
    reads: list[list[str]] = [[] for _ in range(count)]
    buffers = {}
    for number in range(draw(st.integers(1, 14))):
        first = draw(st.integers(0, count - 1))
        last = draw(st.integers(first, count - 1))
        name, size = f"b{number}", parse_dim(draw(st.sampled_from(SIZES)))
        buffers[name] = VirtualBuffer(name, "f32", aligned_size(size))
        writes[first].append(name)
        reads[last].append(name)
    return buffers, [launch(tuple(r), tuple(w)) for r, w in zip(reads, writes, strict=True)]


@given(lives())
def test_what_is_in_use_at_once_lies_apart(
    drawn: tuple[dict[str, VirtualBuffer], list[Launch]],
) -> None:
    buffers, launches = drawn
    arena = place_buffers(buffers, launches, [])
    assert {buffer.name for buffer in arena.buffers} == set(buffers)
    for sizes in CALLS:
        ends = evaluate(parse_dim(arena.bytes), sizes)
        for number in range(len(launches)):
            used = sorted(
                (evaluate(parse_dim(b.offset), sizes), evaluate(parse_dim(b.bytes), sizes))
                for b in arena.buffers
                if b.first <= number <= b.last
            )
            assert all(offset % ALIGNMENT == 0 and offset + size <= ends for offset, size in used)
            assert all(one[0] + one[1] <= other[0] for one, other in pairwise(used))
        assert evaluate(parse_dim(arena.lower_bound), sizes) <= ends


def test_results_are_never_overwritten() -> None:
    size = aligned_size(parse_dim("64*M"))
    buffers = {name: VirtualBuffer(name, "f32", size) for name in ("logits", "later")}
    launches = [launch((), ("logits",)), launch((), ("later",)), launch(("later",), ())]
    kept = place_buffers(buffers, launches, ["logits"])
    assert kept.bytes == "512*M"
    assert [(b.name, b.last) for b in kept.buffers] == [("logits", 2), ("later", 2)]
    assert place_buffers(buffers, launches, []).bytes == "256*M"


def test_a_chain_needs_two_buffers() -> None:
    """Each launch reads what the one before wrote: two at a time, however long it is."""
    size = aligned_size(parse_dim("1000*M"))
    buffers = {f"b{n}": VirtualBuffer(f"b{n}", "f32", size) for n in range(9)}
    launches = [launch((f"b{n - 1}",) if n else (), (f"b{n}",)) for n in range(9)]
    arena = place_buffers(buffers, launches, [])
    assert arena.bytes == arena.lower_bound == "2048*M"
