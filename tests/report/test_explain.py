"""Decision records in words."""

from __future__ import annotations

import pytest

from hetc.errors import UsageError
from hetc.report import explain_lines, find_records
from tests.golden import Golden
from tests.report.facts import decisions


def test_golden(golden: Golden) -> None:
    names = ("cut", "layers.1.mlp.down_proj", "layers.*.self_attn.o_proj")
    golden("explain.txt", "\n\n".join("\n".join(explain_lines(decisions(), n)) for n in names))


def test_a_name_may_leave_out_its_beginning() -> None:
    whole = find_records(decisions(), "layers.1.mlp.down_proj")
    assert find_records(decisions(), "1.mlp.down_proj") == whole
    assert [record["phase"] for record in whole] == ["prefill", "decode"]


def test_a_module_stands_for_what_is_inside() -> None:
    names = {record["name"] for record in find_records(decisions(), "layers.1.mlp")}
    assert "layers.1.mlp.down_proj" in names
    assert all(name.startswith("layers.1.mlp") for name in names)


def test_a_glob_names_equal_layers_once() -> None:
    names = [record["name"] for record in find_records(decisions(), "layers.*.mlp.up_proj")]
    assert "layers.0-2.mlp.up_proj" in names
    assert len(names) < 2 * 3


def test_a_state_is_explained_by_its_transfer() -> None:
    (record,) = find_records(decisions(), "layer0.key")
    assert record["kind"] == "handoff"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="HETC-U030") as caught:
        explain_lines(decisions(), "layers.1.mlp.down_prj")
    assert "down_proj" in caught.value.expected
