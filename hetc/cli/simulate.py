"""`hetc simulate`: what a request would take on machines that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width
from hetc.cli.settings import MODEL, given, request_options


@click.command("simulate", short_help="Predict the times of a request on given devices.")
@click.argument("model", type=MODEL)
@request_options
@click.option(
    "--weights",
    multiple=True,
    metavar="FORMAT",
    help="Format of the weights of products: f8, or GLOB=FORMAT for some; many times.",
)
@click.option("--kv", metavar="FORMAT", help="Format of state: f8, bfp8.  [the model's own]")
@click.option(
    "--calibrated",
    multiple=True,
    metavar="FRAMEWORK",
    help="Use the constants fitted to this framework, where a device has them; many times.",
)
@json_option
def simulate_command(model: Path, as_json: bool, **options: Any) -> None:
    """Predict TTFT, TPOT and total time of a request to MODEL on the devices of prefill and decode.

    The same device twice is that device alone; two devices are compared with each of them alone.
    MODEL is anything that `hetc compile` takes; its weights are not read. All times are estimates.
    """
    with Progress(wanted=not as_json) as progress:
        found = driver.simulate(model, driver.SimulateOptions(**given(options)), progress).as_json()
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(report.simulation_lines(found, table_width())))
