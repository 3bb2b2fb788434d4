"""Compiled decode steps of mixtures of experts, whose rows transformers sorts by expert."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import transformers.integrations.moe  # noqa: F401  # registers its grouped products
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from hetc.errors import Reason
from hetc.interop import backend
from hetc.interop.captured import Captured
from hetc.interop.options import Options
from hetc.interop.step_experts import experts_by_row
from tests.interop.generation import NEW, model_of, prompt, same_text, steps


@pytest.mark.parametrize(("family", "cache"), [("mixtral", "dynamic"), ("qwen3_moe", "static")])
@pytest.mark.parametrize("rows", [1, 3])
def test_generate_gives_the_text_of_the_eager_model(family: str, cache: str, rows: int) -> None:
    model = model_of(family)
    same_text(model, prompt(rows), cache)
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1
    assert all(not graph.refusals for graph in steps())


def test_experts_that_are_batched_instead() -> None:
    model = model_of("mixtral")
    model.set_experts_implementation("batched_mm")
    same_text(model, prompt(), "dynamic")
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1


def test_bfloat16_experts_are_nearer_to_what_is_exact() -> None:
    model = model_of("mixtral").to(torch.bfloat16)
    exact = copy.deepcopy(model).float()
    token = torch.tensor([[7]])
    with torch.no_grad():
        past = model(prompt(), use_cache=True).past_key_values
        wide = copy.deepcopy(past)
        for layer in wide.layers:
            layer.keys, layer.values = layer.keys.float(), layer.values.float()
        wanted = exact(token, past_key_values=wide, use_cache=True).logits
        eager = model(token, past_key_values=past, use_cache=True).logits.float()
        past.crop(-1)
        model.forward = torch.compile(model.forward, backend=backend)
        found = model(token, past_key_values=past, use_cache=True).logits.float()
    assert (found - wanted).abs().max() <= (eager - wanted).abs().max()
    assert [graph.whole_calls for graph in steps()] == [1]


EXPERTS, TIMES = 5, 2
Rows = Callable[[torch.Tensor], torch.Tensor]


def experts(rows: Rows) -> Callable[..., torch.Tensor]:
    """Experts as transformers groups them, with `rows` between their product and the way back."""

    def run(x: torch.Tensor, ids: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        found, order = torch.sort(ids)
        sizes = torch.histc(found.float(), bins=EXPERTS, min=0, max=EXPERTS - 1)
        ends = torch.cumsum(sizes, dim=0, dtype=torch.int32)
        product = torch.ops.transformers.grouped_mm_fallback(x[order // TIMES], matrices, ends)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.size(0))
        return rows(product)[back]

    return run


def captured(run: Callable[..., torch.Tensor], given: Sequence[torch.Tensor]) -> Captured:
    module = make_fx(functionalize(run), tracing_mode="fake")(*given)
    module.graph.eliminate_dead_code()
    return Captured(module, given, Options.of(None), {}, {})


def given(count: int) -> list[torch.Tensor]:
    seeded = torch.Generator().manual_seed(count)
    return [
        torch.randn(count, 4, generator=seeded),
        torch.randint(0, EXPERTS, (count * TIMES,), generator=seeded),
        torch.randn(EXPERTS, 4, 6, generator=seeded),
    ]


@pytest.mark.parametrize("rows", [lambda y: torch.tanh(y) * 2, lambda y: y[:, :3] - y[:, 3:]])
def test_products_by_row_are_those_of_groups(rows: Rows) -> None:
    run = experts(rows)
    made = experts_by_row(captured(run, given(3)))
    assert not isinstance(made, Reason)
    targets = {str(node.target) for node in made.module.graph.nodes}
    assert not targets & {"aten.sort.default", "aten.histc.default", "aten.cumsum.default"}
    torch.testing.assert_close(made.module(*given(3)), run(*given(3)))


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (lambda y: y.cumsum(0), "hangs on the order"),
        (lambda y: y - y.mean(0), "hangs on the order"),
        (lambda y: y * torch.arange(y.shape[0])[:, None], "in two orders"),
        (lambda y: y.flip(0), "hangs on the order"),
    ],
)
def test_what_hangs_on_the_order_of_rows_is_refused(rows: Rows, found: str) -> None:
    made = experts_by_row(captured(experts(rows), given(3)))
    assert isinstance(made, Reason)
    assert found in made.text


def test_rows_that_are_not_put_back_are_refused() -> None:
    def run(x: torch.Tensor, ids: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        found, order = torch.sort(ids)
        sizes = torch.histc(found.float(), bins=EXPERTS, min=0, max=EXPERTS - 1)
        ends = torch.cumsum(sizes, dim=0, dtype=torch.int32)
        product: torch.Tensor = torch.ops.transformers.grouped_mm_fallback(
            x[order // TIMES], matrices, ends
        )
        return product

    made = experts_by_row(captured(run, given(3)))
    assert isinstance(made, Reason)
    assert "output hangs on the order" in made.text


def test_other_groups_are_refused() -> None:
    def run(x: torch.Tensor, ends: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.ops.transformers.grouped_mm_fallback(x, matrices, ends)
        return found

    x, _, matrices = given(3)
    ends = torch.tensor([1, 1, 2, 3, 3], dtype=torch.int32)
    made = experts_by_row(captured(run, (x, ends, matrices)))
    assert isinstance(made, Reason)
    assert "in a way of their own" in made.text
