"""`hetc opt`: passes on IR text."""

from __future__ import annotations

from pathlib import Path

import click

from hetc.cli.lazy import driver, registry
from hetc.cli.output import json_option, not_text, print_json, read_stdin
from hetc.errors import InputError


class _Opt(click.Command):
    """A command whose help lists the passes there are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Pipelines"):
            named = registry.PIPELINES.items()
            formatter.write_dl([(name, ", ".join(steps)) for name, steps in named])
        with formatter.section("Passes"):
            formatter.write_dl([(name, _describe(name)) for name in registry.pass_names()])


@click.command("opt", cls=_Opt, short_help="Run passes on IR text: text in, text out.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-p",
    "--pipeline",
    required=True,
    metavar="PASSES",
    help="Names of passes or pipelines with commas between them.",
)
@json_option
def opt_command(file: Path, pipeline: str, as_json: bool) -> None:
    """Run passes on the last graph of FILE (IR text; - is stdin) and print what comes out."""
    text = driver.optimize(_read(file), pipeline)
    if as_json:
        print_json({"pipeline": pipeline, "text": text})
    else:
        click.echo(text.rstrip("\n"))


def _describe(name: str) -> str:
    step = registry.load_pass(name)
    known = (("requires", step.requires), ("ensures", step.ensures))
    facts = [f"{word} {', '.join(sorted(names))}" for word, names in known if names]
    return f"{step.summary} ({'; '.join(facts)})" if facts else step.summary


def _read(file: Path) -> str:
    try:
        if str(file) == "-":
            return read_stdin()
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            "HETC-I001", "the file cannot be read", at=str(file), found=error.strerror or ""
        ) from error
    except UnicodeDecodeError as error:
        raise not_text(str(file), error) from error
