"""Published measurements are read as runs, and predictions come near enough to them."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.fidelity import GOALS, MODES, Bench, both, group_of, mape
from benchmarks.measurements import CONFIGS, read_runs, repeated
from hetc.targets import load


def test_every_run_counts_once() -> None:
    runs = read_runs()
    assert (len(runs), repeated()) == (113, 94)
    keys = [
        (r.target, r.model, r.precision, r.batch, r.prompt_tokens, r.new_tokens, r.line)
        for r in runs
    ]
    assert len({key[:-1] for key in keys}) == len(keys) - 2, "users of a batch are prefilled alone"
    assert Counter(map(group_of, runs)) == {"GPU": 88, "SN40L": 13, "Wormhole": 12}
    for run in runs:
        assert (CONFIGS / run.model / "config.json").is_file()
        assert run.framework in load(run.target).device.calibrations


@pytest.mark.slow
def test_predictions_are_within_the_goals() -> None:
    bench = Bench()
    runs = [bench.screened(run) for run in read_runs()]
    assert not [run for run in runs if run.apart]
    results = both(bench, runs)
    for group, goals in GOALS.items():
        for mode, goal in zip(MODES, goals, strict=True):
            found = [item for item in results[mode] if group_of(item.run) == group]
            assert mape(found) <= goal, f"{group}, {mode}"
