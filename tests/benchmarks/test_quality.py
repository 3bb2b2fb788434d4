"""What the bench of quality computes, without an engine: distances, and weights off their grid."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from scipy.stats import entropy

from benchmarks.quality import distance
from benchmarks.spread_weights import spread_weights

RANDOM = np.random.default_rng(3)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    result: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return result


def test_a_distance_is_that_of_scipy() -> None:
    wanted, found = RANDOM.standard_normal((2, 250, 40)).astype(np.float32)
    each = entropy(softmax(wanted), softmax(found), axis=-1)
    got = distance(wanted, found)
    assert got.kl == pytest.approx(each.mean(), rel=1e-4)
    assert got.kl_99 == pytest.approx(np.percentile(each, 99), rel=1e-4)


def test_a_disagreement_has_the_gap_that_f32_saw() -> None:
    wanted = np.array([[3.0, 1.0, 2.5], [0.0, 2.0, 1.0]], np.float32)
    found = np.array([[1.0, 0.0, 2.0], [0.0, 5.0, 1.0]], np.float32)
    got = distance(wanted, found)
    assert (got.same_top, got.gap, got.gap_most) == (0.5, 0.5, 0.5)
    assert distance(wanted, wanted).gap_most == 0.0


def test_spread_weights_are_rounded_to_the_file_that_they_came_from(tmp_path: Path) -> None:
    source, target = tmp_path / "q.gguf", tmp_path / "spread.gguf"
    kind = gguf.GGMLQuantizationType.Q8_0
    whole = RANDOM.standard_normal((4, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_block_count(1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("w", gguf.quantize(whole, kind), raw_dtype=kind)
    writer.add_tensor("norm", whole[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    spread_weights(source, target)

    before, after = gguf.GGUFReader(source), gguf.GGUFReader(target)
    (grid,) = [t for t in before.tensors if t.name == "w"]
    tensors = {t.name: t.data for t in after.tensors}
    stored = gguf.dequantize(grid.data, kind)
    steps = np.abs(stored).reshape(4, 2, 32).max(-1, keepdims=True) / 127
    moved = (tensors["w"] - stored).reshape(4, 2, 32)
    assert 0.3 * steps.max() < np.abs(moved).max()
    assert np.all(np.abs(moved) <= 0.501 * steps)
    np.testing.assert_array_equal(tensors["norm"], whole[0])
    assert after.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
