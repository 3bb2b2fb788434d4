"""`hetc bench`: how fast a bundle runs here, beside what the machine can do."""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json, table_width
from hetc.cli.settings import BUNDLE, COUNT


@click.command("bench", short_help="Measure how fast a bundle runs on this machine.")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--executor",
    metavar="NAME",
    help="cuda, onnx, native or reference.  [the first that works]",
)
@click.option("--prompt", "prompts", type=COUNT, multiple=True, metavar="N", help="Prompt tokens.")
@click.option("--context", "contexts", type=COUNT, multiple=True, metavar="N", help="In the state.")
@click.option("--batch", "batches", type=COUNT, multiple=True, metavar="N", help="Sequences.")
@click.option("--repeats", type=COUNT, default=None, metavar="N", help="Runs of a prompt.  [3]")
@click.option("--steps", type=COUNT, default=None, metavar="N", help="Timed steps of decode.  [16]")
@json_option
def bench_command(
    bundle: Path,
    executor: str | None,
    as_json: bool,
    **options: tuple[int, ...] | int | None,
) -> None:
    """Time prefill and decode of BUNDLE on this machine: tokens/s, MBU of the read bandwidth and
    MFU of the rate of f32 products, both measured in the same run.

    Prompts, contexts and batches may be given many times; by default 128, 512 and 2048 tokens, 64,
    1024 and 4096 tokens in the state, and 1, 4 and 16 sequences.
    """
    given = {name: value for name, value in options.items() if value}
    asked = driver.BenchOptions(**given)  # type: ignore[arg-type]
    with Progress(wanted=not as_json) as progress:
        found = driver.bench(bundle, asked, progress, executor).as_json()
    if as_json:
        print_json(found)
        return
    click.echo("\n".join(report.bench_lines(found, table_width())))
