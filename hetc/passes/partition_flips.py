"""At which workload or link another cut wins: the cut is solved again at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hetc.passes.partition_layout import Layout
from hetc.passes.partition_problem import Problem
from hetc.passes.workload import AnyWorkload
from hetc.targets import Link, Target

# The range in which flips are looked for beside those of the workload: GB/s in one direction.
_LINK_GBPS = (1, 1 << 12)


@dataclass(frozen=True)
class Flip:
    """The nearest value of one size at which another cut wins, all other sizes as they are.

    `winner` is `split`, `prefill` or `decode`: both devices, or the one that runs everything.
    `present` wins up to `until`, `winner` at `at`.
    """

    size: str
    present: str
    until: int
    at: int
    winner: str

    def __str__(self) -> str:
        what = {"split": "both devices"}.get(self.winner, f"the {self.winner} device alone")
        side = "from" if self.at > self.until else "up to"
        return f"{what} {side} {self.at} {self.size.replace('_', ' ')}"


def find_flips(
    layout: Layout,
    workload: AnyWorkload,
    targets: Sequence[Target],
    link: Link,
    winner: Callable[[Problem], str],
) -> tuple[Flip, ...]:
    """The nearest flips below and above the present sizes, exact where a cut wins on one stretch.

    Memories are not looked at: a larger workload that wins may be one that does not fit.
    """
    present = winner(layout.price(workload, targets, link))
    found: list[Flip] = []
    for size, (least, most) in {**workload.ranges, "link_gbps": _LINK_GBPS}.items():
        now = _now(size, workload, link)

        def wins(number: int, size: str = size) -> str:
            changed, wire = _changed(size, number, workload, link)
            return winner(layout.price(changed, targets, wire))

        ends = [end for end in (least, most) if end != now and (end < now) == (end == least)]
        found += [_bisect(wins, size, present, now, end) for end in ends if wins(end) != present]
    return tuple(found)


def _bisect(wins: Callable[[int], str], size: str, present: str, inside: int, outside: int) -> Flip:
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if wins(middle) == present:
            inside = middle
        else:
            outside = middle
    return Flip(size, present, inside, outside, wins(outside))


def _now(size: str, workload: AnyWorkload, link: Link) -> int:
    if size == "link_gbps":
        return max(1, round(link.bandwidth.value / 1e9))
    return workload.size(size)


def _changed(size: str, number: int, workload: AnyWorkload, link: Link) -> tuple[AnyWorkload, Link]:
    if size == "link_gbps":
        return workload, replace(link, bandwidth=replace(link.bandwidth, value=number * 1e9))
    return workload.resized(size, number), link
