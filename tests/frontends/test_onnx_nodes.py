"""The node tests of ONNX itself, through the importer and the reference semantics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.onnx_nodes.cases import KNOWN, NodeCase, difference, failure, node_cases
from tests.frontends.onnx_nodes.page import PAGE, counts, page, runtime_operators
from tests.frontends.onnx_nodes.scope import FAILING, NAMED, out_of_scope

QUICK = ("test_add", "test_matmul_4d", "test_softmax_axis_1", "test_cast_FLOAT_to_DOUBLE")


@pytest.fixture(scope="module")
def failures() -> Mapping[str, str]:
    """What keeps each test from passing; empty where it passes."""
    return {name: failure(case) for name, case in node_cases().items()}


@pytest.mark.parametrize("name", QUICK)
def test_some_of_them(name: str) -> None:
    assert not failure(node_cases()[name])


@pytest.mark.slow
def test_all_in_scope_pass_but_for_those_that_are_listed(failures: Mapping[str, str]) -> None:
    failing = {
        name: problem
        for name, problem in failures.items()
        if problem and not out_of_scope(node_cases()[name])
    }
    assert failing.keys() == FAILING.keys(), failing


@pytest.mark.slow
def test_none_out_of_scope_passes(failures: Mapping[str, str]) -> None:
    passing = [
        name for name, case in node_cases().items() if out_of_scope(case) and not failures[name]
    ]
    assert passing == []


@pytest.mark.slow
def test_goals(failures: Mapping[str, str]) -> None:
    _, inside, passing = counts(failures)
    assert passing >= 1300
    assert passing >= 0.97 * inside


@pytest.mark.slow
def test_the_page_says_what_happens(failures: Mapping[str, str]) -> None:
    written = PAGE.read_text("utf-8")
    assert written == page(failures), "python -m tests.frontends.onnx_nodes --write"


def test_the_tables_name_what_exists() -> None:
    cases = node_cases()
    known = {*cases, *(case.op for case in cases.values())}
    assert known >= NAMED
    assert cases.keys() >= FAILING.keys()
    assert {case.op for case in cases.values()} >= KNOWN.keys()


def test_every_operator_of_onnx_runtime_is_tested_against_it() -> None:
    folder = Path(__file__).parent
    names = ("test_onnx_runtime_attention", "test_onnx_runtime_nodes", "test_onnx_quantized")
    sources = "".join((folder / f"{name}.py").read_text("utf-8") for name in names)
    assert [name for name in runtime_operators() if f'"{name}"' not in sources] == []


def test_a_wrong_result_is_seen() -> None:
    right = node_cases()["test_add"]
    wrong = dataclasses.replace(
        right.test,
        data_sets=[(inputs, [outputs[0] + 0.01]) for inputs, outputs in right.test.data_sets],
    )
    assert "numbers differ" in failure(NodeCase(right.name, right.op, False, wrong))


def test_differences() -> None:
    one, nan = np.array([1.0, np.nan], np.float32), np.array([1.0, np.nan], np.float32)
    assert difference(one, nan, 1e-3, 0) == ""
    assert "is expected" in difference(one, one.astype(np.float64), 1e-3, 0)
    assert "is expected" in difference(one, one[:1], 1e-3, 0)
    assert "1 of 2 numbers differ" in difference(one, np.array([1.0, 2.0], np.float32), 1e-3, 0)
