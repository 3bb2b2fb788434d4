"""`hetc bench` counts what the graph does, and leaves out what does not fit."""

from __future__ import annotations

import pytest

from hetc.driver import Benched, BenchOptions, bench, compile_bundle
from hetc.driver.options import CompileOptions
from tests.driver.models import build, save

QUIET = BenchOptions(prompts=(4, 40), contexts=(3, 61), batches=(1, 2), repeats=1, steps=2)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Benched:
    folder = tmp_path_factory.mktemp("bench")
    model = save(build("llama"), folder / "model")
    compile_bundle(model, folder / "bundle", CompileOptions(context=64))
    return bench(folder / "bundle", QUIET, lambda step: None, "onnx")


def test_every_case_that_fits_is_timed(found: Benched) -> None:
    cases = [(rate.phase, rate.tokens, rate.batch) for rate in found.rates]
    assert cases == [
        ("prefill", 4, 1),
        ("prefill", 40, 1),
        ("decode", 3, 1),
        ("decode", 3, 2),
    ]
    assert all(rate.seconds > 0 for rate in found.rates)
    assert found.left_out == ("contexts of 61 tokens: at most 60 fit",)
    assert found.executors == {"prefill": "onnx", "decode": "onnx"}


def test_bytes_and_flops_are_those_of_the_graph(found: Benched) -> None:
    """All matrices are read once a step, whatever the batch; the state once a sequence."""
    one, two = (rate for rate in found.rates if rate.phase == "decode")
    assert two.flops == pytest.approx(2 * one.flops, rel=0.01)
    state = two.nbytes - one.nbytes
    assert 0 < state < one.nbytes
    short, long = (rate for rate in found.rates if rate.phase == "prefill")
    assert long.flops > 9 * short.flops


def test_rates_are_told_with_their_limits(found: Benched) -> None:
    told = found.as_json()
    machine = told["machine"]
    for rate, row in zip(found.rates, told["rates"], strict=True):
        assert row["mbu"] * machine["read_bytes_per_s"] == pytest.approx(rate.nbytes / rate.seconds)
        assert row["mfu"] * machine["f32_flops_per_s"] == pytest.approx(rate.flops / rate.seconds)
        new = rate.tokens if rate.phase == "prefill" else 1
        assert row["tokens_per_s"] == pytest.approx(new * rate.batch / rate.seconds)
    assert told["weight_bytes"] > 0
