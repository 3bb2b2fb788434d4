"""What the inputs of a captured graph are, where it may be a decode step with its caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import Reason
from hetc.interop.captured import Captured
from hetc.interop.regions import writes_back

if TYPE_CHECKING:
    from torch.fx import Node

_SAME = ("aten.view", "aten.reshape", "aten._unsafe_view", "aten.clone", "aten.alias")


@dataclass(frozen=True)
class StepRoles:
    """The placeholders of a step by what they are, see `hetc.passes.adopt_step.StepInputs`; all
    that is nothing else is a weight. `returned` is what the graph returns, in order; `written` are
    placeholders with what is written into them.
    """

    tokens: Node
    caches: tuple[Node, ...]
    counters: tuple[Node, ...]
    masks: tuple[Node, ...]
    weights: Mapping[Node, str]
    returned: tuple[Node, ...]
    written: tuple[tuple[Node, Node], ...]

    @property
    def results(self) -> tuple[Node, ...]:
        """What is returned, and what is written back and not returned."""
        return tuple(dict.fromkeys((*self.returned, *(source for _, source in self.written))))

    @property
    def is_static(self) -> bool:
        """Whether the caches are written into, and have their size from the beginning."""
        return any(target in self.caches for target, _ in self.written)


def find_roles(captured: Captured) -> StepRoles | Reason:
    """The roles in a graph that takes one token a sequence; or why it is no such step."""
    nodes = captured.module.graph.nodes
    tokens = _tokens(captured)
    if tokens is None or tokens.meta["val"].shape[1] != 1:
        return Reason("HETC-E053", "the graph takes no single token a sequence")
    (output,) = captured.module.graph.find_nodes(op="output")
    returned = tuple(output.args[0])
    if not all(hasattr(_val(node), "dtype") for node in returned):
        return Reason("HETC-E053", "the graph returns something else than tensors")
    written = tuple((node.args[0], node.args[1]) for node in nodes if writes_back(node))
    caches, counters, masks, weights = [], [], [], {}
    for node in captured.module.graph.find_nodes(op="placeholder"):
        fake: Any = node.meta["val"]
        if node is tokens or not hasattr(fake, "dtype"):
            continue
        if any(_appends(user, node) for user in node.users):
            caches.append(node)
        elif str(fake.dtype) == "torch.bool":
            masks.append(node)
        elif str(fake.dtype) == "torch.int64" and _is_of_sequences(
            fake, tokens.meta["val"].shape[0]
        ):
            counters.append(node)
        else:
            weights[node] = captured.parameters.get(node, node.name)
    if not caches:
        return Reason("HETC-E053", "the graph appends to no cache")
    if any(target in caches for target, _ in written) and not counters:
        return Reason("HETC-E053", "nothing tells how many rows of the cache are written")
    rows = caches[0].meta["val"].shape[2]
    if not all(isinstance(rows, int) and _val(mask).shape[-1] == rows for mask in masks):
        return Reason("HETC-E053", "a mask is not one of the rows of a cache")
    return StepRoles(
        tokens,
        tuple(caches),
        tuple(counters),
        tuple(masks),
        weights,
        returned,
        written,
    )


def _is_of_sequences(fake: Any, batch: Any) -> bool:
    """Whether there is one number, or one for each sequence."""
    sizes = [size for size in fake.shape if size != 1]
    return sizes in ([], [batch])


def _val(node: object) -> Any:
    return getattr(node, "meta", {}).get("val")


def _tokens(captured: Captured) -> Node | None:
    """The input that the first embedding looks up."""
    for node in captured.module.graph.nodes:
        if str(node.target) == "aten.embedding.default":
            source: Any = node.args[1]
            while source.op == "call_function" and str(source.target).startswith(_SAME):
                source = source.args[0]
            fits = source.op == "placeholder" and source.meta["val"].ndim == 2
            return source if fits else None
    return None


def _appends(user: Node, cache: Node) -> bool:
    if _val(cache).ndim != 4:
        return False
    if str(user.target) == "aten.index_copy.default":
        return user.args[0] is cache
    parts: Any = user.args[0] if str(user.target) == "aten.cat.default" else ()
    return len(parts) == 2 and parts[0] is cache
