"""`hetc targets`: the hardware that hetc knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hetc.cli.group import Group
from hetc.cli.lazy import report, targets
from hetc.cli.output import json_option, print_json, table_width

HOST = "host"


@click.group("targets", cls=Group, short_help="List, show and check targets: devices as files.")
def targets_group() -> None:
    """List, show and check targets: devices as files, every number with its source."""


@targets_group.command("list", short_help="All targets and links.")
@json_option
def list_command(as_json: bool) -> None:
    """List all targets and links. `host` is this machine; `show` measures it."""
    rows = [_row(name) for name in targets.names()]
    links = [_link(name) for name in targets.link_names()]
    if as_json:
        print_json({"targets": rows, "links": links})
        return
    columns = [report.Column("target"), report.Column("kind")]
    columns += [report.Column(t, right=True) for t in ("memory", "bandwidth", "bf16", "ridge")]
    columns.append(report.Column("device", rank=1))
    click.echo(report.table(columns, [_cells(row) for row in rows], table_width()))
    columns = [report.Column("link"), report.Column("one way", right=True)]
    columns += [report.Column("latency", right=True), report.Column("", rank=1)]
    cells = [
        [
            link["name"],
            report.amount(link["bandwidth_bytes_per_s"], "B/s"),
            report.duration(link["latency_us"] * 1e-6),
            link["title"],
        ]
        for link in links
    ]
    click.echo("\n" + report.table(columns, cells, table_width()))


@targets_group.command("show", short_help="A target, with sources.")
@click.argument("name", metavar="TARGET")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Show a target (h200, sn40l:16, a .toml file, host) with the source of every number."""
    target = targets.load(name)
    if as_json:
        print_json(target.as_json())
        return
    columns = [report.Column(title) for title in ("what", "value", "source, or why it was assumed")]
    rows = [
        [label, f"{value} {unit}".strip(), source]
        for label, value, unit, source in targets.describe(target)
        if label != "sha256"
    ]
    click.echo(f"{report.table(columns, rows)}\nsha256 of all of the above: {target.sha256}")


@targets_group.command("check", short_help="Check a target file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def check_command(context: click.Context, file: Path, as_json: bool) -> None:
    """Check a target file of your own; exit code 1 where it breaks a rule of the schema."""
    problems = targets.check(file)
    if as_json:
        found = [problem.as_json() for problem in problems]
        print_json({"file": str(file), "ok": not problems, "problems": found})
    elif problems:
        click.echo("\n".join(problem.render() for problem in problems))
    else:
        click.echo(f"{file}: ok")
    if problems:
        context.exit(1)


def _row(name: str) -> dict[str, Any]:
    empty = dict.fromkeys(("memory_bytes", "bandwidth_bytes_per_s", "flops_per_s", "ridge"))
    if name == HOST:
        # Measuring takes seconds: listing does not.
        return {"name": name, "kind": "cpu", "title": "this machine, measured by show", **empty}
    target = targets.load(name)
    return {
        "name": name,
        "kind": target.kind,
        "title": target.device.title,
        "memory_bytes": target.capacity_bytes(),
        "bandwidth_bytes_per_s": target.peak_bandwidth(),
        "flops_per_s": {dtype: target.peak_rate(dtype) for dtype in target.device.rates},
        "ridge": target.ridge("bf16"),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    if row["memory_bytes"] is None:
        return [row["name"], row["kind"], "", "", "", "", row["title"]]
    rates = row["flops_per_s"]
    return [
        row["name"],
        row["kind"],
        report.amount(row["memory_bytes"], "B"),
        report.amount(row["bandwidth_bytes_per_s"], "B/s"),
        report.amount(rates["bf16"], "FLOP/s") if "bf16" in rates else "",
        f"{row['ridge']:.0f} FLOP/B",
        row["title"],
    ]


def _link(name: str) -> dict[str, Any]:
    link = targets.load_link(name)
    return {
        "name": name,
        "title": link.title,
        "bandwidth_bytes_per_s": link.bandwidth.value,
        "latency_us": link.latency_us.value,
    }
