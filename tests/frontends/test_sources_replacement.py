"""What stands in for modules that torch.export cannot follow computes what they compute."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.dbrx.modeling_dbrx import DbrxExperts
from transformers.models.longcat_flash.modeling_longcat_flash import LongcatFlashExperts

from hetc.errors import InputError
from hetc.frontends.sources import replacement
from hetc.frontends.sources.experts import EXPERTS
from hetc.frontends.sources.indexers import INDEXERS
from hetc.frontends.sources.replacement import replace_methods
from tests.architectures.case import SMALL
from tests.architectures.cases import CASES
from tests.driver.models import eager, sharpened, tokens

MODELS = ["dbrx", "longcat_flash", "jetmoe", "minimax_m3_vl_text"]


def _model(name: str) -> Any:
    fields = {**SMALL, **CASES[name].config}
    config = AutoConfig.for_model(name, **{k: v for k, v in fields.items() if v is not None})
    torch.manual_seed(0)
    return sharpened(AutoModelForCausalLM.from_config(config).float().eval())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_replacements_gives_the_same_logits(name: str) -> None:
    model, ids = _model(name), tokens(2, 24)
    expected = eager(model, ids)
    bound = replace_methods(model, EXPERTS | INDEXERS)
    replaced = [m for m in model.modules() if vars(m).keys() & {"forward", "map"}]
    assert len(replaced) >= 1
    assert bound == (32 if name == "minimax_m3_vl_text" else None)
    torch.testing.assert_close(torch.tensor(eager(model, ids)), torch.tensor(expected))


def test_beyond_its_bound_an_indexer_selects() -> None:
    model, ids = _model("minimax_m3_vl_text"), tokens(1, 48)
    expected = eager(model, ids)
    assert replace_methods(model, INDEXERS) == 32
    assert abs(eager(model, ids) - expected)[:, :32].max() < 1e-5
    assert abs(eager(model, ids) - expected)[:, 40:].max() > 1e-3


@pytest.mark.parametrize("routed", [0, 3])
def test_experts_that_give_a_token_back(routed: int) -> None:
    sizes = {"hidden_size": 6, "expert_ffn_hidden_size": 4, "n_routed_experts": routed}
    experts = LongcatFlashExperts(SimpleNamespace(**sizes, zero_expert_num=2, hidden_act="silu"))
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, weights = torch.randn(9, 6), torch.rand(9, 2)
    ids = torch.stack([torch.randperm(routed + 2)[:2] for _ in range(9)])
    with torch.no_grad():
        expected = experts(x, ids, weights)
        replace_methods(experts, EXPERTS)
        torch.testing.assert_close(experts(x, ids, weights), expected)


def test_a_replacement_that_computes_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replacement, "_agreed", set())
    wrong = replace(EXPERTS["DbrxExperts"], methods={"forward": lambda self, x, ids, weights: x})
    config = SimpleNamespace(
        hidden_size=6, ffn_hidden_size=4, moe_num_experts=4, ffn_act_fn={"name": "silu"}
    )
    with pytest.raises(InputError, match="HETC-I072") as refused:
        replace_methods(DbrxExperts(config), {"DbrxExperts": wrong})
    assert "hetc.frontends.sources.experts" in refused.value.render()
