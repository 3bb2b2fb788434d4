"""The reference page is that of the op classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hetc.ir.document import document, signature
from hetc.ir.examples import example
from hetc.ir.op import OPS

PAGE = Path(__file__).parents[2] / "docs" / "ir-reference.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == document(), "make docs writes it anew"


@pytest.mark.parametrize("kind", OPS)
def test_every_op_has_an_example_of_itself(kind: str) -> None:
    graph = example(kind)
    assert [op.kind for op in graph.ops] == [kind]
    assert f"### {kind}\n" in PAGE.read_text(encoding="utf-8")


def test_signatures() -> None:
    assert signature(OPS["rms_norm"]) == "rms_norm x, weight? {eps = 1e-06, offset = 0.0}"
    assert signature(OPS["concat"]) == "concat [xs...] {axis}"
    assert signature(OPS["add"]) == "add x: Scalar, y: Scalar"
