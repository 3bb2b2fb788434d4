"""How the pictures of one plan name and colour its stages: by one number and fill in all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Block, Plan, Stage
from hetc.report.plots.scene import STAGE_FILLS

_MANY = 4


@dataclass(frozen=True)
class Shown:
    """A stage with its number in the plan, from 1, and the fill of its cells."""

    number: int
    stage: Stage
    block: Block
    fill: str


def shown_stages(plan: Plan) -> dict[str, Shown]:
    """Every stage by its id, in the order of the plan. Where many are larger, stages of one lane
    are grey, so that there are colours for the others."""
    found: dict[str, Shown] = {}
    fills = itertools.cycle(STAGE_FILLS)
    sizes = [stage.units.lanes for block in plan.blocks for stage in block.stages]
    least = 2 if sum(size > 1 for size in sizes) > _MANY else 1
    for block in plan.blocks:
        for stage in block.stages:
            fill = next(fills) if stage.units.lanes >= least else "grey"
            found[stage.id] = Shown(len(found) + 1, stage, block, fill)
    return found


def block_title(block: Block) -> str:
    """`b1 · layer0 × 32`: a block, its graph, and how often it runs."""
    times = f" × {block.repeat}" if block.repeat > 1 else ""
    return f"{block.id} · {block.graph}{times}"
