"""Every pass and pipeline by name, loaded when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hetc.errors import UsageError
from hetc.ir.graph import Graph
from hetc.ir.verify import Stage
from hetc.passes.manager import Item, Pass, PassOptions, on_forward, on_graphs

Adapter = Callable[[Any], Callable[[Item, PassOptions], Item]]


def _plain(run: Callable[[Graph], Graph]) -> Callable[[Item, PassOptions], Item]:
    return on_graphs(lambda graph, _: run(graph))


def _evaluating(run: Callable[..., Item]) -> Callable[[Item, PassOptions], Item]:
    return on_forward(lambda graph, given: run(graph, given.weights, given.max_context))


def _proving(run: Callable[..., Any]) -> Callable[[Item, PassOptions], Item]:
    return on_forward(lambda graph, given: run(graph, given.weights, given.max_context).graph)


@dataclass(frozen=True)
class _Entry:
    """Where a pass lives (`module:function`), how it is called, and what `Pass` says of it."""

    place: str
    adapt: Adapter = _plain
    requires: tuple[str, ...] = ()
    ensures: tuple[str, ...] = ()
    stage: Stage = Stage.IMPORTED


_PASSES: dict[str, _Entry] = {
    "fold-uniform": _Entry("fold_uniform:fold_uniform", _evaluating),
    "fuse-linear": _Entry("fuse_linear:fuse_linear"),
    "inline-calls": _Entry("inline:inline_calls"),
    "lift-activations": _Entry("lift_activation:lift_activations"),
    "lift-attention": _Entry("lift_attention:lift_attention"),
    "lift-moe": _Entry("lift_moe:lift_moe"),
    "lift-norms": _Entry("lift_norm:lift_norms"),
    "lift-rope": _Entry("lift_rope:lift_rope"),
    "lift-sinks": _Entry("lift_sinks:lift_sinks"),
    "outline-layers": _Entry("outline_layers:outline_layers"),
    "prove-causal": _Entry("prove_causal:prove_causal", _proving, ensures=("causal",)),
    "scan-sums": _Entry("scan_sums:scan_sums"),
    "shift-tokens": _Entry("shift_tokens:shift_tokens"),
    "simplify": _Entry("simplify:simplify", stage=Stage.CANONICAL),
    "synthesize-state": _Entry(
        "synthesize_state:synthesize_state", _evaluating, requires=("causal",)
    ),
}

CANONICALIZE: tuple[str, ...] = (
    "simplify",  # literals where frontends leave constant tensors: what the patterns look for
    "fuse-linear",  # biases join before norms could take them for shifts
    "lift-norms",
    "lift-activations",
    "simplify",  # casts that stood around what was lifted
    "lift-rope",
    "lift-sinks",  # before lift-attention, which knows sinks as one more column
    "lift-attention",  # after rope, whose halves would look like two products a head
    "simplify",  # shares masks, so that each is proven once
    "lift-moe",
    "fuse-linear",  # experts leave products behind that are linear after all
    "simplify",
)

PIPELINES: dict[str, tuple[str, ...]] = {
    "canonicalize": CANONICALIZE,
    "default": (
        *CANONICALIZE,
        "fold-uniform",  # a mask that no longer hides behind a running sum can be proven
        "prove-causal",
        "scan-sums",
        "shift-tokens",
        "synthesize-state",
        "simplify",  # slices of positions that begin at 0
        "outline-layers",  # last: the other passes look for patterns within one graph
    ),
}


def load_pass(name: str) -> Pass:
    """The pass called `name`; raises UsageError (HETC-U022) with the nearest names for another."""
    entry = _PASSES.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, [*_PASSES, *PIPELINES])
        raise UsageError(
            "HETC-U022",
            f"no pass or pipeline is called {name}",
            expected=", ".join(near) or ", ".join([*PIPELINES, *_PASSES]),
        )
    module, _, attribute = entry.place.partition(":")
    run = getattr(importlib.import_module(f"hetc.passes.{module}"), attribute)
    return Pass(
        name,
        entry.adapt(run),
        (inspect.getdoc(run) or "").split("\n\n")[0].replace("\n", " "),
        frozenset(entry.requires),
        frozenset(entry.ensures),
        entry.stage,
    )


def load_pipeline(names: str | Iterable[str]) -> list[Pass]:
    """The passes of `names`, in order: pass and pipeline names, or both in one text with commas."""
    listed = names.split(",") if isinstance(names, str) else list(names)
    steps: list[str] = []
    for name in (item.strip() for item in listed):
        steps += PIPELINES.get(name, (name,))
    return [load_pass(step) for step in steps]


def pass_names() -> tuple[str, ...]:
    """Every pass, in alphabetical order."""
    return tuple(_PASSES)
