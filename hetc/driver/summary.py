"""What a compile tells of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hetc.driver.plan import Planned
from hetc.driver.plan_whole import PlannedWhole
from hetc.ir.dims import Dim, evaluate, exact_div, symbol, symbols_of
from hetc.ir.graph import Program
from hetc.passes.check_whole import CheckedWhole
from hetc.passes.quality import Quality
from hetc.passes.self_check import Checked
from hetc.report.summary import StateFacts, Summary, WholeFacts, summary_lines


def summarize(
    planned: Planned, checked: Checked | None, quality: Quality | None = None
) -> tuple[str, ...]:
    """The summary of at most twelve lines."""
    model = planned.model
    stored = (*_quantized(planned, quality), *_uncoded(planned))
    notes = (*_calibrations(planned), *stored, *model.notes)
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
            notes=notes,
            assumptions=planned.assumptions,
            spatial=planned.spatial.facts() if planned.spatial is not None else None,
        )
    )


def summarize_whole(planned: PlannedWhole, checked: CheckedWhole | None) -> tuple[str, ...]:
    """The summary of a model without phases."""
    model, graph = planned.model, planned.lowered.whole.forward
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    return summary_lines(
        Summary(
            name=model.name,
            family=model.family,
            layers=model.layers,
            parameters=planned.parameters,
            dtype=planned.lowered.dtype.name,
            has_weights=model.weights is not None,
            state=None,
            decisions=planned.decisions,
            fallbacks=planned.fallbacks,
            max_error=checked.max_abs_error if checked else None,
            notes=(*_calibrations(planned), *_quantized(planned, None), *model.notes),
            whole=WholeFacts(
                str(planned.no_phases),
                tuple(f"{value.name} {value.type}" for value in graph.inputs),
                tuple(f"{name} {value.type}" for name, value in outputs),
                planned.executors,
            ),
        )
    )


def _calibrations(planned: Planned | PlannedWhole) -> Iterator[str]:
    """Which estimates are not from data sheets and textbooks alone."""
    for target in dict.fromkeys(planned.cut.devices.values()):
        if target.device.calibrated:
            yield f"{target.name}: times calibrated on published runs ({target.device.calibrated})"


def _quantized(planned: Planned | PlannedWhole, quality: Quality | None) -> Iterator[str]:
    """How many matrices are stored in which form, and what that changes."""
    quantized = planned.lowered.quantized
    if quantized is None:
        if planned.options.quantize == "keep":
            yield "nothing to keep: the source has no matrices in groups of integers"
        return
    kept, forms = quantized.result.kept, quantized.result.forms
    if kept:
        yield f"matrices as the source has them, not rounded: {_counts(kept)}"
        if not forms:
            return
    told = f"matrices stored in groups: {_counts(forms) or 'none'}"
    if quality is not None:
        same = f"the same likeliest token in {100 * quality.same_top:.0f} %"
        told += f" · KL {quality.kl:.2g} nats, {same} of {quality.tokens} tokens"
    yield told


def _uncoded(planned: Planned) -> Iterator[str]:
    """How many matrices the native engine cannot store in fewer bits without loss."""
    runs = planned.model.weights is not None and not planned.native.reasons
    if runs and (left := planned.native.uncoded_matrices):
        yield f"matrices of bf16 that do not fit in 12 bits without loss, and keep 16: {left}"


def _counts(forms: Mapping[str, int]) -> str:
    return ", ".join(f"{count} as {form}" for form, count in sorted(forms.items()))


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
