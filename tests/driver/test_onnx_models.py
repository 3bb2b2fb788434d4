"""Exported `.onnx` decoders, stateless and with a cache of their own, give the logits of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hetc
from tests.driver.models import eager, sharpened
from tests.driver.stepping import largest_error
from tests.frontends import onnx_exports
from tests.frontends.onnx_exports import (
    VOCABULARY,
    export_legacy,
    export_stateless,
    export_with_past,
)

TOLERANCE = 1e-4
IDS = torch.randint(0, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def attention_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporters' models, with weights at which attention is not flat."""
    small = onnx_exports.decoder

    def decoder(family: str) -> Any:
        return sharpened(small(family))

    monkeypatch.setattr(onnx_exports, "decoder", decoder)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("export", [export_stateless, export_with_past, export_legacy])
def test_prefill_and_decode_equal_the_exported_model(
    export: Any, family: str, tmp_path: Path
) -> None:
    exported = export(family, tmp_path)
    expected = eager(exported.model, IDS)
    # The native engine has a table of positions for as many as the file allows, and does not read
    # caches that a file carries itself.
    runs = "onnx" if export is export_with_past else "native"
    with hetc.compile(exported.path, context=40) as bundle:
        assert bundle.executors == {"prefill": runs, "decode": runs}
        found = {fallback.code for fallback in bundle.manifest.fallbacks}
        assert ("HETC-E040" in found) == (runs == "onnx")
        # Two layers, a key and a value each, whether hetc derived them or the file has them.
        assert len(bundle.contract.states) == 4
        for prompt, chunk in ((12, 1), (12, 3), (1, 4)):
            error = largest_error(bundle, IDS.numpy(), expected, prompt, chunk)
            assert error <= TOLERANCE, f"prompt {prompt}, {chunk} at a time: {error:.1e}"
