"""Whether data is there before it is read: dependences and program against the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hetc.backends.dataflow.lint.cycles import find_cycle, followers_last
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.lint.work import Task
from hetc.backends.dataflow.schema import Block, Stage
from hetc.backends.dataflow.steps import Execute


@rule(
    "HETC-L216",
    "stages of one iteration do not wait for each other in a circle",
    "drop one of these dependences, or mark it carried",
)
def acyclic(facts: Facts) -> Faults:
    count = 0
    for block in facts.plan.blocks:
        edges = waits_within(block)
        count += sum(map(len, edges.values()))
        cycle = find_cycle(edges)
        if cycle:
            circle = " waits for ".join([*cycle, cycle[0]])
            yield Fault(f"block {block.id}", f"stages wait in a circle: {circle}")
    return f"{count} dependences"


def waits_within(block: Block) -> dict[str, list[str]]:
    """Stage -> the stages of the same block and iteration that it depends on."""
    own = {stage.id for stage in block.stages}
    return {
        stage.id: [d.stage for d in stage.depends if d.stage in own and not d.carried]
        for stage in block.stages
    }


@rule(
    "HETC-L217",
    "stages depend on those whose results they read",
    "add the dependence, carried where the result is of the iteration before",
)
def dependences(facts: Facts) -> Faults:
    needs = facts.work.needs
    bits, before = _ancestors(facts)
    blamed = set()
    for task, needed in needs.items():
        for maker, (value, *_) in needed.items():
            pair = task.stage, maker.stage
            if pair not in blamed and not before[task] & bits[maker]:
                blamed.add(pair)
                late = " of the iteration before" * (maker.iteration < task.iteration)
                made = value.op.kind if value.op is not None else value.name
                text = f"stage {task.stage} reads the {made} of stage {maker.stage}{late}"
                yield Fault(f"stage {task.stage}", f"{text} and does not wait for it")
    return f"{sum(map(len, needs.values()))} reads of results"


def _ancestors(facts: Facts) -> tuple[dict[Task, int], dict[Task, int]]:
    """Task -> its bit, and task -> the bits of all tasks that are over when it runs."""
    bits: dict[Task, int] = {}
    before: dict[Task, int] = {}
    for block in facts.plan.blocks:
        order = followers_last(waits_within(block))
        for iteration in range(block.repeat):
            for name in order:
                task = Task(block.id, iteration, name)
                mask = 0
                for earlier in _waits(facts, block, facts.stages[name], iteration):
                    mask |= before.get(earlier, 0) | bits.get(earlier, 0)
                bits[task], before[task] = 1 << len(bits), mask
    return bits, before


def _waits(facts: Facts, block: Block, stage: Stage, iteration: int) -> Iterator[Task]:
    """What a task waits for: its dependences, and the same stage's iteration before."""
    if iteration:
        yield Task(block.id, iteration - 1, stage.id)
    for depends in stage.depends:
        other = facts.block_of[depends.stage]
        if other.id != block.id:
            if facts.block_order[other.id] < facts.block_order[block.id]:
                yield Task(other.id, other.repeat - 1, depends.stage)
        elif iteration >= depends.carried:
            yield Task(block.id, iteration - depends.carried, depends.stage)


@rule(
    "HETC-L218",
    "the program runs no stage before those whose results it reads",
    "put the executions, and the blocks in the plan, in the order of the graph",
)
def program_order(facts: Facts) -> Faults:
    launched = _launched(facts)
    blamed = set()
    for task, needed in facts.work.needs.items():
        for maker in needed:
            pair = task.stage, maker.stage
            late = launched.get(maker, 0) > launched.get(task, 0)
            earlier = facts.block_order[maker.block] <= facts.block_order[task.block]
            if pair not in blamed and (late or not earlier):
                blamed.add(pair)
                text = f"stage {task.stage} reads what stage {maker.stage} makes"
                yield Fault(f"stage {task.stage}", f"{text}, and runs before it")
    return f"{len(launched)} runs of stages"


def _launched(facts: Facts) -> dict[Task, int]:
    """Task -> the execution of the program that runs it, counted from 0."""
    found: dict[Task, int] = {}
    done: Counter[str] = Counter()
    steps = [step for step in facts.launches() if isinstance(step, Execute)]
    for turn, step in enumerate(steps):
        for name in facts.sections[step.section].stages:
            if facts.block_of[name].id == step.block:
                found[Task(step.block, done[name], name)] = turn
                done[name] += 1
    return found
