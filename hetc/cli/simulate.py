"""`hetc simulate`: what a request would take on machines that are not here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width
from hetc.cli.settings import MODEL, given, request_options
from hetc.errors import UsageError

# Options by name: what is told of a plan, what only a plan takes, and all that it takes.
_LOOKS = ("mode", "trace", "sensitivity", "techniques")
_ONLY_OF_PLANS = ("target", "all")
_OF_PLANS = ("mode", "trace", "sensitivity", *_ONLY_OF_PLANS)


@click.command("simulate", short_help="Predict the times of a request, or of a spatial plan.")
@click.argument("source", metavar="MODEL|BUNDLE|PLAN", type=MODEL)
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
@click.option(
    "--techniques",
    is_flag=True,
    default=None,
    help="Show what looping, prefetch, overlap and fusion give the plan of a model.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    default=None,
    help="Show the plan's TPOT at both ends of every assumed constant's range.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a token of the plan for Perfetto or chrome://tracing.",
)
@click.option(
    "--mode",
    type=click.Choice(["maxplus", "heap", "analytic"]),
    help="Longest path, the same by events (slow), or the closed form.  [maxplus]",
)
@click.option("--target", metavar="TARGET", help="A plan's machine.  [by the name in the plan]")
@click.option(
    "--all", is_flag=True, default=None, help="Show every stage, port and buffer of a plan."
)
@json_option
def simulate_command(source: Path, as_json: bool, **options: Any) -> None:
    """Predict TTFT, TPOT and total time of a request to MODEL on the devices of prefill and decode,
    or time one token of the spatial plan of a BUNDLE or a PLAN file, cycle by cycle.

    The same device twice is that device alone; two devices are compared with each of them alone.
    MODEL is anything that `hetc compile` takes; its weights are not read. Where decode's target has
    a grid, an ideal plan is made and timed beside. All times are estimates.
    """
    asked = given(options)
    is_plan = driver.holds_plan(source)
    _check_fits(source, asked, is_plan=is_plan)
    looks = driver.Looks(**{name: asked.pop(name) for name in _LOOKS if name in asked})
    found: dict[str, Any]
    with Progress(wanted=not as_json) as progress:
        if is_plan:
            found = driver.simulate_plan(source, looks, progress, asked.get("target")).as_json()
        else:
            request = driver.SimulateOptions(**asked)
            found = driver.simulate(source, request, progress, looks).as_json()
    if as_json:
        print_json(found)
        return
    width = table_width()
    if is_plan:
        lines = report.plan_simulation_lines(found, width, every_stage=bool(asked.get("all")))
    else:
        lines = report.simulation_lines(found, width)
    click.echo("\n".join(lines))


def _check_fits(source: Path, asked: Mapping[str, Any], *, is_plan: bool) -> None:
    """Raise UsageError (HETC-U015) for options that mean nothing for this kind of source."""
    wrong = [
        name for name in asked if (name not in _OF_PLANS if is_plan else name in _ONLY_OF_PLANS)
    ]
    if not wrong:
        return
    do = "leave them out" + (", or simulate the model with them" if is_plan else "")
    raise UsageError(
        "HETC-U015",
        f"these options do not fit {'a plan, which is decided already' if is_plan else 'a model'}",
        at=str(source),
        found=", ".join(f"--{name.replace('_', '-')}" for name in wrong),
        do=do,
    )
