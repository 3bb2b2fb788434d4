"""The pass manager: runs passes one after the other, checks what each leaves, and blames the right
one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hetc.errors import HetcError, InternalError, IRError, UsageError
from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import WeightLookup, no_weights
from hetc.ir.verify import Stage, verify

Item = Graph | Program

# The interpreter's own complaints are about weights and inputs, not about the pass that ran it.
_INTERPRETER = "HETC-X02"


@dataclass(frozen=True)
class PassOptions:
    """What passes may need beside the graph: the data of its weights, and the longest sequence."""

    weights: WeightLookup = no_weights
    max_context: int = 4096


@dataclass(frozen=True)
class Pass:
    """One pass.

    `requires` and `ensures` name facts that the verifier cannot know (`causal`). `stage` is what
    the verifier holds the result to.
    """

    name: str
    run: Callable[[Item, PassOptions], Item]
    summary: str
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset()
    stage: Stage = Stage.IMPORTED


def run_passes(
    passes: Sequence[Pass],
    item: Item,
    options: PassOptions | None = None,
    given: frozenset[str] = frozenset(),
) -> Item:
    """Run `passes` on `item`, of which the facts `given` are known; the verifier looks on.

    Raises UsageError (HETC-U020) where a pass requires a fact that none before it ensures, and
    InternalError, with the code of the rule that was broken or HETC-Z001, where a pass breaks the
    IR or fails. What a pass says about the model goes through, with a note that names the pass.
    """
    check_order(passes, given)
    verify(item)
    for index, step in enumerate(passes):
        before = ", ".join(ran.name for ran in passes[:index]) or "no other pass"
        try:
            item = step.run(item, options or PassOptions())
            verify(
                item, max(step.stage, Stage.STATEFUL) if isinstance(item, Program) else step.stage
            )
        except HetcError as error:
            if not isinstance(error, IRError) or error.code.startswith(_INTERPRETER):
                error.add_note(f"in the pass {step.name}, after {before}")
                raise
            problem = f"the pass {step.name} broke a rule of the IR: {error.what}"
            raise _internal(error.code, problem, error.at, error.found, before) from error
        except Exception as error:
            problem = f"the pass {step.name} failed"
            found = f"{type(error).__name__}: {error}"
            raise _internal("HETC-Z001", problem, "", found, before) from error
    return item


def check_order(passes: Sequence[Pass], given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError (HETC-U020) unless every fact that a pass requires is ensured before it."""
    facts = set(given)
    for step in passes:
        missing = ", ".join(sorted(step.requires - facts))
        if missing:
            raise UsageError(
                "HETC-U020",
                f"the pass {step.name} comes too early",
                expected=f"a graph that is known to be {missing}",
                found=", ".join(sorted(facts)) or "nothing is known of it",
                do="run a pass that ensures it first; `hetc opt --help` lists what each ensures",
            )
        facts |= step.ensures


def on_graphs(run: Callable[[Graph, PassOptions], Graph]) -> Callable[[Item, PassOptions], Item]:
    """A pass over graphs as one over items: of a program it changes both halves, not `forward`."""

    def run_item(item: Item, options: PassOptions) -> Item:
        if isinstance(item, Graph):
            return run(item, options)
        prefill, decode = (run(half, options) for half in (item.prefill, item.decode))
        return replace(item, prefill=prefill, decode=decode)

    return run_item


def on_forward(run: Callable[[Graph, PassOptions], Item]) -> Callable[[Item, PassOptions], Item]:
    """A pass over the stateless graph alone; UsageError (HETC-U021) for a program."""

    def run_item(item: Item, options: PassOptions) -> Item:
        if isinstance(item, Graph):
            return run(item, options)
        raise UsageError(
            "HETC-U021",
            "this pass takes a stateless graph",
            found="a program, which has prefill and decode already",
        )

    return run_item


def _internal(code: str, what: str, at: str, found: str, before: str) -> InternalError:
    ran = f"{found}; {before} ran before it" if found else f"{before} ran before it"
    return InternalError(
        code, what, at=at, found=ran, do="report it with the graph that went in (hetc opt takes it)"
    )
