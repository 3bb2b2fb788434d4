"""The tables of a run, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.contenders import Contender
from benchmarks.peers.rounds import Found, Row, Work

_CLASSES = {16: "not quantized", 8: "8-bit weights", 4: "4-bit weights"}
_MISSING = "–"


def rates(found: Found, contenders: Sequence[Contender], works: Sequence[Work]) -> str:
    """Median tokens/s, a table a class, with what else was found of each contender."""
    heads = [
        "",
        *(work.title for work in works),
        "first token, s",
        "resident, MB",
        "text",
        "others, %",
    ]
    return "\n\n".join(
        f"**{title}**\n\n" + markdown(heads, _rate_rows(found, of_class, works, reference))
        for bits, title in _CLASSES.items()
        if (of_class := [item for item in contenders if item.bits == bits])
        for reference in [_reference(found, contenders)]
    )


def ratios(
    found: Found, ours: Contender, contenders: Sequence[Contender], works: Sequence[Work]
) -> str:
    """Medians of `ours` over those of each peer; above 1, ours is faster."""
    own = found.rows[ours.name].rates
    rows = [
        [item.name, *(_ratio(own, found.rows[item.name].rates, work) for work in works)]
        for item in contenders
        if not item.is_hetc and found.rows[item.name].rates
    ]
    return markdown([f"{ours.name} over", *(work.title for work in works)], rows)


def utilization(found: Found, models: Mapping[Contender, Path], works: Sequence[Work]) -> str:
    """MBU of decode at batch 1: bytes that a step must read x tokens/s over the bandwidth."""
    decodes = [work for work in works if work.phase == "decode" and work.batch == 1]
    limit = statistics.median(found.bandwidth)
    rows = [
        [
            item.name,
            f"{item.decode_bytes(model, 0) / 1e6:.0f}",
            *(_utilized(found.rows[item.name], item, model, work, limit) for work in decodes),
        ]
        for item, model in models.items()
        if found.rows[item.name].rates
    ]
    return markdown(["", "weights, MB", *(work.title for work in decodes)], rows)


def reasons(found: Found) -> str:
    """What did not run, and why."""
    rows = [
        [name, work, reason]
        for name, row in found.rows.items()
        for work, reason in row.reasons.items()
    ]
    return markdown(["", "what", "why not"], rows) if rows else "Everything ran."


def _rate_rows(
    found: Found, contenders: Iterable[Contender], works: Sequence[Work], reference: list[int]
) -> list[list[str]]:
    rows = []
    for item in contenders:
        row = found.rows[item.name]
        rows.append(
            [
                item.name,
                *(_median(row.rates.get(work.title, [])) for work in works),
                _median(row.first),
                _median([size / 1e6 for size in row.resident]),
                _agreement(row.answer, reference),
                _median([share * 100 for share in row.others]),
            ]
        )
    return rows


def _reference(found: Found, contenders: Sequence[Contender]) -> list[int]:
    """The answer that most contenders whose weights are not quantized agree on."""
    answers = [found.rows[item.name].answer for item in contenders if item.bits == 16]
    return max(filter(None, answers), key=answers.count, default=[])


def _agreement(answer: Sequence[int], reference: Sequence[int]) -> str:
    if not answer:
        return _MISSING
    pairs = zip(answer, reference, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), len(answer))
    return f"{same}/{len(reference)}"


def _ratio(ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]], work: Work) -> str:
    if not (ours.get(work.title) and theirs.get(work.title)):
        return _MISSING
    return f"{statistics.median(ours[work.title]) / statistics.median(theirs[work.title]):.2f}"


def _utilized(row: Row, item: Contender, model: Path, work: Work, limit: float) -> str:
    taken = row.rates.get(work.title)
    if not taken:
        return _MISSING
    # The middle of the steps that were timed.
    size = item.decode_bytes(model, work.tokens + work.new / 2)
    return f"{statistics.median(taken) * size / limit:.2f}"


def _median(values: Sequence[float]) -> str:
    if not values:
        return _MISSING
    value = statistics.median(values)
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under their heads; all columns but the first are numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
