"""Number formats that a prediction gives to weights and state, whatever the model's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from hetc.errors import UsageError
from hetc.ir.dims import evaluate
from hetc.ir.graph import Program
from hetc.ir.ops.source import Weight
from hetc.passes.cost import OpCost, PhaseCosts, Work
from hetc.passes.workload import Phase
from hetc.targets import bytes_per_value, canonical_dtype

_PRODUCTS = frozenset({"linear", "expert_linear"})


@dataclass(frozen=True)
class Precision:
    """Formats of the weights of products by glob of op names, the last match first, and of state.

    What matches no glob, all other weights, and state where `state` is empty keep the model's type.
    Products are computed in the format of their weights, attention in that of state, or in the next
    wider one of the device.
    """

    weights: tuple[tuple[str, str], ...] = ()
    state: str = ""

    def of_weights(self, cost: OpCost) -> str:
        """The format of the weights that an op reads; empty where they keep the model's."""
        if cost.kind not in _PRODUCTS:
            return ""
        matches = (name for glob, name in reversed(self.weights) if fnmatchcase(cost.name, glob))
        return next(matches, "")


def parse_precision(weights: Iterable[str] = (), state: str = "") -> Precision:
    """From `f8` or `*.mlp.*=bfp4`, and `bfp8`; raises UsageError (HETC-U010), TargetError
    (HETC-T012) for a format that there is not."""
    pairs = []
    for text in weights:
        glob, equals, name = text.rpartition("=")
        if (equals and not glob) or not re.fullmatch(r"\w+", name):
            raise UsageError(
                "HETC-U010", "no such format", expected="FORMAT or GLOB=FORMAT", found=text
            )
        pairs.append((glob or "*", canonical_dtype(name)))
    return Precision(tuple(pairs), canonical_dtype(state) if state else "")


@dataclass(frozen=True)
class Item:
    """Equal ops of a phase: how many, their work, and what their formats make of its bytes."""

    count: int
    work: Work
    weight_ratio: float = 1.0
    state_ratio: float = 1.0


def items_of(costs: PhaseCosts, precision: Precision) -> tuple[Item, ...]:
    """The ops of a phase that take anything, equal ones together."""
    counts: dict[tuple[Work, str], int] = {}
    for cost in costs:
        if not cost.work.is_free:
            key = cost.work, precision.of_weights(cost)
            counts[key] = counts.get(key, 0) + 1
    return tuple(_item(count, work, name, precision) for (work, name), count in counts.items())


def _item(count: int, work: Work, weights: str, precision: Precision) -> Item:
    own = bytes_per_value(work.dtype)
    state = precision.state if work.kind == "attention" else ""
    return Item(
        count,
        replace(work, dtype=weights or state or work.dtype),
        bytes_per_value(weights) / own if weights else 1.0,
        bytes_per_value(precision.state) / own if precision.state else 1.0,
    )


def weight_bytes(costs: Mapping[Phase, PhaseCosts], precision: Precision) -> float:
    """Bytes of all weights that a phase reads, tied ones once."""
    held: dict[str, float] = {}
    for phase in costs.values():
        types = {op.name: op.type for op in phase.graph.ops if isinstance(op, Weight)}
        for cost in phase:
            name = precision.of_weights(cost)
            for weight in cost.weights & types.keys():
                nbytes = float(evaluate(types[weight].nbytes, {}))
                if name:
                    nbytes *= bytes_per_value(name) / bytes_per_value(types[weight].dtype.name)
                # A tied table is held once, in the wider of the two.
                held[weight] = max(held.get(weight, 0.0), nbytes)
    return sum(held.values())


def state_bytes(program: Program, batch: int, tokens: int, precision: Precision) -> float:
    """Bytes of the state of `batch` sequences of `tokens` tokens each."""
    total = 0.0
    for spec in program.states:
        nbytes = float(evaluate(spec.type.nbytes, {"B": batch, "P": tokens}))
        own = bytes_per_value(spec.type.dtype.name)
        total += nbytes * (bytes_per_value(precision.state) / own if precision.state else 1.0)
    return total
