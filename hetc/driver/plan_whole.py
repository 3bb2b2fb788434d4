"""Plan a model without phases: lower its one graph, price every op on both devices, and cut it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hetc.backends.onnx import OnnxBackend
from hetc.driver.lower import LoweredWhole, lower_whole, weight_sizes
from hetc.driver.options import USUAL_PROMPT, CompileOptions
from hetc.driver.policy import Policy
from hetc.errors import Reason
from hetc.ir.dims import Dim
from hetc.ir.graph import Graph
from hetc.ir.model import Model, SizeRange
from hetc.passes.check_whole import CheckedWhole, check_whole
from hetc.passes.decisions import decide
from hetc.passes.outline_layers import outline_layers
from hetc.passes.partition import Cut, CutOptions, partition
from hetc.passes.simplify import simplify
from hetc.passes.workload import OneCall, Phase
from hetc.targets import Link, Target

# The call that the compiled graph is checked with.
_CHECKED_BATCH, _CHECKED_OTHERS = 2, 8


@dataclass(frozen=True, eq=False)
class PlannedWhole:
    """A model without phases with everything decided about it, before a bundle is written."""

    lowered: LoweredWhole
    options: CompileOptions
    call: OneCall
    cut: Cut
    decisions: Mapping[str, Any]
    targets: Mapping[Phase, Target]

    @property
    def model(self) -> Model:
        return self.lowered.model

    @property
    def no_phases(self) -> Reason:
        """Why it has none."""
        assert self.model.no_phases is not None, "a model without phases"
        return self.model.no_phases

    @cached_property
    def outlined(self) -> Graph:
        """The graph with repeated layers as calls of one graph."""
        return outline_layers(simplify(self.lowered.whole.forward))

    @cached_property
    def stored_weights(self) -> dict[str, int]:
        """Name and number of elements of every weight that the graph reads."""
        return weight_sizes(self.lowered.whole.forward)

    @property
    def parameters(self) -> int:
        """Elements of all weights, tied ones once, and quantized ones as what they stand for."""
        quantized = self.lowered.quantized
        return quantized.parameters if quantized else sum(self.stored_weights.values())

    @cached_property
    def onnx_reasons(self) -> tuple[Reason, ...]:
        """Why the graph cannot be an ONNX file; empty where it can."""
        return tuple(dict.fromkeys(OnnxBackend().validate(self.outlined)))

    @property
    def executors(self) -> tuple[str, ...]:
        """What can run it; nothing where it has no weights."""
        if self.model.weights is None:
            return ()
        return (*(() if self.onnx_reasons else ("onnx",)), "reference")

    @property
    def fallbacks(self) -> tuple[Reason, ...]:
        """Every op that did not get its first choice, with the reason."""
        quantized = self.lowered.quantized
        left = () if quantized is None else quantized.result.left
        return (*self.model.opaque, *left, *self.onnx_reasons)


def plan_whole(
    model: Model,
    options: CompileOptions,
    policy: Policy,
    targets: Mapping[Phase, Target],
    devices: Mapping[Phase, Target],
    link: Link,
    step: Callable[[str], None],
) -> PlannedWhole:
    """Lower and cut a model without phases; `devices` are the calibrated `targets`.

    Raises UsageError (HETC-U018) for options that need phases, PartitionError where the targets are
    too small.
    """
    step("lowering the graph")
    lowered = lower_whole(model, options, policy)
    graph = lowered.whole.forward
    others = options.prompt_tokens or USUAL_PROMPT
    call = OneCall(sizes_of(graph, model.sizes, options.batch, others))
    step("cutting")
    cut_options = CutOptions(pins=policy.pins, granularity=policy.granularity)
    cut = partition(lowered.whole, call, devices, link, options=cut_options)
    return PlannedWhole(lowered, options, call, cut, decide(cut), targets)


def sizes_of(
    graph: Graph, ranges: Mapping[str, SizeRange], batch: int, others: int
) -> dict[str, int]:
    """A number for every symbol of the inputs: `batch` for what is the first axis of one, `others`
    for the rest, as near as the model's range allows."""
    found: dict[str, int] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape):
            for name in dim.symbols if isinstance(dim, Dim) else ():
                wanted = batch if axis == 0 else others
                low, high = ranges.get(name, (1, None))
                found.setdefault(name, max(low, min(wanted, high or wanted)))
    return found


def checked_whole(planned: PlannedWhole) -> CheckedWhole:
    """The compiled graph against the imported one, on a small call; raises CheckFailed.

    Both read the weights as the bundle has them. Where matrices were quantized, the imported graph
    would compute something else: the compiled one is held against the quantized one.
    """
    lowered, sizes = planned.lowered, planned.model.sizes
    call = sizes_of(lowered.whole.forward, sizes, _CHECKED_BATCH, _CHECKED_OTHERS)
    quantized = lowered.quantized
    reference = planned.model.graph if quantized is None else quantized.result.graph
    return check_whole(reference, planned.outlined, lowered.weights, call)
