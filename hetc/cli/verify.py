"""`hetc verify`: is this bundle whole, and does it compute what its model computes?"""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json
from hetc.cli.settings import BUNDLE, MODEL


@click.command("verify", short_help="Check a bundle's files and its numerics.")
@click.argument("bundle", type=BUNDLE)
@click.option("--against", type=MODEL, metavar="MODEL", help="Compare with the original model too.")
@click.option(
    "--executor", metavar="NAME", help="onnx, reference or native.  [the first that works]"
)
@click.option(
    "--through",
    type=click.Choice(["plan"]),
    help="Also decode through the spatial plan, tile by tile.",
)
@json_option
@click.pass_context
def verify_command(
    context: click.Context,
    bundle: Path,
    against: Path | None,
    executor: str | None,
    through: str | None,
    as_json: bool,
) -> None:
    """Check BUNDLE: its files, then its numerics through the hand-off.

    With --against, both halves are compared with the original framework's logits, teacher-forced:
    prefill, and decode token by token. Exit code 1 where a check fails.
    """
    with Progress(wanted=not as_json) as progress:
        progress("verifying")
        found = driver.verify(
            bundle, against, executor=executor, through_the_plan=through == "plan"
        )
    if as_json:
        print_json(found.as_json())
    else:
        columns = [report.Column("check"), report.Column(""), report.Column("what was found")]
        rows = [[c.name, "ok" if c.ok else "FAILED", _first_line(c.detail)] for c in found.checks]
        click.echo(report.table(columns, rows))
        for check in found.checks:
            if not check.ok and "\n" in check.detail:
                click.echo(f"\n{check.detail}")
        if found.first_divergence is not None:
            places = (f"{key} {value}" for key, value in found.first_divergence.items())
            click.echo(f"\nfirst divergence: {', '.join(places)}")
    if not found.ok:
        context.exit(1)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
