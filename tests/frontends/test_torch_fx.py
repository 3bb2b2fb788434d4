"""torch.fx traces of a hand-written causal language model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hetc.errors import InputError
from hetc.frontends.fx import import_fx
from hetc.ir.op import Op
from tests.frontends.torch_models import assert_same, ids


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, 2 * width), torch.nn.GELU(), torch.nn.Linear(2 * width, width)
        )
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.size(-1))
        future = torch.tril(torch.ones_like(scores)) == 0
        mixed = F.softmax(scores.masked_fill(future, float("-inf")), -1) @ v
        x = x + self.drop(mixed)
        return x + self.mlp(x)


class Model(torch.nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(128, width)
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(2))
        self.head = torch.nn.Linear(width, 128)
        self.places = torch.nn.Embedding(256, width)

    def forward(self, tokens: Tensor) -> Any:
        x = self.embed(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_traced_model_computes_the_same() -> None:
    model = Model().eval()
    imported = import_fx(torch.fx.symbolic_trace(model), (ids(1, 9),))
    assert str(imported.graph.inputs[0].type) == "i64[B,S]"
    assert imported.opaque == ()
    assert_same(imported, model)


def test_modules_are_places() -> None:
    graph = import_fx(torch.fx.symbolic_trace(Model().eval()), (ids(2, 9),)).graph

    def places(kind: str) -> set[str]:
        return {op.loc for op in graph.ops if _is(op, kind)}

    assert places("layer_norm") == {"blocks.0.norm", "blocks.1.norm"}
    assert {"blocks.0.qkv", "blocks.1.mlp.2", "head"} <= places("linear")


def _is(op: Op, kind: str) -> bool:
    return op.kind == kind


def test_training_mode_is_left_as_it_was() -> None:
    traced = torch.fx.symbolic_trace(Model().train())
    traced.get_submodule("blocks.0").eval()
    modes = [part.training for part in traced.modules()]
    imported = import_fx(traced, (ids(2, 9),))
    assert [part.training for part in traced.modules()] == modes
    assert_same(imported, Model().eval())


class Rigid(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(128, 4)

    def forward(self, tokens: Tensor) -> Any:
        return self.embed(tokens) + torch.ones(9, 1)


def test_a_fixed_length_is_one_clear_error() -> None:
    with pytest.raises(InputError) as caught:
        import_fx(torch.fx.symbolic_trace(Rigid()), (ids(2, 9),))
    assert caught.value.code == "HETC-I230"
    assert caught.value.found
