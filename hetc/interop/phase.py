"""Whether a captured graph decodes, prefills or does neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

GraphPhase = Literal["prefill", "decode", ""]

# What may stand between an input and the lookup that reads it.
_KEEPS_IDS = {"view", "_to_copy", "clone", "alias", "unsqueeze", "squeeze", "reshape", "detach"}


def phase_of(module: GraphModule) -> GraphPhase:
    """The phase by the ids that the first embedding looks up, which an input must hold: `decode`
    for one a sequence, `prefill` for more, and nothing for a graph that looks none up."""
    for node in module.graph.nodes:
        if str(node.target) != "aten.embedding.default":
            continue
        ids = _origin(node.args[1])
        if ids is not None:
            length = ids.meta["val"].shape[-1]
            now = length if isinstance(length, int) else length.node.hint
            return "decode" if now == 1 else "prefill"
    return ""


def _origin(item: Any) -> Node | None:
    """The input of at least one axis that `item` holds; None where it is computed."""
    while item.op == "call_function" and _name(item) in _KEEPS_IDS:
        item = item.args[0]
    found: Node | None = item if item.op == "placeholder" and item.meta["val"].ndim else None
    return found


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]
