"""The summary after a compile: at most twelve lines, aligned, nothing silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hetc.errors import Reason
from hetc.report.phases import PhaseFacts, phase_facts
from hetc.report.units import amount, binary_bytes, count, duration, percent, plural

MAX_LINES = 12
_LABEL = 12  # width of the label column
_MOST_TENSORS = 4
# Sizes that read as a number of things; others are names of a model's own.
_COUNTED = ("prompt_tokens", "new_tokens", "link_gbps")
_DTYPES = {"f32": "fp32", "f16": "fp16"}


@dataclass(frozen=True)
class StateFacts:
    """The synthesized state: its tensors, the bytes that one token adds to it, the bytes that it
    has whatever the length (windows, convolutions), and what was proven (`causal attention`)."""

    tensors: int
    bytes_per_token: int
    fixed_bytes: int = 0
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpatialFacts:
    """The spatial plan: its sections, the compute units of the fullest one, what a simulated token
    takes and is limited by, and the bytes of a socket that lie behind its main memory."""

    sections: int
    units: int
    units_of: int
    tpot_s: float
    mbu: float
    mbu_bound: float
    bottleneck: str
    spilled_bytes: int = 0


@dataclass(frozen=True)
class WholeFacts:
    """A model without phases: why it has none, its inputs and outputs (`x f32[N0,784]`), and what
    runs it."""

    reason: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    executors: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What the summary tells. `decisions` is the document of `hetc.passes.decisions.decide`;
    `max_error` what the self-check found, None where it could not run; `notes` are sentences about
    the import (weights that were dequantized, say), `assumptions` what the policy declares and
    nothing proves. A model has `state`, or no phases and then `whole`."""

    name: str
    family: str
    layers: int
    parameters: int
    dtype: str
    has_weights: bool
    state: StateFacts | None
    decisions: Mapping[str, Any]
    fallbacks: tuple[Reason, ...] = ()
    max_error: float | None = None
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    spatial: SpatialFacts | None = None
    whole: WholeFacts | None = None


def summary_lines(summary: Summary) -> tuple[str, ...]:
    """The summary as aligned text; it holds no path, so that equal inputs give equal lines."""
    fixed = [_model(summary)]
    if summary.whole is not None:
        fixed += _whole(summary.whole, summary.decisions)
    elif summary.state is not None:
        fixed += [
            _line("state", _state(summary.state)),
            *_assumed(summary),
            *_halves(summary.decisions),
            *_plan(summary.spatial),
            _line("hand-off", handoff_text(summary.decisions)),
        ]
    fixed.append(_line("cut", cut_text(summary.decisions)))
    last = _line("verified", _verified(summary))
    fallbacks, notes = _fallbacks(summary.fallbacks), [_line("note", n) for n in summary.notes]
    room = MAX_LINES - len(fixed) - 1
    lines = [*fixed, *_fit(fallbacks, notes, room), last]
    return tuple(line.rstrip() for line in lines)


def with_bundle(lines: Sequence[str], path: object, nbytes: int) -> tuple[str, ...]:
    """The lines with the size and the place of the bundle at their end."""
    return (*lines[:-1], f"{lines[-1]} · bundle {amount(nbytes, 'B')} → {path}")


def handoff_text(decisions: Mapping[str, Any]) -> str:
    """What passes over the link between prefill and decode, in one line."""
    moved = [item for item in decisions["transfers"] if item["kind"] == "handoff"]
    if not moved:
        return "none: decode reads the state where prefill leaves it"
    size = amount(sum(item["bytes"] for item in moved), "B")
    seconds = duration(decisions["cut"]["phase_seconds"]["handoff"])
    tokens = plural(decisions["workload"]["prompt_tokens"], "token")
    return f"{size} at {tokens} · {decisions['link']} · {seconds} estimated"


def cut_text(decisions: Mapping[str, Any]) -> str:
    """What crosses, how good the cut is, and what would flip it, in one line."""
    cut, tensors = decisions["cut"], len(decisions["transfers"])
    used = {record["device"] for record in decisions["ops"]}
    crossing = f"{plural(tensors, 'tensor')} cross{'es' if tensors == 1 else ''}"
    parts = [crossing if len(used) > 1 else f"everything on {next(iter(used), 'no device')}"]
    gap = cut["gap"]
    parts.append("optimal (gap 0)" if gap <= 1e-9 else f"within {percent(gap)} of the optimum")
    free = cut["alternatives_seconds"].get("best by op, no pins")
    if free is not None and free < cut["seconds"] * 0.999:
        parts.append(f"a cut by op would save {duration(cut['seconds'] - free)}")
    parts += [f"{flip_text(flip, decisions['devices'])}" for flip in cut["flips"][:1]]
    return " · ".join(parts)


def flip_text(flip: Mapping[str, Any], devices: Mapping[str, str]) -> str:
    """One flip in words: `flips to sn40l alone below 40 prompt tokens`."""
    winner = flip["winner"]
    what = "both devices" if winner == "split" else f"{devices[winner]} alone"
    side = "from" if flip["at"] > flip["until"] else "up to"
    size = {"link_gbps": "GB/s on the link"}.get(flip["size"], flip["size"].replace("_", " "))
    if size == "batch":
        return f"flips to {what} {side} batch {flip['at']:,}"
    if flip["size"] not in _COUNTED:
        return f"flips to {what} {side} {size} = {flip['at']:,}"
    return f"flips to {what} {side} {flip['at']:,} {size}"


