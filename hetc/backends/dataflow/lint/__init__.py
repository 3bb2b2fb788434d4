"""The linter of dataflow plans. It shares only the schema and `fit` with the planner.

A rule is a small function; files group them by subject, and `rules.py` lists them by name. A
finding says where, demand, bound, shortfall and what to do.
"""

from hetc.backends.dataflow.lint.finding import Finding, Rule, Severity, render
from hetc.backends.dataflow.lint.rules import RULES, lint, verdicts

__all__ = ["RULES", "Finding", "Rule", "Severity", "lint", "render", "verdicts"]
