"""Experts that torch.export cannot follow, and what computes the same for every token by itself.

Most of transformers' mixtures of experts can be computed as `batched_mm`, whose meaning is local to
a token (see `hetc.frontends.sources.skeleton`). The others sort tokens by expert and loop over the
experts that were hit. While such a model is exported, its experts gather the matrices of each
token's experts instead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hetc.frontends.sources.replacement import Replacement

if TYPE_CHECKING:
    import torch


def _tokens(*shape: int) -> torch.Tensor:
    import torch

    return torch.randn(*shape)


def _picks(tokens: int, experts: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For every token, some experts and their weights."""
    import torch

    scores = torch.rand(tokens, experts)
    weights, ids = torch.topk(scores, count, dim=-1)
    return ids, weights


def _by_rows(matrices: Any, x: Any, ids: Any) -> Any:
    """`matrices[ids[r]] @ x[r]` for every row: `[E,N,K], [R,K], [R]` -> `[R,N]`."""
    import torch

    return torch.bmm(matrices[ids], x.unsqueeze(-1)).squeeze(-1)


def _dbrx_forward(self: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    """DBRX: three matrices of `[experts * F, H]`, of which the last is used turned."""
    import torch

    count, experts = top_k_index.shape[-1], self.num_experts
    rows = hidden_states.reshape(-1, self.hidden_size).repeat_interleave(count, dim=0)
    ids = top_k_index.reshape(-1)
    w1, v1, w2 = (
        table.view(experts, self.ffn_hidden_size, self.hidden_size)
        for table in (self.mlp.w1, self.mlp.v1, self.mlp.w2)
    )
    inner = self.mlp.activation_fn(_by_rows(w1, rows, ids)) * _by_rows(v1, rows, ids)
    made = torch.bmm(inner.unsqueeze(1), w2[ids]).squeeze(1) * top_k_weights.reshape(-1, 1)
    return made.view(-1, count, self.hidden_size).sum(dim=1).view(hidden_states.shape)


def _longcat_forward(self: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    """LongCat-Flash: experts from `num_routed_experts` on give a token back as it is."""
    import torch

    count = top_k_index.shape[-1]
    rows = hidden_states.repeat_interleave(count, dim=0)
    made = rows
    if self.gate_up_proj is not None:
        ids = top_k_index.reshape(-1)
        routed = torch.clamp(ids, max=self.num_routed_experts - 1)
        gate, up = _by_rows(self.gate_up_proj, rows, routed).chunk(2, dim=-1)
        made = _by_rows(self.down_proj, self.act_fn(gate) * up, routed)
        made = torch.where((ids < self.num_routed_experts).unsqueeze(-1), made, rows)
    made = made * top_k_weights.reshape(-1, 1)
    return made.view(-1, count, hidden_states.shape[-1]).sum(dim=1).to(hidden_states.dtype)


def _jetmoe_route(router: Any, rows: Any) -> tuple[Any, Any, Any]:
    """JetMoE's gating: the experts and gates of every token, one after the other, and the logits
    of all experts."""
    import torch

    logits = router.layer(rows).float()
    top, ids = logits.topk(router.top_k, dim=1)
    gates = torch.softmax(top, dim=1).type_as(rows)
    return ids.reshape(-1), gates.reshape(-1, 1), logits


def _jetmoe_forward(self: Any, layer_input: Any) -> Any:
    """JetMoE's feed-forward experts."""
    rows = layer_input.reshape(-1, layer_input.shape[-1])
    ids, gates, _ = _jetmoe_route(self.router, rows)
    each = rows.repeat_interleave(self.router.top_k, dim=0)
    gate, up = _by_rows(self.input_linear.weight, each, ids).chunk(2, dim=-1)
    made = _by_rows(self.output_linear.weight, self.activation(gate) * up, ids) * gates
    made = made.view(-1, self.router.top_k, self.input_size).sum(dim=1)
    return made.view(layer_input.shape) + self.bias


def _jetmoe_map(self: Any, layer_input: Any) -> Any:
    """JetMoE's attention experts: the queries `[B,S,K,N]` of a token's K experts."""
    rows = layer_input.reshape(-1, layer_input.shape[-1])
    ids, gates, logits = _jetmoe_route(self.router, rows)
    each = rows.repeat_interleave(self.top_k, dim=0)
    queries = _by_rows(self.input_linear.weight, each, ids)
    shape = (*layer_input.shape[:2], self.top_k, self.hidden_size)
    return queries.view(shape), logits, (ids, gates)


def _jetmoe_reduce(self: Any, layer_input: Any, topo_info: Any) -> Any:
    """What the attention experts make of what their queries saw."""
    ids, gates = topo_info
    rows = layer_input.reshape(-1, self.hidden_size)
    made = _by_rows(self.output_linear.weight, rows, ids) * gates
    made = made.view(-1, self.top_k, self.input_size).sum(dim=1)
    return made.view(*layer_input.shape[:2], self.input_size) + self.bias


def _dbrx(cls: Any) -> Any:
    sizes = {"hidden_size": 6, "ffn_hidden_size": 4, "moe_num_experts": 4}
    return cls(SimpleNamespace(**sizes, ffn_act_fn={"name": "silu"}))


def _longcat(cls: Any) -> Any:
    sizes = {"hidden_size": 6, "expert_ffn_hidden_size": 4, "n_routed_experts": 3}
    return cls(SimpleNamespace(**sizes, zero_expert_num=2, hidden_act="silu"))


def _jetmoe(cls: Any) -> Any:
    sizes = {"hidden_size": 6, "intermediate_size": 4, "kv_channels": 2, "num_key_value_heads": 3}
    routing = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return cls(SimpleNamespace(**sizes, **routing, activation_function="silu"))


def _run_routed(experts: int, *shape: int) -> Callable[[Any], Any]:
    def run(module: Any) -> Any:
        import torch

        torch.manual_seed(1)
        x = _tokens(*shape, 6)
        return module(x, *_picks(x.numel() // 6, experts, 2))

    return run


def _run_jetmoe(module: Any) -> Any:
    import torch

    torch.manual_seed(1)
    return module(_tokens(2, 5, 6))


def _run_jetmoe_attention(module: Any) -> Any:
    import torch

    torch.manual_seed(1)
    queries, _, routed = module.map(_tokens(2, 5, 6))
    return torch.cat((queries.flatten(), module.reduce(queries.sin(), routed).flatten()))


EXPERTS: dict[str, Replacement] = {
    "DbrxExperts": Replacement({"forward": _dbrx_forward}, _dbrx, _run_routed(4, 2, 5)),
    "LongcatFlashExperts": Replacement({"forward": _longcat_forward}, _longcat, _run_routed(5, 10)),
    "JetMoeMoE": Replacement({"forward": _jetmoe_forward}, _jetmoe, _run_jetmoe),
    "JetMoeMoA": Replacement(
        {"map": _jetmoe_map, "reduce": _jetmoe_reduce}, _jetmoe, _run_jetmoe_attention
    ),
}
