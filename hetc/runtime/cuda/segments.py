"""How a prefill is cut: after each layer, its states begin their way to the host."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.bundle import Contract
from hetc.bundle.launches import LaunchPlan


@dataclass(frozen=True)
class Segment:
    """The launches from `first` to `last`, both included, after which `states` are complete."""

    first: int
    last: int
    states: tuple[str, ...]


def segments(plan: LaunchPlan, contract: Contract) -> tuple[Segment, ...]:
    """All launches in order; states of one layer leave together."""
    written = {name: index for index, launch in enumerate(plan.launches) for name in launch.writes}
    complete: dict[int | str, int] = {}
    for spec in contract.states:
        layer = spec.name if spec.layer is None else spec.layer
        complete[layer] = max(complete.get(layer, 0), written[spec.name])
    leaving: dict[int, list[str]] = {}
    for spec in contract.states:
        layer = spec.name if spec.layer is None else spec.layer
        leaving.setdefault(complete[layer], []).append(spec.name)
    leaving.setdefault(len(plan.launches) - 1, [])
    ends = sorted(leaving)
    starts = [0, *(end + 1 for end in ends)]
    return tuple(
        Segment(first, last, tuple(leaving[last]))
        for first, last in zip(starts, ends, strict=False)
    )
