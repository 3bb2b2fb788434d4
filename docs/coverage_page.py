"""docs/coverage.md: every causal-LM type of transformers, as tests/architectures has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.architectures.case import Case, Outcome
from tests.architectures.cases import CASES, GROUPS
from tests.architectures.variants import VARIANTS

OUTCOMES: tuple[Outcome, ...] = ("works", "not causal", "torch cannot export it", "refused")
_PINS = Path(__file__).parents[1] / "constraints.txt"


def coverage_page() -> str:
    """The page: how many types have which outcome, then a table for each group."""
    pin = re.search(r"^transformers==(\S+)$", _PINS.read_text("utf-8"), re.MULTILINE)
    assert pin is not None, "constraints.txt pins transformers"
    lines = [
        "# What hetc accepts",
        "",
        "Made by `make docs` from `tests/architectures/`, where a test builds a tiny random model",
        f"of every type that transformers {pin[1]} knows as a causal language model, compiles its",
        "directory, and runs two sequences: 16 tokens are prefilled and 8 decoded, one by one.",
        "A type **works** where no logit is more than 1e-4 from those of transformers itself, in",
        "f32. The others are refused with an error that names the reason; none answers wrongly.",
        "",
        f"| | types | {' | '.join(OUTCOMES)} |",
        f"|---|---|{'---|' * len(OUTCOMES)}",
    ]
    for title, cases in GROUPS.items():
        lines.append(_count(f"[{title}](#{_anchor(title)})", cases.values()))
    lines.append(_count("**All**", CASES.values()))
    for title, cases in GROUPS.items():
        lines += ["", f"## {title}", "", *_table(cases)]
    lines += [
        "",
        "## Forms of one type",
        "",
        "What a field of the configuration changes.",
        "",
        *_table({name: case for name, (_, case) in VARIANTS.items()}),
    ]
    return "\n".join(lines) + "\n"


def _count(title: str, cases: Iterable[Case]) -> str:
    found = [case.outcome for case in cases]
    counts = (str(found.count(outcome) or "") for outcome in OUTCOMES)
    return f"| {title} | {len(found)} | {' | '.join(counts)} |"


def _table(cases: Mapping[str, Case]) -> list[str]:
    rows = ["| type | outcome | what is in it, or why not |", "|---|---|---|"]
    for name, case in sorted(cases.items()):
        text = case.covers if case.outcome == "works" else case.because
        outcome = case.outcome if case.outcome == "works" else f"**{case.outcome}**"
        rows.append(f"| `{name}` | {outcome} | {text.replace('|', chr(92) + '|')} |")
    return rows


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
