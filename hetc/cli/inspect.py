"""`hetc inspect` and `hetc explain`: what was decided, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width
from hetc.cli.settings import BUNDLE, MODEL, compile_options, given, plan_options
from hetc.errors import UsageError

if TYPE_CHECKING:
    from hetc.driver import Inspection

_MORE = ("role", "fused_into")


@click.command("inspect", short_help="Show marks, costs, crossovers, and what went where.")
@click.argument("source", metavar="MODEL|BUNDLE", type=MODEL)
@click.option("--op", metavar="NAME", help="Only this op, module or glob of ops.")
@click.option(
    "--by",
    type=click.Choice(["op", "layer", "phase", "kernel"]),
    default="op",
    help="Rows of the table.",
)
@plan_options
@json_option
def inspect_command(source: Path, op: str | None, by: str, as_json: bool, **options: Any) -> None:
    """Show marks, costs and crossovers of every op, and what went where.

    A bundle tells what was decided when it was made. A model is planned in memory, as `hetc
    compile` with the same options would; identical layers are one row.
    """
    if driver.is_bundle(source) and given(options):
        raise UsageError(
            "HETC-U005",
            "a bundle is decided already",
            at=str(source),
            found=", ".join(f"--{name.replace('_', '-')}" for name in given(options)),
            do="leave the options out, or inspect the model with them",
        )
    with Progress(wanted=not as_json) as progress:
        if not driver.is_bundle(source):
            progress("planning")
        found = driver.inspect(source, compile_options(options))
    if as_json:
        print_json(_as_json(found, op, by))
    elif op is not None:
        _print_lines(report.explain_lines(found.decisions, op))
    else:
        _print_lines([*found.summary, "", _table(found, by)])


@click.command("explain", short_help="Say why an op is where it is, or the cut as it is.")
@click.argument("bundle", type=BUNDLE)
@click.argument("name", metavar="OP|cut")
@json_option
def explain_command(bundle: Path, name: str, as_json: bool) -> None:
    """Say why an op of BUNDLE is where it is, or why the cut is as it is.

    A name may leave out what stands before it (layers.3.mlp.down_proj); a module stands for the
    ops inside, and a glob ('layers.*.mlp.*') for many.
    """
    found = driver.inspect(bundle, driver.CompileOptions())
    decisions = found.decisions
    lines = report.explain_lines(decisions, name)
    is_cut = name.lower() == "cut"
    records = [decisions["cut"]] if is_cut else report.find_records(decisions, name)
    if not is_cut and len({record["name"] for record in records}) == 1:
        # Prefill is told first; a line without text parts the phases.
        end = lines.index("") if "" in lines else len(lines)
        lines[end:end] = report.kernel_lines(found.kernels, records[0]["name"])
    if not as_json:
        _print_lines(lines)
        return
    print_json({"name": name, "lines": lines, "records": records})


def _print_lines(lines: list[str]) -> None:
    click.echo("\n".join(lines))


def _table(found: Inspection, by: str) -> str:
    if by == "kernel":
        return report.by_kernel(found.kernels, table_width())
    show = {"op": report.by_op, "layer": report.by_layer, "phase": report.by_phase}
    return show[by](found.decisions, table_width())


def _as_json(found: Inspection, op: str | None, by: str) -> dict[str, Any]:
    decisions = found.decisions
    return {
        "model": found.model,
        "workload": decisions["workload"],
        "targets": decisions["devices"],
        "link": decisions["link"],
        "estimated": decisions["estimated"],
        "summary": found.summary,
        "ops": _rows(found, op),
        "groups": _groups(decisions, by),
        "cut": decisions["cut"],
        "transfers": decisions["transfers"],
        "fallbacks": found.fallbacks,
        "kernels": found.kernels,
    }


def _rows(found: Inspection, op: str | None) -> list[dict[str, Any]]:
    """The rows of all ops, or of those that `op` names."""
    records = found.decisions["ops"]
    wanted = None
    if op is not None:
        named = report.find_records(found.decisions, op)
        wanted = {(item["phase"], item["name"]) for item in named if "role" in item}
    return [
        row | {key: record[key] for key in _MORE} | {"seconds": record["seconds"][record["role"]]}
        for row, record in zip(found.ops, records, strict=True)
        if wanted is None or (record["phase"], record["name"]) in wanted
    ]


def _groups(decisions: dict[str, Any], by: str) -> list[dict[str, Any]]:
    if by == "phase":
        return report.phase_groups(decisions)
    if by in ("op", "kernel"):
        return []
    phases = dict.fromkeys(op["phase"] for op in decisions["ops"])
    ops = [[op for op in decisions["ops"] if op["phase"] == phase] for phase in phases]
    return [group for records in ops for group in report.layer_groups(records)]
