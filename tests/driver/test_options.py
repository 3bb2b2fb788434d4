"""Options of the wrong kind are one usage error each, before the model is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hetc
from hetc.driver.policy import read_policy
from hetc.errors import HetcError, InputError


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("batch", "4", "HETC-U010"),
        ("batch", True, "HETC-U010"),
        ("batch", 1.5, "HETC-U010"),
        ("context", 2.0, "HETC-U010"),
        ("decode", None, "HETC-U010"),
        ("nonsense", 1, "HETC-U010"),
        ("link", "", "HETC-T011"),
        ("link", "0", "HETC-T011"),
    ],
)
def test_wrong_kinds(option: str, value: Any, code: str, tmp_path: Path) -> None:
    with pytest.raises(HetcError) as caught:
        hetc.compile(tmp_path, **{option: value})
    assert caught.value.code == code


@pytest.mark.parametrize(
    "line",
    [
        "max_fallback_ops = true",
        "max_fallback_ops = -1",
        'token_wise = "mylib.rotate.default"',
        "token_wise = [1]",
    ],
)
def test_a_policy_has_fields_of_one_kind(line: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(line, "utf-8")
    with pytest.raises(InputError, match="HETC-I007"):
        read_policy(tmp_path / "policy.toml")


def test_a_policy_may_be_named_by_text(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("max_fallback_ops = 3", "utf-8")
    assert read_policy(str(tmp_path / "policy.toml")).max_fallback_ops == 3
