"""Running sums over the tokens: prefill and decode carry them on, in both executors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import RobertaConfig, RobertaForCausalLM

from hetc.driver import CompileOptions, compile_bundle, load
from hetc.ir.types import Array
from tests.driver.models import CONTEXT, VOCABULARY, eager, export, save, sharpened, tokens
from tests.driver.stepping import largest_error

TOLERANCE = 1e-4
PADDING = 1
WIDTH = 16
Mixing = Callable[[Tensor, Tensor], Tensor]


class Summing(torch.nn.Module):
    """A running sum over hidden states [B,S,H] or tokens [B,S], between an embedding and a head."""

    def __init__(self, mix: Mixing) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = mix
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.mix(self.embed(input_ids), input_ids))
        return logits


class CountedPositions(torch.nn.Module):
    """Causal attention over positions that count the tokens which are no padding, as in RoBERTa."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH, padding_idx=PADDING)
        self.positions = torch.nn.Embedding(CONTEXT + PADDING + 1, WIDTH, padding_idx=PADDING)
        self.query, self.key, self.value = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        mask = input_ids.ne(PADDING).int()
        positions = torch.cumsum(mask, dim=1).type_as(mask) * mask + PADDING
        hidden = self.embed(input_ids) + self.positions(positions.long())
        q, k, v = (part(hidden).unsqueeze(1) for part in (self.query, self.key, self.value))
        attention = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: Tensor = self.head(hidden + attention.squeeze(1))
        return logits


def running_mean(hidden: Tensor, ids: Tensor) -> Tensor:
    steps = torch.arange(ids.shape[1]) + 1
    return hidden.cumsum(1) / steps[:, None]


def of_channels(hidden: Tensor, ids: Tensor) -> Tensor:
    """The tokens on the last axis, as convolutions have them."""
    return hidden.transpose(1, 2).cumsum(-1).transpose(1, 2)


def of_heads(hidden: Tensor, ids: Tensor) -> Tensor:
    """The tokens on the axis before the last, as attention has them."""
    heads = hidden.view(*hidden.shape[:2], 2, WIDTH // 2).transpose(1, 2)
    return heads.cumsum(2).transpose(1, 2).flatten(2)


SUMS: dict[str, Mixing] = {
    "sum": lambda hidden, ids: hidden + hidden.cumsum(1),
    "mean": running_mean,
    "without_the_present": lambda hidden, ids: hidden.cumsum(1) - hidden,
    "of_channels": of_channels,
    "of_heads": of_heads,
    "of_tokens": lambda hidden, ids: hidden * (ids.cumsum(1) % 7)[..., None],
    "of_narrow_integers": lambda hidden, ids: (
        hidden * (ids.int().cumsum(1, dtype=torch.int32) % 7)[..., None]
    ),
    "counted": lambda hidden, ids: hidden * (ids > 60).cumsum(1)[..., None],
}


def logits(module: torch.nn.Module, ids: Tensor) -> Array:
    with torch.inference_mode():
        result: Array = module(ids).numpy()
    return result


def padded() -> Tensor:
    """Tokens with padding in front, in the middle and after the prompt."""
    ids = tokens(3, 20)
    ids[0, :3] = ids[1, 14:16] = ids[2, 6] = PADDING
    return ids


def assert_decodes(path: Path, ids: Tensor, expected: Array) -> None:
    """Every executor gives the `expected` logits, token by token and several at a time."""
    for executor in ("onnx", "reference", "native"):
        with load(path, executor=executor) as bundle:
            for prompt, chunk in ((12, 1), (12, 3), (1, 1), (5, 4)):
                error = largest_error(bundle, ids.numpy(), expected, prompt, chunk)
                assert error <= TOLERANCE, f"{executor}: {prompt}, {chunk} at a time: {error:.1e}"


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_carried_on(name: str, tmp_path: Path) -> None:
    module = sharpened(Summing(SUMS[name]).eval())
    made = compile_bundle(export(module), tmp_path / "bundle", CompileOptions())
    ids = tokens(2, 20)
    assert_decodes(made.path, ids, logits(module, ids))
    with load(made.path) as bundle:
        (state,) = bundle.contract.states
        assert (state.kind, state.append_axis) == ("recurrent", None)
        assert bundle.executors == {"prefill": "onnx", "decode": "onnx"}


def test_counted_positions(tmp_path: Path) -> None:
    module = sharpened(CountedPositions().eval())
    made = compile_bundle(export(module), tmp_path / "bundle", CompileOptions())
    assert_decodes(made.path, padded(), logits(module, padded()))
    with load(made.path) as bundle:
        assert [spec.dtype for spec in bundle.contract.states] == ["f32", "f32", "i64"]


def test_roberta_as_a_decoder(tmp_path: Path) -> None:
    config = RobertaConfig(
        is_decoder=True,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        pad_token_id=PADDING,
    )
    model = sharpened(RobertaForCausalLM(config).eval())
    made = compile_bundle(save(model, tmp_path / "model"), tmp_path / "bundle", CompileOptions())
    assert_decodes(made.path, padded(), eager(model, padded()))
    with load(made.path) as bundle:
        # Positions count from the row after that of the padding.
        assert bundle.manifest.model.max_context == CONTEXT - PADDING - 1
