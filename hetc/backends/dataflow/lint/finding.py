"""What a rule is, what it finds, and how findings read."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hetc.backends.dataflow.lint.facts import Facts

Severity = Literal["error", "advice"]
_WIDTH = 100


@dataclass(frozen=True)
class Fault:
    """Where a plan breaks a rule: the place and one sentence with its numbers.

    `demand` and `bound` are the two numbers that were compared, where there are two; `remedy`
    stands in for that of the rule.
    """

    place: str
    text: str
    demand: float | None = None
    bound: float | None = None
    remedy: str = ""


# A rule yields its faults and returns, for the record, the numbers that it compared.
Faults = Generator[Fault, None, str]


@dataclass(frozen=True)
class Finding:
    """A fault under the code, the remedy and the severity of its rule."""

    code: str
    place: str
    demand: float | None
    bound: float | None
    shortfall: float | None
    text: str
    remedy: str
    severity: Severity


@dataclass(frozen=True)
class Rule:
    """One thing that holds in every good plan. Its code is stable; its name is its function's."""

    code: str
    title: str
    remedy: str
    severity: Severity
    check: Callable[[Facts], Faults]

    @property
    def name(self) -> str:
        return self.check.__name__

    def run(self, facts: Facts) -> tuple[list[Finding], str]:
        """Everything that breaks the rule, and what was compared."""
        findings: list[Finding] = []
        checking = self.check(facts)
        while True:
            try:
                fault = next(checking)
            except StopIteration as end:
                return findings, str(end.value)
            findings.append(self._finding(fault))

    def _finding(self, fault: Fault) -> Finding:
        demand, bound = fault.demand, fault.bound
        shortfall = None if demand is None or bound is None else abs(demand - bound)
        return Finding(
            *(self.code, fault.place, demand, bound, shortfall),
            *(fault.text, fault.remedy or self.remedy, self.severity),
        )


def rule(
    code: str, title: str, remedy: str, severity: Severity = "error"
) -> Callable[[Callable[[Facts], Faults]], Rule]:
    """Decorator: the function checks the rule `title`."""
    return lambda check: Rule(code, title, remedy, severity, check)


def render(findings: Iterable[Finding]) -> str:
    """Findings as the user sees them: a paragraph each, errors first, and a line that counts."""
    told: dict[Severity, list[str]] = {"error": [], "advice": []}
    for finding in findings:
        told[finding.severity].append(_paragraph(finding))
    errors, advice = told["error"], told["advice"]
    if not errors and not advice:
        return "no findings\n"
    counted = f"{_count(len(errors), 'error')}, {_count(len(advice), 'piece')} of advice"
    return "\n\n".join([*errors, *advice, counted]) + "\n"


def _paragraph(finding: Finding) -> str:
    facts = [("at", finding.place)]
    if finding.demand is not None and finding.bound is not None:
        off = number(finding.shortfall or 0)
        facts += [("demand", number(finding.demand))]
        facts += [("bound", f"{number(finding.bound)}, off by {off}")]
    facts += [("do", finding.remedy)]
    head = _filled(f"{finding.severity}[{finding.code}]: {finding.text}", "  ")
    return "\n".join([head, *(_filled(f"  {name:<8}{text}", " " * 10) for name, text in facts)])


def _filled(text: str, indent: str) -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def number(value: float) -> str:
    """`1,040`, and `17.58` for what is no whole number."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"
