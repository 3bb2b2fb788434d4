"""Options of compiling: shared by the commands that plan a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hetc.cli.lazy import driver

if TYPE_CHECKING:
    from hetc.driver import CompileOptions

F = TypeVar("F", bound=Callable[..., Any])

COUNT = click.IntRange(min=1)


class _SourcePath(click.Path):
    """A path that names something."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("an empty path names nothing", param, ctx)
        return super().convert(value, param, ctx)


class _BundlePath(_SourcePath):
    """The folder of a bundle."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) and Path(value).is_file():
            does = "a bundle is a folder, and hetc compile makes one of a model"
            self.fail(f"{str(value)!r} is a file; {does}", param, ctx)
        return super().convert(value, param, ctx)


MODEL = _SourcePath(path_type=Path)
BUNDLE = _BundlePath(exists=True, file_okay=False, path_type=Path)
DTYPES = ("fp32", "bf16", "fp16")

# Defaults are those of CompileOptions; None here means that the user gave nothing.
_PREFILL = click.option(
    "--prefill", metavar="TARGET", help="Device for prefill: h200, h200:4, x.toml.  [h200]"
)
_DECODE = click.option(
    "--decode", metavar="TARGET", help="Device for decode: sn40l, sn40l:16, host.  [sn40l]"
)
_BATCH = click.option("--batch", type=COUNT, metavar="N", help="Sequences at once.  [1]")
_CONTEXT = click.option(
    "--context", type=COUNT, metavar="N", help="Longest sequence, in tokens.  [the model's own]"
)
_PROMPT = click.option(
    "--prompt-tokens", type=COUNT, metavar="N", help="Length of a usual prompt.  [2048]"
)
_NEW = click.option(
    "--new-tokens", type=COUNT, metavar="N", help="Length of a usual answer.  [128]"
)
_DTYPE = click.option(
    "--dtype", type=click.Choice(DTYPES), help="Type of the weights.  [the model's own]"
)
_QUANTIZE = click.option(
    "--quantize",
    type=click.Choice(("none", "keep", "int8", "int4")),
    help="Store matrices as integers, in groups.  [keep: those of the source]",
)
_KV = click.option(
    "--kv",
    type=click.Choice(("model", "int8")),
    help="How the native engine keeps keys and values.  [model]",
)
_LINK = click.option(
    "--link", metavar="NAME|GBPS", help="Link between the devices, or its GB/s.  [pcie5]"
)
_POLICY = click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TOML file of pins, limits and declarations.",
)
_PLAN = click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON file of what is fixed of the spatial plan.",
)
_PHASES = click.option(
    "--phases",
    type=click.Choice(("auto", "none")),
    help="none compiles any model as one function.  [auto]",
)
_STRICT = click.option("--strict", is_flag=True, default=None, help="Refuse every fallback.")
_CALIBRATED = click.option(
    "--calibrated",
    multiple=True,
    metavar="FRAMEWORK",
    help="Use the constants fitted to this framework, where a device has them; many times.",
)
_REQUEST = (_PREFILL, _DECODE, _BATCH, _PROMPT, _NEW, _DTYPE, _LINK)
_PLACED = (_CALIBRATED, _POLICY, _PLAN, _STRICT)
_SIZES = (_BATCH, _CONTEXT, _PROMPT, _NEW)
_OPTIONS = (_PREFILL, _DECODE, *_SIZES, _DTYPE, _QUANTIZE, _KV, _PHASES, _LINK, *_PLACED)


def plan_options(command: F) -> F:
    """Give `command` the options of compiling; they arrive as keywords, None where not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_options(command: F) -> F:
    """Give `command` the options that say what a request is and what it runs on."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """What the user said of `options`."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def compile_options(options: dict[str, Any]) -> CompileOptions:
    """`options` over the defaults."""
    return driver.CompileOptions(**given(options))
