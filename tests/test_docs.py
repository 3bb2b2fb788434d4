"""The pages: generated ones are current, links lead somewhere, commands parse, programs run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs.generate import pages
from hetc.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TASKS = sorted((ROOT / "docs" / "tasks").glob("*.md"))
# Pages that speak of what is there; those on tasks also name files that a reader would write.
DESCRIBING = [page for page in PAGES if page not in TASKS]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:hetc|tests|docs|examples|benchmarks)/[\w./-]+)`")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language; `""` are those that name none."""
    return [text for kind, text in FENCE.findall(page.read_text("utf-8")) if kind == language]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_current(name: str) -> None:
    text = (ROOT / "docs" / name).read_text("utf-8")
    assert text == pages()[name], "`make docs` writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if link.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", DESCRIBING, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    missing = [path for path in PATH.findall(page.read_text("utf-8")) if not (ROOT / path).exists()]
    assert not missing


def test_the_map_has_every_room_and_page() -> None:
    text = (ROOT / "docs" / "map.md").read_text("utf-8")
    rooms = {path.parent.name for path in (ROOT / "hetc").glob("*/__init__.py")}
    assert not {room for room in rooms if f"`hetc/{room}/`" not in text}
    folder = ROOT / "docs"
    others = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")} - {"map.md"}
    assert not {page for page in others if f"]({page})" not in text}


def commands() -> Iterator[tuple[str, str]]:
    """Page and line of every `hetc ...` in a block, but for those that show a grammar."""
    for page in PAGES:
        for block in FENCE.findall(page.read_text("utf-8")):
            for line in block[1].replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ")
                if command.startswith("hetc ") and not re.search(r"[\[|…]|\.\.\.", command):
                    yield name_of(page), command


def test_the_readme_shows_commands() -> None:
    assert "README.md" in {page for page, _ in commands()}


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_commands_parse(page: str, line: str) -> None:
    command: click.Command = app
    words = shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: {line}"
        command, words = command.commands[words[0]], words[1:]
    given, left, _ = command.make_parser(click.Context(command)).parse_args(args=list(words))
    assert not left, f"{page}: {line}: what is {left}?"
    wanted = {parameter.name for parameter in command.params if parameter.required}
    asks_for_help = given.get("help") or given.get("version")
    assert asks_for_help or wanted <= {name for name, value in given.items() if value}, line


@pytest.mark.slow
def test_the_readme_shows_what_the_commands_print(
    smollm2_gguf: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """`--update-golden` rewrites what the README shows."""
    (tmp_path / smollm2_gguf.name).symlink_to(smollm2_gguf)
    readme = ROOT / "README.md"
    shown = [block for block in blocks(readme, "") if block.startswith("$ hetc ")]
    assert len(shown) >= 4
    for block in shown:
        command, *expected = block.splitlines()
        run = start([sys.executable, "-m", "hetc.cli", *shlex.split(command)[2:]], tmp_path)
        assert run.returncode == 0, run.stderr
        if pytestconfig.getoption("update_golden"):
            new = f"{command}\n{run.stdout}{run.stderr}"
            readme.write_text(readme.read_text("utf-8").replace(block, new), "utf-8")
            continue
        # Times are on stderr, in brackets, as are notes of this machine.
        expected = [line for line in expected if not line.startswith(("[", "note: "))]
        assert list(map(rounded, run.stdout.splitlines())) == list(map(rounded, expected))


def rounded(line: str) -> str:
    """`line` without what rounding on another machine may change."""
    return re.sub(r"\d(\.\d+)?e[+-]\d+", "#", line).rstrip()


def start(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("page", TASKS, ids=name_of)
def test_the_program_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """The Python blocks are one program; it prints what the `text` blocks show."""
    for text in blocks(page, "toml"):
        (tmp_path / "my-chip.toml").write_text(text, "utf-8")
    program = "\n\n".join(blocks(page, "python"))
    assert program
    run = start([sys.executable, "-c", program], tmp_path)
    assert run.returncode == 0, run.stderr
    shown = "\n".join(blocks(page, "text")).split()
    assert not shown or run.stdout.split() == shown
