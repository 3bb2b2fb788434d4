"""Golden text files: what a test expects, kept beside it and rewritten with one flag."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Golden:
    """Compares text with `golden/NAME` in the folder of the test that asked for the fixture.

    `pytest --update-golden` writes the files instead; read the diff before committing it.
    """

    folder: Path
    update: bool

    def __call__(self, name: str, text: str) -> None:
        """Fail with a unified diff unless `text` equals the golden file, up to a final newline."""
        path = self.folder / name
        found = text.rstrip("\n") + "\n"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8", newline="\n")
            return
        if not path.is_file():
            pytest.fail(f"{path} does not exist; write it with --update-golden", pytrace=False)
        expected = path.read_text(encoding="utf-8")
        if found != expected:
            lines = (expected.splitlines(keepends=True), found.splitlines(keepends=True))
            diff = "".join(difflib.unified_diff(*lines, f"expected {name}", "found"))
            pytest.fail(f"{path} differs; --update-golden rewrites it\n{diff}", pytrace=False)
