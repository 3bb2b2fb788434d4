"""The native backend as the driver sees it: both halves of a bundle, planned together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hetc.backends.native.half import Observe, half_text
from hetc.backends.native.isa import VARIANTS, Isa
from hetc.backends.native.lower_ops import supports
from hetc.backends.native.model import Model
from hetc.backends.native.plan import Planner
from hetc.backends.native.storage import Storage
from hetc.bundle.contract import PHASES, Phase
from hetc.bundle.native import (
    LAYOUT_FILE,
    NativeLayout,
    Scratch,
    Variant,
    half_file,
)
from hetc.errors import BackendError, Reason
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op

# What a graph is planned for where only the question is whether it can be.
_SOME_POSITIONS = 16


@dataclass(frozen=True)
class NativePlan:
    """Both halves of a model for the native engine, from its outlined decode half.

    With `weights`, what positions make is tried out before it is taken for a table. The KV state
    is in memory as `state_element`, `i8` with a scale for each row of a head, or as the contract
    has it. With `lossless` and weights, matrices of bf16 are stored in 12 bits where they fit.
    """

    decode: Graph
    positions: int
    weights: WeightLookup | None = None
    state_element: Literal["i8"] | None = None
    lossless: bool = True

    @cached_property
    def _model(self) -> Model:
        return Model.of(
            self.decode,
            self.positions,
            self.weights,
            self.state_element,
            lossless=self.lossless,
        )

    @cached_property
    def _halves(self) -> Mapping[Phase, Planner]:
        planners = {phase: Planner(self._model, phase) for phase in PHASES}
        for planner in planners.values():
            planner.plan()
        # Both are planned before either is settled: what one stores, the other passes over.
        for planner in planners.values():
            planner.values.memory.settle()
        return planners

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the engine cannot run this model; empty where it can."""
        found = (reason for planner in self._halves.values() for reason in planner.refused)
        return tuple(dict.fromkeys(found))

    @cached_property
    def unchanged_states(self) -> tuple[Reason, ...]:
        """Keys and values that keep the contract's type although another was asked for."""
        places = self._halves["decode"].values.memory.states.places
        asked = self._model.state_element
        kept = [place for place in places if place.role != "whole" and place.stored != asked]
        if asked is None or not kept:
            return ()
        text = f"{len(kept)} states share their rows with others, and keep their type"
        return (Reason("HETC-E046", text, at=kept[0].name),)

    @property
    def uncoded_matrices(self) -> int:
        """How many matrices of products keep the 16 bits of their bf16."""
        return self._model.uncoded

    @property
    def _storage(self) -> Storage:
        """What is stored: known once both halves are planned."""
        assert self._halves
        return self._model.storage

    @property
    def variants(self) -> tuple[Isa, ...]:
        """The instruction sets that differ for this model: dot products need what they multiply."""
        states = self._halves["decode"].values.memory.states.places
        elements = self._storage.elements | {place.element for place in states}
        pairs, bytes = "bf16" in elements, bool(elements & {"q8", "q4"})
        # The last of a base whose text is the same asks for the least.
        same: dict[tuple[str, str, str], Isa] = {}
        for isa in VARIANTS:
            key = (isa.base, isa.pair_dots if pairs else "", isa.byte_dots if bytes else "")
            same[key] = isa
        return tuple(isa for isa in VARIANTS if isa in same.values())

    def files(self) -> dict[str, bytes]:
        """The layout and the texts of both halves; raises BackendError where it cannot be."""
        if self.reasons:
            first = self.reasons[0]
            raise BackendError(first.code, first.text, at=first.at)
        texts = {
            half_file(phase, isa.name): self.text(phase, isa).encode()
            for phase in PHASES
            for isa in self.variants
        }
        return {LAYOUT_FILE: self.layout().to_bytes(), **texts}

    def text(self, phase: Phase, isa: Isa, observe: Observe | None = None) -> str:
        """The text of a half for one instruction set; `observe` as for `half_text`."""
        return half_text(self._halves[phase], isa, observe)

    def layout(self) -> NativeLayout:
        """What the runtime needs to know of the texts."""
        memories = {phase: planner.values.memory for phase, planner in self._halves.items()}
        return NativeLayout(
            logit_columns=self._halves["decode"].logit_columns,
            weight_bytes=self._storage.nbytes,
            state_bytes=str(memories["decode"].states.nbytes),
            scratch={
                phase: Scratch(
                    str(half.shared_bytes), str(half.private_bytes), str(half.barrier_bytes)
                )
                for phase, half in memories.items()
            },
            states=tuple(memories["decode"].states.places),
            variants=tuple(Variant(isa.name, isa.needs) for isa in self.variants),
        )

    def packed(self, weights: WeightLookup) -> Iterator[memoryview]:
        """The packed weights, a piece at a time."""
        return self._storage.pack(weights)

    @property
    def matrix_bytes(self) -> int:
        """The bytes of all matrices but experts: what a token reads, beside the state."""
        return self._storage.matrix_bytes

    @property
    def packed_bytes(self) -> int:
        """How many bytes `packed` gives."""
        return self._storage.nbytes


class NativeBackend:
    """Writes halves as MLIR text, which the runtime's executor of the same name compiles."""

    name = "native"

    def supports(self, op: Op) -> Reason | None:
        """Why `op` cannot be emitted where its result is not known before it runs (HETC-E040)."""
        return supports(op)

    def validate(self, graph: Graph) -> list[Reason]:
        """Every reason why a decode half cannot be emitted (HETC-E040 to E044)."""
        return list(NativePlan(graph, _SOME_POSITIONS).reasons)

    def emit(self, graph: Graph) -> Mapping[str, bytes]:
        """The texts and the layout of both halves, for a decode half without a positional table."""
        return NativePlan(graph, _SOME_POSITIONS).files()
