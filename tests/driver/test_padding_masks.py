"""Models whose attention mask is made from the tokens themselves, `tokens != pad`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hetc.driver import CompileOptions, compile_bundle, load
from tests.driver.models import VOCABULARY, export, sharpened, tokens
from tests.driver.stepping import largest_error

PAD = 0
WIDTH = 16
TOLERANCE = 1e-4
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class MaskedByTokens(torch.nn.Module):
    """Two layers of causal attention that see no padding; `attend` is given heads [B,1,S,H] and
    whether a token counts [B,S]."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attend = attend
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.inner = torch.nn.ModuleList(torch.nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden, counts = self.embed(input_ids), input_ids != PAD
        for layer in self.inner:
            q, k, v = layer(hidden).unsqueeze(1).chunk(3, -1)
            hidden = hidden + self.attend(q, k, v, counts).squeeze(1)
        logits: Tensor = self.head(hidden)
        return logits


def shown_or_not(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """With a mask of bools."""
    length = q.shape[2]
    past = torch.ones(length, length, dtype=torch.bool).tril()
    mask = past & counts[:, None, None, :]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def added(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """With what is added to scores."""
    length = q.shape[2]
    future = torch.full((length, length), torch.finfo(q.dtype).min).triu(1)
    padding = torch.where(counts, 0.0, torch.finfo(q.dtype).min)[:, None, None, :]
    mask = future + padding
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def padded() -> Tensor:
    """Tokens with padding in the middle and after the prompt."""
    ids = tokens(3, 20)
    ids[0, 3:6] = ids[1, 14:16] = ids[2, 6] = PAD
    return ids


@pytest.mark.parametrize("attend", [shown_or_not, added])
def test_prefill_and_decode_hide_padding(attend: Attend, tmp_path: Path) -> None:
    module = sharpened(MaskedByTokens(attend).eval())
    made = compile_bundle(export(module), tmp_path / "bundle", CompileOptions())
    ids = padded()
    with torch.inference_mode():
        expected = module(ids).numpy()
        other = module(ids.where(ids != PAD, torch.tensor(7))).numpy()
    # Another token in place of the padding is seen by all behind it.
    assert abs(expected - other)[2, 7:].max() > 100 * TOLERANCE
    for executor in ("onnx", "reference"):
        with load(made.path, executor=executor) as bundle:
            for prompt, chunk in ((12, 1), (12, 3), (1, 1), (5, 4)):
                error = largest_error(bundle, ids.numpy(), expected, prompt, chunk)
                assert error <= TOLERANCE, f"{executor}: {prompt}, {chunk} at a time: {error:.1e}"
