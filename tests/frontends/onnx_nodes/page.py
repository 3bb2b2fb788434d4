"""docs/onnx-coverage.md: what of ONNX's node tests passes, and what is out of scope and why."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from hetc.frontends.onnx.context import TABLE
from tests.frontends.onnx_nodes.cases import KNOWN, node_cases
from tests.frontends.onnx_nodes.scope import FAILING, out_of_scope

PAGE = Path(__file__).parents[3] / "docs" / "onnx-coverage.md"


def counts(failures: Mapping[str, str]) -> tuple[int, int, int]:
    """How many node tests there are, are in scope, and pass; `failures` has all, "" for passing."""
    inside = [name for name, case in node_cases().items() if not out_of_scope(case)]
    return len(node_cases()), len(inside), sum(not failures[name] for name in inside)


def page(failures: Mapping[str, str]) -> str:
    """The text of the page."""
    total, inside, passing = counts(failures)
    given = sum(bool(case.known) for case in node_cases().values() if not failures[case.name])
    needed = ", ".join(f"`{name}`" for name in sorted(KNOWN))
    intro = _filled(
        "What hetc's importer and its reference semantics make of the node tests of"
        f" `onnx.backend.test`, onnx {onnx.__version__}. Each test is one operator, or the function"
        " that defines it written out. It is imported by `hetc.frontends.onnx.import_whole`,"
        " interpreted, and compared with the expected numbers at the test's own tolerances. An"
        " operator that only ONNX's own evaluator could run counts as failing."
    )
    remark = _filled(
        f"In {given:,} of the passing tests, inputs that decide sizes are given when the graph is"
        f" imported, as they are in models, where they are initializers: {needed}."
    )
    return f"""# ONNX coverage

{intro}

| node tests | |
|---|--:|
| in all | {total:,} |
| in scope | {inside:,} |
| passing | {passing:,}, {passing / inside:.1%} of those in scope |

`python -m tests.frontends.onnx_nodes` counts them, and with `--write` writes this page;
`tests/frontends/test_onnx_nodes.py` fails where it is not true.

{remark}

## In scope and failing

{_failing()}

## Out of scope

| tests | what | operators |
|--:|---|---|
{_outside()}

## Operators that pass

All of their tests in scope pass, as many as stand behind the name.

{_passing(failures)}

## ONNX Runtime's own operators

Imported from `com.microsoft`, and tested against ONNX Runtime with random sizes:

{_filled(" · ".join(runtime_operators()))}
"""


def runtime_operators() -> list[str]:
    """The operators of `com.microsoft` that a table has."""
    prefix = "com.microsoft::"
    return sorted(kind.removeprefix(prefix) for kind in TABLE if kind.startswith(prefix))


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)


def _failing() -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in FAILING.items():
        by_reason.setdefault(reason, []).append(f"`{name}`")
    return "\n".join(
        textwrap.fill(f"- {', '.join(names)}: {reason}.", 100, subsequent_indent="  ")
        for reason, names in by_reason.items()
    )


def _outside() -> str:
    rows: dict[str, Counter[str]] = {}
    for case in node_cases().values():
        if reason := out_of_scope(case):
            rows.setdefault(reason, Counter())[case.op] += 1
    ordered = sorted(rows.items(), key=lambda row: -row[1].total())
    return "\n".join(
        f"| {ops.total()} | {reason} | {', '.join(f'`{op}`' for op in sorted(ops))} |"
        for reason, ops in ordered
    )


def _passing(failures: Mapping[str, str]) -> str:
    found: Counter[str] = Counter()
    whole = {case.op for case in node_cases().values() if not out_of_scope(case)}
    for case in node_cases().values():
        if not out_of_scope(case):
            found[case.op] += 1
            if failures[case.name]:
                whole.discard(case.op)
    # A name and its count stay on one line.
    text = " · ".join(f"{op}~{found[op]}" for op in sorted(whole))
    return _filled(text).replace("~", " ")
