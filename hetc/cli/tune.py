"""`hetc tune`: the fastest build of each kernel on the GPU at hand."""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width
from hetc.cli.settings import BUNDLE


@click.command("tune", short_help="Find the fastest kernels of a bundle on this GPU.")
@click.argument("bundle", type=BUNDLE)
@json_option
def tune_command(bundle: Path, as_json: bool) -> None:
    """Time every stored build of the kernels of BUNDLE on this machine's GPU and remember the
    fastest, in a file of the user's cache that later loads read. Results are the same without it.
    """
    with Progress(wanted=not as_json) as progress:
        found = driver.tune(bundle, progress).as_json()
    if as_json:
        print_json(found)
        return
    click.echo("\n".join(report.tune_lines(found, table_width())))
