"""Help: quick, complete, and true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import hetc as package
from hetc.cli.app import app
from hetc.cli.opt import opt_command
from hetc.driver import CompileOptions
from hetc.driver.options import USUAL_ANSWER, USUAL_PROMPT
from hetc.driver.plan import DEFAULT_LINK, DEFAULT_PREFILL
from hetc.passes.registry import pass_names
from tests.cli.conftest import Hetc

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "compile": ("compile",),
    "inspect": ("inspect",),
    "explain": ("explain",),
    "run": ("run",),
    "tune": ("tune",),
    "verify": ("verify",),
    "simulate": ("simulate",),
    "lint": ("lint",),
    "plot": ("plot",),
    "export": ("export",),
    "diff": ("diff",),
    "targets list": ("targets", "list"),
    "targets show": ("targets", "show"),
    "targets check": ("targets", "check"),
    "opt": ("opt",),
    "doctor": ("doctor",),
}


@pytest.mark.parametrize("words", ["--help", "compile --help", "--version", "run"])
def test_nothing_heavy_is_imported_before_a_command_runs(words: str) -> None:
    script = (
        f"import sys; from hetc.cli import main; main({words.split()!r})\n"
        "print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.rpartition("loaded:")[2].split())
    assert "click" in loaded
    assert not loaded & {"numpy", "torch", "onnxruntime", "transformers", "jinja2"}


def test_hetc_alone_shows_all_commands(hetc: Hetc) -> None:
    ran = hetc()
    assert ran.code == 0
    for name in {line.partition(" ")[0] for line in COMMANDS}:
        assert re.search(rf"^  {name} ", ran.out, re.MULTILINE)
    assert hetc("-h").out == hetc("--help").out == ran.out


def test_version(hetc: Hetc) -> None:
    assert hetc("--version").out == f"hetc {package.__version__}\n"


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_has_json_and_says_what_it_does(words: tuple[str, ...], hetc: Hetc) -> None:
    ran = hetc(*words, "--help")
    assert ran.code == 0
    assert "--json" in ran.out
    command: click.Command = app
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "max_new_tokens":
            assert parameter.help, parameter.name


def test_the_defaults_in_the_help_are_those_of_the_driver(hetc: Hetc) -> None:
    text = " ".join(hetc("compile", "--help").out.split())
    defaults = CompileOptions()
    told = {"prefill": DEFAULT_PREFILL, "prompt-tokens": USUAL_PROMPT, "new-tokens": USUAL_ANSWER}
    for option in ("prefill", "decode", "batch", "prompt-tokens", "new-tokens"):
        (said,) = re.findall(rf"--{option} \w+ .*?\[([^\]]*)\]", text)
        assert said == str(told.get(option) or getattr(defaults, option))
    assert f"[{DEFAULT_LINK}]" in text
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"| {USUAL_PROMPT}, {USUAL_ANSWER}, or what fits |" in page


def test_the_help_of_opt_lists_every_pass() -> None:
    text = opt_command.get_help(click.Context(opt_command))
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in pass_names())
    assert "requires causal" in " ".join(text.split())
