"""`hetc diff`: what is not the same in two plans or bundles?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import json_option, print_json, table_width
from hetc.cli.settings import MODEL


@click.command("diff", short_help="Compare two plans or two bundles.")
@click.argument("a", metavar="A", type=MODEL)
@click.argument("b", metavar="B", type=MODEL)
@json_option
@click.pass_context
def diff_command(context: click.Context, a: Path, b: Path, as_json: bool) -> None:
    """Compare A and B, each a bundle or a plan file.

    Plans are compared by what they say: sections, units, tiling, depths, ports, places, memory,
    program, estimates. Two bundles are compared by what was decided, too: devices of ops, times.
    Exit code 1 where something differs.
    """
    found = driver.diff_paths(a, b)
    if as_json:
        rows = [asdict(difference) for difference in found]
        print_json({"a": str(a), "b": str(b), "equal": not found, "differences": rows})
    else:
        click.echo("\n".join(report.diff_lines(found, table_width())))
    if found:
        context.exit(1)
