"""`hetc`: the group of all commands, and the console entry."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

import hetc
from hetc.cli.bench import bench_command
from hetc.cli.compile import compile_command
from hetc.cli.diff import diff_command
from hetc.cli.doctor import doctor_command
from hetc.cli.export import export_command
from hetc.cli.faults import guarded
from hetc.cli.group import Group
from hetc.cli.inspect import explain_command, inspect_command
from hetc.cli.lint import lint_command
from hetc.cli.opt import opt_command
from hetc.cli.plot import plot_command
from hetc.cli.run import run_command
from hetc.cli.simulate import simulate_command
from hetc.cli.targets import targets_group
from hetc.cli.tune import tune_command
from hetc.cli.verify import verify_command


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(hetc.__version__, "-V", "--version", message="hetc %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """Compile a language model into a prefill half and a decode half, and run both.

    \b
      hetc compile MODEL -o DIR       from a model to a bundle
      hetc run DIR -p "Once upon"     run it
      hetc inspect DIR                what went where, and why
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    compile_command,
    inspect_command,
    explain_command,
    run_command,
    bench_command,
    tune_command,
    verify_command,
    lint_command,
    export_command,
    plot_command,
    diff_command,
    simulate_command,
    targets_group,
    opt_command,
    doctor_command,
):
    app.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hetc` with `argv` (the process's own where None) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console that lacks a character shows a question mark in its place.
            stream.reconfigure(errors="replace")

    def command() -> int:
        code = app.main(arguments, prog_name="hetc", standalone_mode=False)
        return code if isinstance(code, int) else 0

    return guarded(command, arguments)
