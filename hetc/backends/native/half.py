"""The text of a half for one instruction set, from its planned stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hetc.backends.native.barriers import place_barriers
from hetc.backends.native.isa import Isa
from hetc.backends.native.module import module_text
from hetc.backends.native.plan import Planner
from hetc.backends.native.stages import Stage
from hetc.backends.native.values import Block
from hetc.backends.native.writer import Writer

Observe = Callable[[Writer, Stage | None], None]


def half_text(planned: Planner, isa: Isa, observe: Observe | None = None) -> str:
    """One MLIR module with the function `half`.

    `observe` may write code of its own behind every stage, which it gets, and behind every barrier
    (None): benchmarks count cycles there.
    """
    after = observe or (lambda w, stage: None)
    w = Writer(planned.values.memory.buffers, isa)
    waits = place_barriers([(block.times, block.accesses) for block in planned.values.blocks])
    for block, before in zip(planned.values.blocks, waits, strict=True):
        w.iterate(
            block.times,
            lambda block=block, before=before: _stages(w, block, before, after),  # type: ignore[misc]
        )
    return module_text(w.e)


def _stages(w: Writer, block: Block, waits: Sequence[bool], after: Observe) -> None:
    for stage, origin, wait in zip(block.stages, block.origins, waits, strict=True):
        # What the runtime names where this does not compile.
        w.e.line(f"// stage {type(stage).__name__} of {origin}")
        if wait:
            w.wait()
            after(w, None)
        stage.write(w)
        after(w, stage)
