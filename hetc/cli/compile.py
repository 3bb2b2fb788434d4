"""`hetc compile`: from a model to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import Progress, json_option, print_json
from hetc.cli.settings import MODEL, compile_options, plan_options

if TYPE_CHECKING:
    from hetc.driver import Compiled


@click.command("compile", short_help="Compile a model into a bundle.")
@click.argument("model", type=MODEL)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the bundle goes.",
)
@plan_options
@click.option("--overwrite", is_flag=True, help="Replace a bundle that stands at DIR.")
@json_option
def compile_command(
    model: Path, output: Path, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Compile MODEL into a bundle that holds all that it needs to run.

    MODEL is a Hugging Face directory, a .gguf, .pt2 or .onnx file, or a directory with only
    config.json, which gives a plan that can be inspected and not run. A model whose inputs and
    outputs are no language model's is compiled as one function, without prefill and decode.
    """
    with Progress(wanted=not as_json) as progress:
        compiled = driver.compile_bundle(
            model, output, compile_options(options), progress, overwrite=overwrite
        )
    if as_json:
        print_json(_as_json(compiled))
        return
    for line in report.with_bundle(compiled.summary, f"{output}/", _bytes(compiled)):
        click.echo(line)


def _bytes(compiled: Compiled) -> int:
    return sum(entry.size for entry in compiled.manifest.files.values())


def _as_json(compiled: Compiled) -> dict[str, Any]:
    manifest = compiled.manifest
    return {
        "bundle": str(compiled.path),
        "kind": manifest.kind,
        "bytes": _bytes(compiled),
        "model": vars(manifest.model),
        "workload": None if manifest.workload is None else vars(manifest.workload),
        "forward": None if manifest.forward is None else manifest.forward.to_json(),
        "targets": {role: vars(target) for role, target in manifest.targets.items()},
        "executors": manifest.executors,
        "contract_sha256": manifest.contract_sha256 or None,
        "summary": compiled.summary,
        "assumptions": list(manifest.assumptions),
        "fallbacks": [vars(fallback) for fallback in manifest.fallbacks],
        "seconds": compiled.seconds,
    }
