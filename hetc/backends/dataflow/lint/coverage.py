"""All the work, and each piece once: ops in stages, stages in sections, sections in the program."""

from __future__ import annotations

from collections import Counter

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.lint.work import computes
from hetc.backends.dataflow.steps import (
    Advance,
    Configure,
    Execute,
    Loop,
)
from hetc.ir.ops.control import Call


@rule(
    "HETC-L210",
    "every op that computes something is in exactly one stage",
    "add the op to the stage that should run it, or take it out of all others",
)
def ops(facts: Facts) -> Faults:
    work = facts.work
    # The ops of the main graph are spread over several blocks; a layer has all of its own.
    owners: dict[str, list[str]] = {}
    for block in facts.plan.blocks:
        place = block.graph if work.is_main(block) else f"{block.graph} in {block.id}"
        owners.setdefault(place, []).append(block.id)
    total = 0
    for place, blocks in owners.items():
        found: dict[int, list[str]] = {}
        for name in blocks:
            for stage in facts.blocks[name].stages:
                for index in stage.ops:
                    found.setdefault(index, []).append(stage.id)
        graph = work.graph(facts.blocks[blocks[0]])
        for index, op in enumerate(graph.ops):
            stages = found.get(index, [])
            needed = int(computes(op) or (isinstance(op, Call) and graph is not work.main))
            total += needed
            if len(stages) < needed:
                text = f"op {index} of {place}, {op.kind} {op.loc}".rstrip() + ", is in no stage"
                yield Fault(f"{place}, op {index}", text, 0, 1)
            elif len(stages) > 1:
                text = f"op {index} of {place}, {op.kind}, is in {', '.join(stages)}"
                yield Fault(f"{place}, op {index}", text, len(stages), 1)
            elif stages and graph is work.main and isinstance(op, Call):
                text = f"op {index} of {place} is a call: a block runs it, not {stages[0]}"
                yield Fault(f"{place}, op {index}", text)
    if not any(work.is_main(block) for block in facts.plan.blocks):
        left = sum(map(computes, work.main.ops))
        total += left
        if left:
            yield Fault(work.main.name, f"no block has the {left} ops of the main graph", 0, left)
    return f"{total} ops"


@rule(
    "HETC-L211",
    "every call of a layer is one iteration of one block, in order",
    "list the calls of the main graph once each, ascending",
)
def calls(facts: Facts) -> Faults:
    main = facts.work.main
    counted = Counter(index for block in facts.plan.blocks for index in block.calls)
    total = 0
    for index, op in enumerate(main.ops):
        if isinstance(op, Call):
            total += 1
            if counted[index] != 1:
                text = f"op {index} of {main.name}, a call of {op.callee.name}"
                text += f", is {counted[index]} iterations of blocks"
                yield Fault(f"{main.name}, op {index}", text, counted[index], 1)
    for block in facts.plan.blocks:
        if list(block.calls) != sorted(block.calls):
            text = f"the calls of {block.id} are not in the order of the main graph"
            yield Fault(f"block {block.id}", text)
    return f"{total} calls"


@rule("HETC-L212", "every stage is in a section", "add the stage to a section")
def sections(facts: Facts) -> Faults:
    counted = Counter(name for section in facts.plan.sections for name in section.stages)
    for stage in facts.stages:
        if not counted[stage]:
            yield Fault(f"stage {stage}", f"stage {stage} is in no section", 0, 1)
    for section in facts.plan.sections:
        for name, count in Counter(section.stages).items():
            if count > 1:
                text = f"section {section.id} lists stage {name} {count} times"
                yield Fault(f"section {section.id}", text, count, 1)
    return f"{len(facts.stages)} stages in {len(facts.plan.sections)} sections"


@rule(
    "HETC-L213",
    "the program runs every stage once an iteration",
    "let the counts of loops and executions match the block's repeat",
)
def counts(facts: Facts) -> Faults:
    for step in facts.plan.program.steps:
        if not isinstance(step, Loop):
            continue
        repeat = facts.blocks[step.block].repeat
        if step.count != repeat:
            text = f"the loop over {step.block} runs {step.count} of its {repeat} iterations"
            yield Fault(f"loop over {step.block}", text, step.count, repeat)
        for inner in step.body:
            if isinstance(inner, Execute) and inner.block != step.block:
                text = f"the loop over {step.block} executes {inner.block}"
                yield Fault(f"loop over {step.block}", text)
    for block in facts.plan.blocks:
        runs: Counter[str] = Counter()
        for section, count in facts.runs[block.id]:
            for stage in dict.fromkeys(facts.sections[section].stages):
                runs[stage] += count
        for stage in (item.id for item in block.stages):
            if runs[stage] != block.repeat:
                text = f"the program runs stage {stage} {runs[stage]} times"
                text += f", its block has {block.repeat} iterations"
                yield Fault(f"stage {stage}", text, runs[stage], block.repeat)
    return f"{sum(block.repeat for block in facts.plan.blocks)} iterations"


@rule(
    "HETC-L214",
    "what is executed is the section that was loaded last",
    "load the section right before it is executed",
)
def loaded(facts: Facts) -> Faults:
    # Twice, because a token begins with what the last one left on the chip.
    present: str | None = None
    blamed = set()
    for _ in range(2):
        for step in facts.launches():
            if isinstance(step, Configure) or present is None:
                present = step.section
            elif step.section != present and step.section not in blamed:
                blamed.add(step.section)
                text = f"the program executes {step.section} while {present} is on the chip"
                yield Fault(f"section {step.section}", text)
    return f"{len(facts.plan.sections)} sections"


@rule(
    "HETC-L215",
    "a token ends by moving the row pointer by one row",
    "end the program with one advance of one row",
)
def advance(facts: Facts) -> Faults:
    steps = facts.plan.program.steps
    found = [step for step in steps if isinstance(step, Advance)]
    if len(found) != 1 or not isinstance(steps[-1], Advance):
        text = f"the program has {len(found)} advances, not one at its end"
        yield Fault("the program", text, len(found), 1)
    for step in found:
        if step.rows != 1:
            text = f"the program moves the row pointer by {step.rows}, a step makes 1 row"
            yield Fault("the program", text, step.rows, 1)
    return f"{len(found)} advance"
