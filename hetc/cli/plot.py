"""`hetc plot`: a bundle or a plan in pictures."""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver
from hetc.cli.output import Progress, json_option, print_files
from hetc.cli.settings import MODEL


@click.command("plot", short_help="Draw floorplans, a token in time, and rooflines.")
@click.argument("source", metavar="BUNDLE|PLAN", type=MODEL)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["svg", "png"]),
    default="svg",
    help="SVG for a browser, light and dark; PNG for everything else.  [svg]",
)
@click.option("--target", metavar="TARGET", help="The plan's machine.  [by the name in the plan]")
@json_option
def plot_command(
    source: Path, output: Path, format_name: str, target: str | None, as_json: bool
) -> None:
    """Draw a bundle, or the plan of a decode half alone.

    The floorplan of every section, one token in time (an iteration of the main loop, and all of
    it), and of a bundle the rooflines of both phases.
    """
    with Progress(wanted=not as_json) as progress:
        progress("drawing")
        written = driver.plot_path(source, output, format_name, target)
    print_files(written, as_json=as_json)
