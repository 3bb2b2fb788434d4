"""Cuts a captured graph into regions that hetc runs and what PyTorch runs between them.

Regions and stages of PyTorch's alternate: stage 1, region 1, stage 2, region 2, ... A node goes
into the earliest one in which all that it reads is there. So no two parts wait for each other, and
their number is that of the changes of side along the longest path.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetc.frontends.torch_export import makes_tensors

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class Region:
    """Nodes that hetc runs as one; `outputs` are those that are read elsewhere."""

    number: int
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]


def cut_regions(module: GraphModule, refused: Collection[Node]) -> list[Node | Region]:
    """The nodes that PyTorch runs, among them those in `refused`, and the regions, as they run.

    Ops that write or draw random numbers are always PyTorch's.

    A view whose result leaves a region is made by PyTorch, so that it shares memory as it would
    without hetc: the graph gets a second one where the region needs it too.
    """
    taken = _taken(module, refused)
    _repeat_views(module, taken)
    place = _places(module, taken)
    members: dict[int, list[Node]] = {}
    stages: dict[int, list[Node]] = {}
    for node, number in place.items():
        (members if node in taken else stages).setdefault(number, []).append(node)
    order: list[Node | Region] = []
    for number in sorted({*members, *stages}):
        order += stages.get(number, [])
        if number in members:
            order.append(_region(number, members[number]))
    return order


def _taken(module: GraphModule, refused: Collection[Node]) -> set[Node]:
    taken: set[Node] = set()
    for node in module.graph.nodes:
        if node.op != "call_function" or node in refused or not makes_tensors(node):
            continue
        if has_effects(node) or is_random(node):
            continue
        if node.target is not operator.getitem or node.args[0] in taken:
            taken.add(node)
    return taken


def _region(number: int, nodes: list[Node]) -> Region:
    inside = set(nodes)
    left = [n for n in nodes if _is_tensor(n) and any(user not in inside for user in n.users)]
    return Region(number, tuple(nodes), tuple(left))


def _is_tensor(node: Node) -> bool:
    return hasattr(node.meta.get("val"), "dtype")


def _repeat_views(module: GraphModule, taken: set[Node]) -> None:
    for node in reversed(list(module.graph.nodes)):
        if node not in taken or not getattr(node.target, "is_view", False) or not _is_tensor(node):
            continue
        outside = [user for user in node.users if user not in taken]
        if not outside:
            continue
        with module.graph.inserting_after(node):
            twin = module.graph.node_copy(node)
        for user in outside:
            user.replace_input_with(node, twin)
        if not node.users:
            taken.remove(node)
            module.graph.erase_node(node)


def _places(module: GraphModule, taken: Collection[Node]) -> dict[Node, int]:
    """The number of the region or stage of each node."""
    place: dict[Node, int] = {}
    latest = barrier = drawn = 1
    for node in module.graph.nodes:
        if node.op == "output":
            continue
        is_taken = node in taken
        after = [place[item] + (item in taken and not is_taken) for item in node.all_input_nodes]
        number = max(barrier, *after) if after else barrier
        if has_effects(node):
            # After all that stands before it, and before all that stands after it.
            number = barrier = max(number, latest)
        elif is_random(node):
            number = drawn = max(number, drawn)
        place[node] = number
        latest = max(latest, number + is_taken)
    return place


def is_random(node: Node) -> bool:
    """Whether the node draws from PyTorch's generator, so that its place among its like counts."""
    import torch

    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    # Attention draws for its dropout only.
    named = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given = dict(zip(named, node.args, strict=False)) | node.kwargs
    return "dropout_p" not in named or given.get("dropout_p", 0.0) != 0.0


def has_effects(node: Node) -> bool:
    """Whether the node does more than give a result."""
    if node.op in ("call_module", "call_method"):
        return True
    if node.op != "call_function" or node.target is operator.getitem:
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        # Arithmetic on sizes has no effects; a higher-order op may have some.
        return makes_tensors(node) or node.meta.get("val") is None
    return bool(schema.is_mutable) or not schema.returns


def writes_back(node: Node) -> bool:
    """Whether the node is one of those by which AOTAutograd writes new values into inputs."""
    destination = node.args[0] if node.args else None
    return (
        str(node.target) == "aten.copy_.default"
        and getattr(destination, "op", "") == "placeholder"
        and all(user.op == "output" for user in node.users)
    )
