"""`hetc lint`: is this plan one that a machine could run?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from hetc.cli.lazy import driver
from hetc.cli.output import json_option, print_json
from hetc.cli.settings import MODEL


@click.command("lint", short_help="Check a spatial plan against its machine and its graph.")
@click.argument("source", metavar="PLAN|BUNDLE", type=MODEL)
@click.option("--target", metavar="TARGET", help="Check against this machine.  [the plan's own]")
@json_option
@click.pass_context
def lint_command(context: click.Context, source: Path, target: str | None, as_json: bool) -> None:
    """Check the spatial plan of a decode half: units, memory, routes, deadlock, dataflow, figures.

    A bundle's plan is checked against the graph that it is of, too. Exit code 1 where an error is
    found; advice alone is no failure.
    """
    linted = driver.lint_path(source, target)
    if as_json:
        print_json(
            {
                "ok": linted.ok,
                "findings": [asdict(finding) for finding in linted.findings],
                "checks": [
                    {"code": check.code, "ok": check.ok, "text": check.text}
                    for check in linted.checks
                ],
            }
        )
    else:
        click.echo(linted.text, nl=False)
        click.echo(f"{len(linted.checks)} rules checked")
    if not linted.ok:
        context.exit(1)
