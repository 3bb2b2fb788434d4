"""ATen ops one by one, in small modules: the graph computes what PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hetc.frontends.torch_export import import_exported
from hetc.frontends.torch_export.functional import functional
from tests.frontends.torch_models import assert_same, axes, export, ids, run

WIDTH = 8


class Around(torch.nn.Module):
    """An embedding, the function under test on f32[B,S,8], and a head."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(128, WIDTH)
        self.weight = torch.nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.function = function

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.function(self.table(input_ids))
        return (
            x.to(self.weight.dtype) @ self.weight if x.shape[-1] == WIDTH else x.to(torch.float32)
        )


def positions(x: Tensor) -> Tensor:
    return torch.arange(x.shape[1], device=x.device)


def _written_through_a_view(x: Tensor) -> Tensor:
    base = x * 1
    base[:, :, 2:4] = 0.0
    base.select(2, 1).copy_(x.sum(-1))
    return base + x


def _read_under_another_name(x: Tensor) -> Tensor:
    base = x * 1
    before = base[:, :, :4]
    base[:, :, 2:6].mul_(2)
    return torch.cat((before, base[:, :, 4:]), -1)


def _parts_of_parts(x: Tensor) -> Tensor:
    base = x.new_empty(*x.shape[:2], 2, WIDTH)
    base[:, :, 0] = x
    base[:, :, 1, ::2] = x[..., 1::2] * 2
    base[:, :, 1][..., 1::2] = 1
    base[:, 1:, 0, -3:].add_(x[:, :-1, :1])
    return base.sum(2)


