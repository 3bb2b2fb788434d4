"""Sources of kernels are rendered and imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from hetc.backends.triton.linear import LinearSpec, kernel
from hetc.backends.triton.source import load_function, pointer, render, triton_element

SOURCE = "def answer() -> int:\n    return 42\n"


def test_elements_have_the_names_of_triton() -> None:
    assert (pointer("bf16"), triton_element("bf16")) == ("*bf16", "tl.bfloat16")
    assert (pointer("f32"), triton_element("f32")) == ("*fp32", "tl.float32")
    assert (pointer("f8e4m3"), triton_element("f8e4m3")) == ("*fp8e4nv", "tl.float8e4nv")


def test_a_template_that_misses_something_is_no_source() -> None:
    with pytest.raises(UndefinedError, match="spec"):
        render("linear.py.j2")


def test_a_function_is_imported_from_a_file_that_equal_sources_share(tmp_path: Path) -> None:
    assert load_function(SOURCE, "answer", tmp_path)() == 42
    assert load_function(SOURCE, "answer", tmp_path)() == 42
    assert load_function(SOURCE.replace("42", "43"), "answer", tmp_path)() == 43
    files = list(tmp_path.glob("*"))
    assert len(files) == 2
    assert all(path.name.startswith("answer_") for path in files)
    assert {path.read_text() for path in files} == {SOURCE, SOURCE.replace("42", "43")}


def test_lines_of_a_source_carry_nothing_of_the_template() -> None:
    source = kernel(LinearSpec("bf16", n=64, k=64, residual=True)).source
    assert source.startswith('"""')
    assert "{" not in source
    assert not any(line != line.rstrip() for line in source.splitlines())
    assert "\n\n\n\n" not in source
