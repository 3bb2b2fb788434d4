"""`hetc export`: a spatial plan in the words of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver
from hetc.cli.output import json_option, print_files
from hetc.cli.settings import MODEL


@click.command("export", short_help="Write a spatial plan in other tools' words, to look at.")
@click.argument("source", metavar="PLAN|BUNDLE", type=MODEL)
@click.option(
    "--format",
    "format_name",
    required=True,
    type=click.Choice(["netlist", "aie", "csv"]),
    help="YAML like PyBuda's, MLIR like AIE's, or CSV files like Plasticine's.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="File to write; for csv a folder.",
)
@click.option("--target", metavar="TARGET", help="The plan's machine.  [by the name in the plan]")
@json_option
def export_command(
    source: Path, format_name: str, output: Path, target: str | None, as_json: bool
) -> None:
    """Write the spatial plan of a decode half in the words of another tool.

    For inspection: no vendor's tool accepts these files, and each says so.
    """
    written = driver.export_path(source, format_name, output, target)
    print_files(written, as_json=as_json)