def _rotary(x: Tensor) -> Tensor:
    angles = torch.outer(positions(x).float(), torch.tensor([1.0, 0.1, 0.01, 0.001]))
    turned = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2)) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.view_as_real(turned).flatten(2).type_as(x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "promotion": lambda x: x * positions(x)[:, None] + (positions(x) > 2)[:, None] - 1,
    "int_division": lambda x: x + (positions(x) / 3)[:, None] + (positions(x) // 3)[:, None],
    "int_compare_float": lambda x: x + (positions(x) > 2.5)[:, None],
    "true_and_trunc": lambda x: torch.div((x * 10).long(), 3, rounding_mode="trunc").float(),
    "remainder": lambda x: torch.remainder(x, 0.3),
    "alpha": lambda x: torch.add(x, x, alpha=2) + torch.rsub(x, 1, alpha=3),
    "powers": lambda x: x.square() + x**3 + 2.0**x + x.abs() ** x,
    "clamps": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + torch.maximum(x, -x),
    "activations": lambda x: F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.softplus(x),
    "decomposed": lambda x: F.elu(x) + F.leaky_relu(x) + F.mish(x) + F.glu(torch.cat((x, x), -1)),
    "roundings": lambda x: (x * 3).round() + x.floor() + x.ceil() + x.sign(),
    "logic": lambda x: torch.where((x > 0) & ~(x > 1) | torch.logical_xor(x > 2, x < 0), x, 0.0),
    "where_scalars": lambda x: torch.where(x > 0, 1.0, -1.0) + x.masked_fill(x > 0, 2.0),
    "nan": lambda x: torch.where(torch.isnan(x / 0.0 * 0.0) | torch.isinf(x), 1.0, x),
    "last_row": lambda x: x + x[:, -1:, :] + x[:, 0].unsqueeze(1),
    "without_first": lambda x: torch.cat((x[:, 1:], x[:, :1]), 1),
    "as_many_last": lambda x: x[:, -x.shape[1] :] * 2,
    "steps": lambda x: torch.stack((x[..., ::2], x[..., 1::2]), -1).flatten(-2),
    "shift": lambda x: F.pad(x, (0, 0, 1, 0))[:, :-1] + F.pad(x, (0, 0, 2, -2), value=0.5),
    "roll": lambda x: x.roll(1, 1) + torch.roll(x, (-3, 1), (2, 1)),
    "splits": lambda x: (
        x.chunk(3, -1)[0][..., :2].repeat(1, 1, 4) + x.split_with_sizes([3, 5], -1)[1].sum(-1, True)
    ),
    "unbind": lambda x: x.view(*x.shape[:2], 2, 4).unbind(2)[1].repeat_interleave(2, -1),
    "expand": lambda x: x.mean(1, keepdim=True).expand_as(x) + x.new_ones(1).expand(WIDTH),
    "movement": lambda x: x.permute(2, 0, 1).transpose(0, 2).transpose(0, 1).flip(2),
    "tile": lambda x: x.sum(-1, keepdim=True).tile(1, 1, WIDTH),
    "tril": lambda x: torch.tril(torch.ones(x.shape[1], x.shape[1])) @ x,
    "triu": lambda x: torch.triu(x @ x.mT, 1) @ x,
    "eye": lambda x: torch.eye(x.shape[1])[None] @ x,
    "reductions": lambda x: (
        x.amax(-1, True) + x.amin(-1, True) + x.prod(-1, keepdim=True) + x.max() - x.min() + x
    ),
    "arg": lambda x: (
        x + x.max(-1, keepdim=True).values + x.argmax(-1, keepdim=True) + x.min(-1, True).indices
    ),
    "any_all": lambda x: x + (x > 0).any(-1, True) + (x > -9).all(-1, True),
    "variance": lambda x: (
        (x - x.mean(-1, True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        + x.std(1, keepdim=True)
    ),
    "logsumexp": lambda x: x - x.logsumexp(-1, True) + F.log_softmax(x, -1) + torch.softmax(x, -1),
    "cumsum": lambda x: x.cumsum(1) + (x > 0).cumsum(1),
    "diff": lambda x: (
        torch.diff(x, dim=1, prepend=x[:, :1]) + torch.diff(x, n=2, dim=1).sum(1, True)
    ),
    "topk": lambda x: x.topk(3, -1).values.sum(-1, True) + x.sort(-1, descending=True).values,
    "scatter": lambda x: torch.zeros_like(x).scatter(-1, x.topk(2, -1).indices, 1.0) + x,
    "scatter_src": lambda x: x.scatter(-1, x.argsort(-1)[..., :3], x),
    "gather": lambda x: (
        x.gather(-1, x.argsort(-1)) + x.index_select(1, torch.zeros(1, dtype=torch.long))
    ),
    "indexing": lambda x: (
        x[:, positions(x).flip(0)] + x[torch.arange(x.shape[0])[:, None], positions(x)]
    ),
    "index_put": lambda x: torch.zeros_like(x).index_put((torch.arange(x.shape[0]),), x[:, 0:1]),
    "one_hot": lambda x: F.one_hot(x.argmax(-1), WIDTH) + x,
    "slice_scatter": lambda x: x.slice_scatter(x[..., 2:4] * 2, -1, 4, 6).select_scatter(
        x[..., 0], -1, 1
    ),
    "products": lambda x: torch.einsum("bsh,bth->bst", x, x) @ x + torch.bmm(x, x.mT) @ x,
    "matvec": lambda x: x + torch.matmul(x, torch.ones(WIDTH))[..., None],
    "baddbmm": lambda x: torch.baddbmm(x, torch.bmm(x, x.mT), x, beta=0.5, alpha=2.0),
    "norms": lambda x: (
        F.layer_norm(x, (WIDTH,))
        + F.rms_norm(x, (WIDTH,), torch.ones(WIDTH), 1e-3)
        + F.rms_norm(x, (WIDTH,))
    ),
    "group_norm": lambda x: F.group_norm(x.flatten(0, 1), 2).view_as(x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "grouped_attention": lambda x: (
        F.scaled_dot_product_attention(
            x.view(*x.shape[:2], 4, 2).transpose(1, 2),
            x.view(*x.shape[:2], 4, 2).transpose(1, 2)[:, :2],
            x.view(*x.shape[:2], 4, 2).transpose(1, 2)[:, :2],
            is_causal=True,
            scale=0.3,
            enable_gqa=True,
        )
        .transpose(1, 2)
        .flatten(2)
    ),
    "float_arange": lambda x: x + torch.arange(0.0, 2.0, 0.25) + torch.full((WIDTH,), 0.5),
    "half": lambda x: (x.half() * 2 + x.to(torch.float16).sum(-1, True)).float() * 0 + x,
    "in_place": lambda x: (x * 2).add_(1).mul_(x).div_(2),
    "in_place_view": lambda x: (x + 0).view(-1).add_(1).view(x.shape),
    "in_place_part": _written_through_a_view,
    "in_place_parts": _parts_of_parts,
    "in_place_shared": _read_under_another_name,
    "complex_rotary": _rotary,
    "data_length": lambda x: torch.histc(x, 8, -1.0, 1.0) + x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    module = Around(FUNCTIONS[name]).eval()
    imported = import_exported(export(module, shortest=4))
    if name == "data_length":
        (reason,) = imported.opaque
        assert "aten.histc.default" in reason.text
    else:
        assert imported.opaque == ()
    assert_same(imported, module)


@pytest.mark.parametrize("name", ["in_place", "in_place_view", "in_place_part", "in_place_parts"])
def test_pytorch_need_not_functionalize(name: str) -> None:
    program = export(Around(FUNCTIONS[name]).eval(), shortest=4)
    assert functional(program) is program


def test_pytorch_functionalizes_what_is_read_under_another_name() -> None:
    program = export(Around(_read_under_another_name).eval(), shortest=4)
    assert functional(program) is not program


def test_parts_that_are_named_by_keywords() -> None:
    module = Around(_written_through_a_view).eval()
    program = export(module, shortest=4)
    for node in program.graph.nodes:
        if str(node.target) == "aten.slice.Tensor":
            whole, *where = node.args
            node.args = (whole,)
            node.kwargs = dict(zip(("dim", "start", "end"), where, strict=True))
    assert_same(import_exported(program), module)


def test_gradient_mode_wrappers_are_inlined() -> None:
    class Wrapped(Around):
        def forward(self, input_ids: Tensor) -> Tensor:
            with torch.no_grad():
                scale = torch.cos(positions(input_ids).float())[:, None]
            return super().forward(input_ids) * scale

    module = Wrapped(lambda x: x).eval()
    program = torch.export.export(module, (ids(2, 12),), dynamic_shapes=(axes(),))
    assert any("wrap_with_set_grad_enabled" in str(node.target) for node in program.graph.nodes)
    imported = import_exported(program)
    tokens = ids(3, 5)
    assert np.allclose(run(imported, tokens), module(tokens).detach().numpy(), atol=1e-5)


def test_autocast_becomes_casts() -> None:
    class Narrow(Around):
        def forward(self, input_ids: Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.table(input_ids) @ self.weight
            with torch.autocast("cpu", enabled=False):
                return x.float() @ self.weight

    module = Narrow(lambda x: x).eval()
    imported = import_exported(export(module))
    products = [op.result.dtype.name for op in imported.graph.ops if op.kind == "linear"]
    assert products == ["bf16", "f32"]
    assert_same(imported, module, tolerance=1e-2)


def test_complex_buffers_come_in_two_parts() -> None:
    class Rotated(Around):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            angles = torch.outer(torch.arange(256).float(), torch.tensor([1.0, 0.1, 0.01, 0.001]))
            self.turns = torch.nn.Buffer(torch.polar(torch.ones_like(angles), angles))

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.table(input_ids)
            pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * self.turns[: x.shape[1]]).flatten(2) @ self.weight

    module = Rotated().eval()
    imported = import_exported(export(module))
    assert {"turns.real", "turns.imag"} <= set(imported.weights)
    assert_same(imported, module)


def test_bf16_weights_load() -> None:
    module = Around(lambda x: x).to(torch.bfloat16).eval()
    imported = import_exported(export(module))
    table = imported.weights["table.weight"]
    assert str(table.load().dtype) == "bfloat16"
    assert np.array_equal(
        table.load().astype(np.float32), module.table.weight.detach().float().numpy()
    )
