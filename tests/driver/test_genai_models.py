"""Decoders as ONNX Runtime GenAI's builder writes them: a bundle against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import hetc
from hetc.frontends.onnx import import_onnx, load_onnx
from hetc.ir.types import Array
from tests.driver.stepping import largest_error
from tests.frontends.genai_models import (
    GROUPS,
    HEAD,
    POSITIONS,
    VOCABULARY,
    Form,
    build,
    empty_past,
)

FORMS = {
    "three matrices": Form(),
    "one matrix, external data": Form(packed=True, external=True),
    "4 bits": Form(packed=True, quantized=True),
    "window and softcap": Form(window=6, softcap=8.0),
}
IDS = np.random.default_rng(2).integers(0, VOCABULARY, (2, 20))


def by_runtime(path: Path, ids: Array) -> Array:
    """Logits of every position from ONNX Runtime: a prompt of 8, then token by token."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    cache: dict[str, Any] = empty_past(len(ids))
    found, start = [], 0
    for stop in (8, *range(9, ids.shape[1] + 1)):
        mask = np.ones((len(ids), stop), np.int64)
        feeds = {"input_ids": ids[:, start:stop], "attention_mask": mask, **cache}
        logits, *present = session.run(names, feeds)
        cache = {
            name.replace("present", "past_key_values"): array
            for name, array in zip(names[1:], present, strict=True)
        }
        found.append(logits)
        start = stop
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("name", FORMS)
def test_prefill_and_decode_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    path = build(tmp_path, FORMS[name])
    expected = by_runtime(path, IDS)
    with hetc.compile(path, context=40) as bundle:
        for prompt, chunk in ((8, 1), (12, 4), (1, 3)):
            error = largest_error(bundle, IDS, expected, prompt, chunk)
            assert error <= 2e-4, f"prompt {prompt}, {chunk} at a time: {error:.1e}"


def test_the_import_says_what_it_takes_for_granted(tmp_path: Path) -> None:
    path = build(tmp_path, Form())
    imported = import_onnx(load_onnx(path), path)
    assert (imported.kind, imported.opaque) == ("with_past", ())
    assert imported.max_sequence == POSITIONS
    assert "attention_mask is all ones: prompts are not padded" in imported.notes
    tokens, *past = imported.graph.inputs
    assert str(tokens.type) == "i64[B,T]"
    assert {str(value.type) for value in past} == {f"f32[B,{GROUPS},P,{HEAD}]"}
    kinds = [op.kind for op in imported.graph.ops]
    assert kinds.count("attention") == 2
    assert kinds.count("rope") == 4
