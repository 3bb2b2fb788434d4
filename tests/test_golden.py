"""The golden-file fixture fails on a difference, shows it, and writes only when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import Golden


def test_equal_text_passes_up_to_the_final_newline(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    Golden(tmp_path, update=False)("a.txt", "one\ntwo")


def test_a_difference_fails_with_a_diff_and_leaves_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)-two\n.*\+2\n"):
        Golden(tmp_path, update=False)("a.txt", "one\n2\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "one\ntwo\n"


def test_a_missing_file_fails_and_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="--update-golden"):
        Golden(tmp_path, update=False)("a.txt", "one")
    assert not (tmp_path / "a.txt").exists()


def test_update_writes_what_the_next_run_expects(tmp_path: Path) -> None:
    Golden(tmp_path / "golden", update=True)("a.txt", "one")
    Golden(tmp_path / "golden", update=False)("a.txt", "one\n")


def test_the_fixture_looks_beside_its_test(golden: Golden) -> None:
    assert golden.folder == Path(__file__).parent / "golden"