def error_text(error: float) -> str:
    """An absolute error: 2e-7, 0."""
    mantissa, _, exponent = f"{error:.0e}".partition("e")
    return (
        f"{mantissa}e{int(exponent)}" if error and exponent else "0" if error == 0 else str(error)
    )


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _model(summary: Summary) -> str:
    facts = (
        [summary.family, plural(summary.layers, "layer")] if summary.layers else [summary.family]
    )
    facts.append(f"{count(summary.parameters)} parameters")
    facts.append(_DTYPES.get(summary.dtype, summary.dtype))
    if not summary.has_weights:
        facts.append("a plan: no weights")
    return f"{summary.name:<{_LABEL - 4}}    {' · '.join(fact for fact in facts if fact)}"


def _state(state: StateFacts) -> str:
    parts = [plural(state.tensors, "tensor")] if state.tensors else ["none"]
    if state.bytes_per_token:
        parts.append(f"{binary_bytes(state.bytes_per_token)} a token")
    if state.fixed_bytes:
        parts.append(f"{binary_bytes(state.fixed_bytes)} whatever the length")
    return " · ".join((*parts, *state.facts))


def _assumed(summary: Summary) -> list[str]:
    if not summary.assumptions:
        return []
    listed, checked = ", ".join(summary.assumptions), summary.max_error is not None
    kind = "assumed, not proven" if checked else "assumed, unchecked"
    return [_line("note", f"{kind}: {listed}{' · held in the self-check' if checked else ''}")]


def _halves(decisions: Mapping[str, Any]) -> list[str]:
    """One line for each phase, with columns of equal width."""
    prompt = plural(decisions["workload"]["prompt_tokens"], "token")
    prefill, decode = (phase_facts(decisions, phase) for phase in ("prefill", "decode"))
    rows = [
        [
            "prefill",
            *_common(prefill),
            f"{amount(prefill.flops, 'FLOP')} at {prompt}",
            f"TTFT {duration(prefill.seconds)}",
            "estimated",
        ],
        [
            "decode",
            *_common(decode),
            f"{amount(decode.stored_bytes, 'B')} a token",
            f"TPOT {duration(decode.seconds)}",
            "estimated",
        ],
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths[0] = _LABEL - 3
    return ["   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _whole(whole: WholeFacts, decisions: Mapping[str, Any]) -> list[str]:
    """What stands in the place of state, halves and hand-off."""
    facts = phase_facts(decisions, "forward")
    sizes = sizes_text(decisions["workload"]["sizes"])
    work = amount(facts.flops, "FLOP") + (f" at {sizes}" if sizes else "")
    cells = ["forward", *_common(facts), work, duration(facts.seconds), "estimated"]
    cells[0] = cells[0].ljust(_LABEL - 3)
    lines = [
        _line("no phases", whole.reason),
        _line("inputs", _some(whole.inputs)),
        _line("outputs", _some(whole.outputs)),
        "   ".join(cells),
    ]
    return lines + ([_line("runs on", ", ".join(whole.executors))] if whole.executors else [])


def sizes_text(sizes: Mapping[str, int]) -> str:
    """The sizes of a call: `N0 = 1, N1 = 2,048`; nothing where all are fixed."""
    return ", ".join(f"{name} = {number:,}" for name, number in sizes.items())


def _some(items: Sequence[str]) -> str:
    left = len(items) - _MOST_TENSORS
    return " · ".join((*items[:_MOST_TENSORS], *([f"{left} more"] if left > 0 else []))) or "none"


def _plan(facts: SpatialFacts | None) -> list[str]:
    if facts is None:
        return []
    units = f"{facts.units:,} of {facts.units_of:,} compute units"
    used = f"MBU {percent(facts.mbu)} of {percent(facts.mbu_bound)}"
    time = f"TPOT {duration(facts.tpot_s)} simulated"
    parts = [plural(facts.sections, "section"), units, time, used, f"bound by {facts.bottleneck}"]
    if facts.spilled_bytes:
        parts.append(f"{amount(facts.spilled_bytes, 'B')} a socket beyond its main memory")
    return [_line("plan", " · ".join(parts))]


def _common(facts: PhaseFacts) -> list[str]:
    shares = sorted(facts.shares.items(), key=lambda item: -item[1])[:2]
    marks = "  ".join(f"{mark} {percent(share)}" for mark, share in shares if share >= 0.005)
    return ["+".join(facts.devices) or "no device", f"{plural(facts.ops, 'op')}", marks]


def _fallbacks(reasons: Sequence[Reason]) -> list[str]:
    if not reasons:
        return [_line("fallbacks", "none")]
    lines: list[str] = []
    for (code, text), number in Counter((r.code, r.text) for r in reasons).most_common():
        label = "" if lines else "fallbacks"
        lines.append(_line(label, f"{plural(number, 'op')} · {code}: {text}"))
    return lines


def _fit(fallbacks: list[str], notes: list[str], room: int) -> list[str]:
    """As many lines as there is room for, and what was left out as a number."""
    lines = [*fallbacks, *notes]
    if len(lines) <= room:
        return lines
    left = len(lines) - room + 1
    return [*lines[: room - 1], _line("", f"and {left} more: hetc inspect shows all")]


def _verified(summary: Summary) -> str:
    if summary.max_error is not None and summary.whole is not None:
        return f"compiled graph = imported graph, max error {error_text(summary.max_error)}"
    if summary.max_error is not None:
        return f"prefill + decode = forward, max error {error_text(summary.max_error)}"
    return "not run" if summary.has_weights else "not run: there are no weights to run with"
