"""Models that have no decode half are refused, with the op, its place in the model and the reason.

A wrong answer here would be a bundle that runs and gives other text than the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

import hetc
from hetc.driver import CompileOptions, compile_bundle
from hetc.errors import CheckFailed, HetcError, StateError
from tests.driver.models import VOCABULARY, eager, export, save, sharpened, tokens
from tests.driver.stepping import largest_error
from tests.golden import Golden

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
Mixing = Callable[[Tensor, Tensor], Tensor]


class Mixer(torch.nn.Module):
    """Something done to hidden states [B,S,H] and tokens [B,S], as a module with a path."""

    def __init__(self, mix: Mixing) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, hidden: Tensor, ids: Tensor) -> Tensor:
        return self.mix(hidden, ids)


class Layered(torch.nn.Module):
    """An embedding, a projection, and a mixer between them."""

    def __init__(self, mix: Mixing) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, 16)
        self.layers = torch.nn.ModuleList([Mixer(mix)])
        self.head = torch.nn.Linear(16, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers[0](self.embed(input_ids), input_ids))
        return logits


def loose_mask(hidden: Tensor, ids: Tensor) -> Tensor:
    """A mask that lets one position of the future through."""
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril(diagonal=1)
    heads = hidden[:, None]
    return functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)[:, 0]


def convolution(hidden: Tensor, ids: Tensor) -> Tensor:
    """A convolution that sees both neighbours."""
    kernel = torch.ones(16, 16, 3)
    return functional.conv1d(hidden.transpose(1, 2), kernel, padding=1).transpose(1, 2)


MIXED: dict[str, Mixing] = {
    "mean": lambda hidden, ids: hidden - hidden.mean(1, keepdim=True),
    "largest": lambda hidden, ids: hidden / hidden.amax(1, keepdim=True),
    "softmax": lambda hidden, ids: hidden * hidden.softmax(1),
    "token_sum": lambda hidden, ids: hidden + ids.cumsum(1)[:, -1:, None],
    "sum_backwards": lambda hidden, ids: hidden.flip(1).cumsum(1).flip(1),
    "sum_across_the_batch": lambda hidden, ids: hidden.flatten(0, 1).cumsum(0).view(hidden.shape),
    "reversed": lambda hidden, ids: hidden + hidden.flip(1),
    "rolled": lambda hidden, ids: hidden + hidden.roll(-1, 1),
    "last_token": lambda hidden, ids: hidden + hidden[:, -1:],
    "length": lambda hidden, ids: hidden * ids.shape[1],
    "any_token": lambda hidden, ids: hidden * (ids == 5).any(1)[:, None, None],
    "sorted": lambda hidden, ids: hidden + hidden.sort(1).values,
    "unknown_op": lambda hidden, ids: hidden.logcumsumexp(1),
    "loose_mask": loose_mask,
    "convolution": convolution,
}


def refused(source: Any, folder: Path, kind: type[HetcError] = StateError) -> HetcError:
    """The error of compiling `source`, which leaves `folder` as it was."""
    before = sorted(folder.iterdir())
    with pytest.raises(kind) as caught:
        compile_bundle(source, folder / "bundle", CompileOptions())
    assert sorted(folder.iterdir()) == before
    return caught.value


@pytest.mark.parametrize(
    ("name", "model", "config"),
    [("bert", BertForMaskedLM, BertConfig), ("roberta", RobertaForMaskedLM, RobertaConfig)],
)
def test_encoders(name: str, model: Any, config: Any, tmp_path: Path, golden: Golden) -> None:
    error = refused(export(model(config(**_SMALL)).eval()), tmp_path)
    assert (error.code, error.exit_code) == ("HETC-S010", 2)
    golden(f"{name}.txt", error.render())


def test_what_the_error_says_to_do_works(tmp_path: Path) -> None:
    model = sharpened(BertLMHeadModel(BertConfig(is_decoder=True, **_SMALL)).eval())
    with hetc.compile(save(model, tmp_path / "bert")) as bundle:
        ids = tokens(2, 20)
        # Token types are a table of two rows, which says nothing about the context.
        assert bundle.manifest.model.max_context == _SMALL["max_position_embeddings"]
        assert largest_error(bundle, ids.numpy(), eager(model, ids), 12, 1) <= 1e-4


@pytest.mark.parametrize("name", MIXED)
def test_tokens_that_mix(name: str, tmp_path: Path, golden: Golden) -> None:
    error = refused(export(Layered(MIXED[name])), tmp_path)
    assert "layers.0" in error.at
    golden(f"mixed_{name}.txt", error.render())


def test_sequences_of_a_batch_that_mix(tmp_path: Path) -> None:
    module = Layered(lambda hidden, ids: hidden + hidden.mean(0, keepdim=True))
    error = refused(export(module), tmp_path, CheckFailed)
    assert error.code == "HETC-V003"
    assert "mixes the sequences of a batch" in error.what
