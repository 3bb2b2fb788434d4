"""Whether a captured graph decodes, prefills or does neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

GraphPhase = Literal["prefill", "decode", ""]

# What may stand between an input and the lookup that reads it.
_KEEPS_IDS = {"view", "_to_copy", "clone", "alias", "unsqueeze", "squeeze", "reshape", "detach"}


# The axis of a cache [B,G,P,D] along which it grows.
ROWS = 2


def phase_of(module: GraphModule) -> GraphPhase:
    """The phase by the ids that the first embedding looks up, which an input must hold: `decode`
    for one a sequence, `prefill` for more, and nothing for a graph that looks none up."""
    length = _tokens(module)
    if length is None:
        return ""
    now = length if isinstance(length, int) else length.node.hint
    return "decode" if now == 1 else "prefill"


def growing_results(module: GraphModule) -> list[int]:
    """The places of results of a prefill graph that have a row for each token, as caches do.

    Each step is given longer ones. Dynamo only learns so by capturing the first step for one length
    alone, unless it is told.
    """
    length = _tokens(module)
    (output,) = module.graph.find_nodes(op="output")
    vals: list[Any] = [getattr(item, "meta", {}).get("val") for item in output.args[0]]
    return [
        place
        for place, val in enumerate(vals)
        if getattr(val, "ndim", 0) == 4 and _plain(val.shape[ROWS]) == _plain(length)
    ]


def _tokens(module: GraphModule) -> Any:
    """How many tokens a sequence has: a number, or PyTorch's symbol; None where it has none."""
    for node in module.graph.nodes:
        if str(node.target) == "aten.embedding.default":
            ids = _origin(node.args[1])
            if ids is not None:
                return ids.meta["val"].shape[-1]
    return None


def _plain(size: Any) -> Any:
    """A size that can be compared without a guard of it."""
    return size if isinstance(size, int) else size.node.expr


def _origin(item: Any) -> Node | None:
    """The input of at least one axis that `item` holds; None where it is computed."""
    while item.op == "call_function" and _name(item) in _KEEPS_IDS:
        item = item.args[0]
    found: Node | None = item if item.op == "placeholder" and item.meta["val"].ndim else None
    return found


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]
