"""One socket of the shipped target, and the same with all of its HBM bandwidth."""

from __future__ import annotations

import dataclasses

from hetc import targets
from hetc.backends.dataflow.simulate import speeds_of

SN40L = speeds_of(targets.load("sn40l:8"))
IDEAL = dataclasses.replace(
    SN40L,
    memories={
        tier: dataclasses.replace(memory, efficiency=1.0) for tier, memory in SN40L.memories.items()
    },
)
