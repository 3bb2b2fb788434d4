"""Every causal-LM type of transformers does what docs/coverage.md says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.attempt import TOLERANCE, attempt
from tests.architectures.case import Case
from tests.architectures.cases import CASES, GROUPS
from tests.architectures.variants import VARIANTS


def test_every_type_is_listed_once() -> None:
    assert set(CASES) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert sum(map(len, GROUPS.values())) == len(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_type_does_what_is_said_of_it(name: str, tmp_path: Path) -> None:
    _does_what_is_said(name, CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_form_does_what_is_said_of_it(name: str, tmp_path: Path) -> None:
    _does_what_is_said(*VARIANTS[name], tmp_path)


def _does_what_is_said(name: str, case: Case, folder: Path) -> None:
    found = attempt(name, case, folder)
    if case.outcome == "works":
        assert found.refusal is None, str(found.refusal)
        assert found.error is not None
        assert found.error <= TOLERANCE
    else:
        assert found.refusal is not None, f"it works: {found.error}"
        assert case.says
        assert case.says in str(found.refusal)
        assert case.because
