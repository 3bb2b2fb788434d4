"""The summary: aligned, at most twelve lines, nothing silent."""

from __future__ import annotations

import pytest

from hetc.errors import Reason
from hetc.report import StateFacts, summary_lines, with_bundle
from hetc.report.summary import MAX_LINES, error_text, flip_text
from tests.golden import Golden
from tests.report.facts import decisions, summary


def test_golden(golden: Golden) -> None:
    split = with_bundle(summary_lines(summary()), "out/", 274_000_000)
    together = summary_lines(
        summary(
            decisions=decisions(split=False),
            has_weights=False,
            max_error=None,
            state=StateFacts(4, 0, 4096),
            fallbacks=(Reason("HETC-I201", "an unknown op", "layers.0/odd"),) * 2,
            notes=("weights are quantized",),
        )
    )
    golden("summary.txt", "\n".join([*split, "", *together]))


def test_both_phases_stand_in_the_same_columns() -> None:
    lines = summary_lines(summary())
    prefill, decode = (next(x for x in lines if x.startswith(p)) for p in ("prefill", "decode"))
    assert prefill.index("TTFT") == decode.index("TPOT")
    assert prefill.index("ops") == decode.index("ops")


def test_many_fallbacks_are_counted() -> None:
    reasons = tuple(Reason("HETC-E010", f"reason {number}") for number in range(40))
    lines = summary_lines(summary(fallbacks=reasons, notes=("a", "b")))
    assert len(lines) == MAX_LINES
    shown = sum("reason " in line for line in lines)
    assert f"and {42 - shown} more" in "\n".join(lines)
    assert lines[-1].startswith("verified"), "the last line is never pushed out"


@pytest.mark.parametrize(("error", "text"), [(2e-7, "2e-7"), (0.0, "0"), (0.0123, "1e-2")])
def test_errors_in_words(error: float, text: str) -> None:
    assert error_text(error) == text


def test_a_failed_comparison_is_not_hidden() -> None:
    assert error_text(float("nan")) == "nan"


def test_flips_in_words() -> None:
    devices = {"prefill": "h200", "decode": "sn40l"}
    flip = {"size": "prompt_tokens", "present": "split", "until": 41, "at": 40, "winner": "decode"}
    assert flip_text(flip, devices) == "flips to sn40l alone up to 40 prompt tokens"
    flip = {"size": "batch", "present": "decode", "until": 7, "at": 8, "winner": "split"}
    assert flip_text(flip, devices) == "flips to both devices from batch 8"
