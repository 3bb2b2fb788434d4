"""Lint a plan: one in a bundle with the graph that it is of, or a plan file by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hetc.backends.dataflow.lint import Finding, lint, render, verdicts
from hetc.backends.dataflow.plan_file import read_file, read_plan
from hetc.backends.dataflow.schema import Check, Plan
from hetc.bundle import open_bundle
from hetc.driver.inspect import is_bundle
from hetc.errors import UsageError
from hetc.ir.graph import Graph
from hetc.ir.text import parse
from hetc.targets import load


@dataclass(frozen=True)
class Linted:
    """What the linter says of a plan: its findings, and the verdict of every rule that ran."""

    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]

    @property
    def text(self) -> str:
        """The findings as text, a line each."""
        return render(self.findings)

    @property
    def ok(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)


def lint_path(path: Path, target: str | None = None) -> Linted:
    """Lint the plan at `path`, a bundle or a plan file, against its own target or `target`.

    Raises InputError HETC-L001 or L002 for what is no plan, BundleError for a damaged bundle,
    UsageError HETC-U012 for a bundle without a plan, TargetError where the target is unknown.
    """
    plan, graph = open_plan(path)
    machine = load(target or plan.target.name)
    return Linted(lint(plan, machine, graph), verdicts(plan, machine, graph))


def holds_plan(path: Path) -> bool:
    """Whether `path` looks like a bundle or a plan file rather than a model: no model is JSON."""
    return path.suffix == ".json" or is_bundle(path)


def open_plan(path: Path) -> tuple[Plan, Graph | None]:
    """The plan at `path`, and the socket's graph where it is in a bundle."""
    if not is_bundle(path):
        return read_plan(read_file(path), str(path)), None
    with open_bundle(path, check="sizes") as files:
        half = files.manifest.half("decode")
        if half.plan is None or half.socket is None:
            raise UsageError(
                "HETC-U012",
                "this bundle has no spatial plan",
                at=str(path),
                found=f"decode on {files.manifest.targets['decode'].name}",
                do="compile with --decode sn40l, or another target that has a grid",
            )
        plan = read_plan(files.read_bytes(half.plan), f"{path}: {half.plan}")
        return plan, parse(files.read_bytes(half.socket).decode())
