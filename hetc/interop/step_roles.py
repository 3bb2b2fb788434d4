"""What the inputs of a captured graph are, where it may be a decode step with its caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import Reason
from hetc.interop.captured import Captured
from hetc.interop.regions import writes_back
from hetc.interop.step_caches import StepCache, caches_of, size_names
from hetc.ir.dims import DimLike, symbol

if TYPE_CHECKING:
    from torch.fx import Node

_SAME = ("aten.view", "aten.reshape", "aten._unsafe_view", "aten.clone", "aten.alias")


@dataclass(frozen=True)
class StepRoles:
    """The placeholders of a step by what they are, see `hetc.passes.adopt_step.StepInputs`; all
    that is nothing else is a weight. `numbers` are sizes that hold the position, as the counters
    do. `returned` is what the graph returns, in order: tensors, sizes, numbers and None; `written`
    are placeholders with what is written into them.
    """

    tokens: Node
    caches: tuple[StepCache, ...]
    counters: tuple[Node, ...]
    numbers: tuple[Node, ...]
    masks: tuple[Node, ...]
    weights: Mapping[Node, str]
    returned: tuple[Node | int | None, ...]
    written: tuple[tuple[Node, Node], ...]

    @property
    def results(self) -> tuple[Node, ...]:
        """The tensors that are returned, and what is written back and not returned."""
        tensors = [node for node in self.returned if _is_tensor(node)]
        return tuple(dict.fromkeys((*tensors, *(source for _, source in self.written))))  # type: ignore[arg-type]

    @property
    def sizes(self) -> dict[Any, DimLike]:
        """What PyTorch's symbols are."""
        position = {_val(node).node.expr: symbol("P") for node in self.numbers}
        return {**position, **size_names(self.caches)}


def find_roles(captured: Captured) -> StepRoles | Reason:
    """The roles in a graph that takes one token a sequence; or why it is no such step."""
    nodes = captured.module.graph.nodes
    tokens = _tokens(captured)
    if tokens is None or tokens.meta["val"].shape[1] != 1:
        return Reason("HETC-E053", "the graph takes no single token a sequence")
    (output,) = captured.module.graph.find_nodes(op="output")
    returned = tuple(output.args[0])
    written = tuple((node.args[0], node.args[1]) for node in nodes if writes_back(node))
    placeholders = captured.module.graph.find_nodes(op="placeholder")
    caches = caches_of(placeholders, returned)
    if not caches:
        return Reason("HETC-E053", "the graph appends to no cache")
    taken = {tokens, *(cache.node for cache in caches)}
    counters, masks, weights = [], [], {}
    known = size_names(caches)
    rows = [cache.rows for cache in caches if cache.form != "grown"]
    for node in placeholders:
        fake: Any = node.meta["val"]
        if node in taken or not hasattr(fake, "dtype"):
            continue
        is_shown = fake.ndim > 0 and _meant(fake.shape[-1], known) in rows
        is_added = fake.dtype.is_floating_point and fake.shape[1:-1] == (1, 1)
        if is_shown and is_added and node not in captured.parameters:
            masks.append(node)
        elif str(fake.dtype) == "torch.bool":
            if not is_shown:
                return Reason("HETC-E053", "a mask is not one of the rows of a cache")
            masks.append(node)
        elif str(fake.dtype) == "torch.int64" and _is_of_sequences(
            fake, tokens.meta["val"].shape[0]
        ):
            counters.append(node)
        else:
            weights[node] = captured.parameters.get(node, node.name)
    for node in captured.module.graph.find_nodes(op="get_attr"):
        weights[node] = node.name
    numbers = _numbers(captured, caches)
    if all(cache.form != "grown" for cache in caches) and not (counters or numbers):
        return Reason("HETC-E053", "nothing tells how many rows of the cache are written")
    return StepRoles(
        tokens,
        tuple(caches),
        tuple(counters),
        tuple(numbers),
        tuple(masks),
        weights,
        returned,
        written,
    )


def _numbers(captured: Captured, caches: Sequence[StepCache]) -> list[Node]:
    """The sizes that are inputs and are read, but for those of caches."""
    known = size_names(caches)
    return [
        node
        for node in captured.module.graph.find_nodes(op="placeholder")
        if type(_val(node)).__name__ == "SymInt"
        and node.users
        and _val(node).node.expr.is_Symbol
        and _val(node).node.expr not in known
    ]


def _meant(size: Any, known: Mapping[Any, DimLike]) -> DimLike | None:
    return size if isinstance(size, int) else known.get(size.node.expr)


def _is_tensor(item: object) -> bool:
    return hasattr(_val(item), "dtype")


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
