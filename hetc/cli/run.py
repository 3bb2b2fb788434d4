"""`hetc run`: from a prompt to text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetc.cli.lazy import driver
from hetc.cli.output import json_option, print_json, read_stdin
from hetc.cli.run_forward import run_forward
from hetc.cli.settings import BUNDLE, COUNT
from hetc.errors import UsageError

if TYPE_CHECKING:
    from hetc.runtime import Bundle, Generation, TextStream


def _token_ids(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int] | None:
    """Token ids with commas between them."""
    if value is None:
        return None
    try:
        return [int(item) for item in value.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a list of token ids such as 1,2,3", context, parameter
        ) from None


@click.command("run", short_help="Run a bundle on a prompt; text streams as it comes.")
@click.argument("bundle", type=BUNDLE)
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt; - reads it from stdin.")
@click.option(
    "--tokens", callback=_token_ids, metavar="IDS", help="The prompt as token ids: 1,2,3."
)
@click.option(
    "--inputs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Inputs of a model without phases: arrays by name, .npz or .safetensors.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where its outputs go: .npz or .safetensors.",
)
@click.option("-n", "--max-new-tokens", type=COUNT, default=128, show_default=True, metavar="N")
@click.option("--chat", is_flag=True, help="The prompt is a user's message in a chat.")
@click.option("--ignore-eos", is_flag=True, help="Go on to exactly N tokens.")
@click.option("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy.  [0]")
@click.option("--top-k", type=int, default=0, metavar="K", help="Of the K likeliest tokens.")
@click.option(
    "--top-p", type=float, default=1.0, metavar="P", help="Of the likeliest that sum to P."
)
@click.option("--min-p", type=float, default=0.0, metavar="P", help="At least P of the likeliest.")
@click.option("--repetition-penalty", type=float, default=1.0, metavar="R", help="1 is none.  [1]")
@click.option("--seed", type=int, metavar="N", help="The same seed gives the same text.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; many times.")
@click.option(
    "--executor", metavar="NAME", help="cuda, onnx, native or reference.  [the first that works]"
)
@json_option
def run_command(
    bundle: Path,
    prompt: str | None,
    tokens: list[int] | None,
    inputs: Path | None,
    output: Path | None,
    executor: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run BUNDLE on a prompt: text goes to stdout as it comes, timings to stderr at the end.

    A BUNDLE without phases is called once on the arrays of --inputs.
    """
    if inputs is not None or output is not None:
        _refuse_prompt(prompt, tokens, inputs)
        run_forward(bundle, inputs, output, executor, as_json=as_json)
        return
    if (prompt is None) == (tokens is None):
        raise UsageError(
            "HETC-U006",
            "one prompt is needed",
            at="hetc run",
            expected="either -p TEXT or --tokens IDS; of a bundle without phases, --inputs FILE",
            found="both" if prompt is not None else "neither",
        )
    given: Any = tokens if prompt is None else prompt
    if prompt == "-":
        # `echo` and editors end a text with a newline that is not meant.
        given = read_stdin().removesuffix("\n").removesuffix("\r")
    with driver.load(bundle, executor=executor) as loaded:
        if as_json:
            generation: Generation = loaded.generate(given, stream=False, **options)
            print_json(generation.as_json() | {"fallbacks": list(map(str, loaded.fallbacks))})
            return
        for reason in loaded.fallbacks:
            click.echo(f"note: an executor was passed over: {reason}", err=True)
        click.echo(_timings(_print_text(loaded, given, options)), err=True)


def _refuse_prompt(prompt: str | None, tokens: list[int] | None, inputs: Path | None) -> None:
    if inputs is None or prompt is not None or tokens is not None:
        raise UsageError(
            "HETC-U006",
            "--output is for a call with --inputs" if inputs is None else "one input is needed",
            at="hetc run",
            expected="--inputs FILE alone" if inputs is not None else "--inputs FILE too",
            found="a prompt too" if inputs is not None else "no --inputs",
        )


def _print_text(loaded: Bundle, prompt: Any, options: dict[str, Any]) -> Generation:
    """Print the answer as it comes; token ids where the bundle has no tokenizer."""
    if not isinstance(prompt, str) and not _has_tokenizer(loaded):
        generation: Generation = loaded.generate(prompt, stream=False, **options)
        click.echo(",".join(map(str, generation.token_ids)))
        return generation
    stream: TextStream = loaded.generate(prompt, stream=True, **options)
    for piece in stream:
        click.echo(piece, nl=False)
    click.echo()
    return stream.result


def _has_tokenizer(loaded: Bundle) -> bool:
    return "tokenizer/tokenizer.json" in loaded.manifest.files


def _timings(done: Generation) -> str:
    executors = " + ".join(dict.fromkeys(done.executors.values()))
    decode = done.decode_tokens_per_s
    parts = [
        f"{done.prompt_tokens} prompt tokens at {done.prefill_tokens_per_s:,.1f}/s",
        f"first token after {done.ttft_s:.3f} s",
        f"{done.new_tokens} new tokens" + (f" at {decode:,.1f}/s" if decode is not None else ""),
        executors,
        f"ended by {done.finish_reason}",
    ]
    return f"[{' · '.join(parts)}]"
