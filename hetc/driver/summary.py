"""What a compile tells of itself."""

from __future__ import annotations

from collections.abc import Iterator

from hetc.driver.plan import Planned
from hetc.ir.dims import Dim, evaluate, exact_div, symbol, symbols_of
from hetc.ir.graph import Program
from hetc.passes.self_check import Checked
from hetc.report.summary import StateFacts, Summary, summary_lines


def summarize(planned: Planned, checked: Checked | None) -> tuple[str, ...]:
    """The summary of at most twelve lines."""
    model = planned.model
    return summary_lines(
        Summary(
            name=model.name,
            family=model.family,
            layers=planned.layers,
            parameters=planned.parameters,
            dtype=planned.dtype.name,
            has_weights=model.weights is not None,
            state=state_facts(planned.program),
            decisions=planned.decisions,
            fallbacks=planned.fallbacks,
            max_error=checked.max_abs_error if checked else None,
            notes=(*_calibrations(planned), *_quantization(planned), *model.notes),
            assumptions=planned.assumptions,
            spatial=planned.spatial.facts() if planned.spatial is not None else None,
        )
    )


def _calibrations(planned: Planned) -> Iterator[str]:
    """Which estimates are not from data sheets and textbooks alone."""
    for target in dict.fromkeys(planned.cut.devices.values()):
        if target.device.calibrated:
            yield f"{target.name}: times calibrated on published runs ({target.device.calibrated})"


def _quantization(planned: Planned) -> Iterator[str]:
    """That one executor has other weights than the rest."""
    quantize = planned.options.quantize
    if quantize != "none":
        kept = planned.dtype.name
        yield f"native: weights in {quantize}, 32 to a scale; other executors keep {kept}"


def state_facts(program: Program) -> StateFacts:
    """Bytes of state of one sequence: those that grow with every token, and those that do not."""
    growing, fixed = 0, 0
    for spec in program.states:
        nbytes = spec.type.nbytes
        if "P" in symbols_of(nbytes):
            growing += evaluate(exact_div(nbytes, symbol("P")), {"B": 1})
        else:
            # A window is full once the sequence is long enough.
            full = {"B": 1, "P": program.max_context}
            fixed += evaluate(nbytes, full) if isinstance(nbytes, Dim) else nbytes
    return StateFacts(len(program.states), growing, fixed, program.facts)
