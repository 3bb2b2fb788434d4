"""The benchmark of prefill on a GPU, on the stub of the driver: what it would write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from benchmarks import gpu_peers, gpu_prefill
from benchmarks.gpu_prefill import Limits, Row, Tables
from hetc.runtime.cuda.driver import Driver
from tests.runtime.cuda.stub_driver import StubBindings
from tests.runtime.cuda.toy_plan import TOY_KERNELS, write_toy


def on(stub: StubBindings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetc.runtime.cuda.device.open_driver", lambda: Driver(stub))


def test_without_a_gpu_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    on(StubBindings(devices=0), monkeypatch)
    page = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu_prefill", "-o", str(page)])
    with pytest.raises(SystemExit) as ended:
        gpu_prefill.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("nothing is measured: error[HETC-R050]")
    assert not page.exists()


def test_a_page_has_every_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Here PyTorch sees no GPU, so only hetc's own rows are made."""
    stub = StubBindings(TOY_KERNELS)
    on(stub, monkeypatch)
    write_toy(tmp_path / "toy")
    toy = gpu_peers.LlamaShape("toy", 1, 16, 16, 1, 1, 258, 64)
    monkeypatch.setattr(gpu_peers, "SMOLLM2", toy)
    monkeypatch.setattr(gpu_peers, "copy_bandwidth", lambda: 4e12)
    monkeypatch.setattr(gpu_peers, "gemm_rate", lambda: 7e14)
    page = tmp_path / "gpu.md"
    words = f"gpu_prefill --model toy --tokens 8 32 999 --batch 1 2 --sides hetc --runs 3 -o {page}"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--bundles", str(tmp_path)])
    gpu_prefill.main()
    text = page.read_text("utf-8")
    assert text in capsys.readouterr().out
    assert "Stub H200, sm_90, CUDA 13.0, 1 GiB." in text
    assert "copies 4.00 TB/s, bf16 products\n700 TFLOP/s" in text
    rows = [line for line in text.splitlines() if line.startswith("| toy |")]
    assert sum("longer than the context" in row for row in rows) == 2
    assert [row.split(" | ")[1:4] for row in rows[:6] if "hetc" in row] == [
        [batch, tokens, "hetc"] for batch in ("1", "2") for tokens in ("8", "32", "999")
    ]
    # Three kernels at each of the two lengths that fit.
    assert len(rows) == 6 + 6
    assert stub.live == {}


def test_a_row_says_how_much_faster_hetc_is() -> None:
    rows = [
        Row("m", 1, 512, "hetc", 0.010, handoff_s=0.0002, mfu=0.66),
        Row("m", 1, 512, "eager", 0.015),
        Row("m", 1, 512, "compiled", None, why="does not fit"),
    ]
    assert [gpu_prefill._line(row, rows) for row in rows] == [
        "| m | 1 | 512 | hetc | 10.00 | 51,200 |  | 0.20 | 66% |",
        "| m | 1 | 512 | eager | 15.00 | 34,133 | 1.50 x |  |  |",
        "| m | 1 | 512 | compiled | does not fit |  |  |  |  |",
    ]


def test_peers_are_of_one_shape() -> None:
    """The plain Llama takes tokens and gives the logits of the last one, and a cache."""
    import torch

    model = gpu_peers.Llama(gpu_peers.LlamaShape("tiny", 2, 32, 48, 4, 2, 50, 64))
    logits, cache = model(torch.zeros((3, 7), dtype=torch.int64))
    assert logits.shape == (3, 50)
    assert [tuple(held.shape) for held in cache] == [(3, 2, 7, 8)] * 4


def test_a_bundle_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(StubBindings(TOY_KERNELS), monkeypatch)
    options = argparse.Namespace(bundles=tmp_path, tune=False, batch=[1], tokens=[8], runs=1)
    tables = Tables(Limits(1, 1), gpu_peers.SMOLLM2, [], [], [])
    (row,) = gpu_prefill._hetc_rows("none", options, tables)
    assert row.seconds is None
    assert row.why == "this is not a bundle"
