"""Write the pages of docs/ that are made from the code: `make docs`. A test fails when one is out
of date."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.coverage_page import coverage_page
from hetc.backends.dataflow.document import document as plan_format
from hetc.ir.document import document as ir_reference
from hetc.targets.document import refreshed

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "hetc"
ROOMS = {
    "U": "Usage",
    "I": "Input: models, tokenizers, option files",
    "X": "The IR",
    "C": "Canonicalize: why a pattern did not apply",
    "S": "State synthesis",
    "P": "Partition and decisions",
    "T": "Targets",
    "E": "Backends",
    "D": "Dataflow plans: placing and routing",
    "L": "Plans for dataflow machines: files, lint, simulation, execution",
    "B": "Bundles",
    "R": "Runtime",
    "V": "Verification",
    "Z": "Internal errors: faults of hetc itself (exit code 3)",
}
CODE = re.compile(r"HETC-([A-Z])\d{3}")


def error_page() -> str:
    """docs/errors.md: every code that the source can raise or record, with its sentence."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, text in _codes(ast.parse(path.read_text("utf-8"))):
            found.setdefault(code, set()).add(text)
    lines = [
        "# Error and reason codes",
        "",
        "Made by `make docs` from the source. A code keeps its meaning; `…` is what varies.",
        "Codes are raised as errors (exit code 2, or 1 for a failed check) or kept as reasons.",
    ]
    for letter, room in ROOMS.items():
        codes = sorted(code for code in found if code[5] == letter)
        if codes:
            lines += ["", f"## {room}", "", "| code | meaning |", "|---|---|"]
            lines += [f"| `{code}` | {' · '.join(sorted(found[code]))} |" for code in codes]
    return "\n".join(lines) + "\n"


def _codes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Code and sentence of every call whose arguments hold a code and then a text."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for first, second in zip(node.args, node.args[1:], strict=False):
            code = first.value if isinstance(first, ast.Constant) else None
            if isinstance(code, str) and CODE.fullmatch(code):
                yield code, _text(second)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.sub(r"\{\w+\}", "…", str(node.value)).replace("|", "\\|")
    if isinstance(node, ast.JoinedStr):
        parts = (_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(parts)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} / {_text(node.orelse)}"
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    targets = refreshed((DOCS / "targets.md").read_text("utf-8"))
    return {
        "coverage.md": coverage_page(),
        "errors.md": error_page(),
        "ir-reference.md": ir_reference(),
        "plan-format.md": plan_format(),
        "targets.md": targets,
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, "utf-8")
