"""`hetc doctor`: what is installed, and what works here."""

from __future__ import annotations

import click

import hetc
from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width


@click.command("doctor", short_help="Show what is installed and what works here.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Show what is installed, what each part of hetc can do here, and what is missing for what."""
    with Progress(wanted=not as_json) as progress:
        progress("measuring this machine")
        findings = driver.doctor()
    if as_json:
        print_json({"version": hetc.__version__, "findings": [vars(found) for found in findings]})
        return
    columns = [report.Column("what"), report.Column(""), report.Column("found")]
    rows = [[found.name, found.status, found.detail] for found in findings]
    click.echo(report.table(columns, rows, table_width()))
