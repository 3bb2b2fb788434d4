"""Ops that write in place: which of them can be read as if they did not, and how to get rid of the
others.

PyTorch's own functionalization (`run_decompositions`) takes as long as the export. Most in-place
ops write a fresh tensor that nobody sees under another name, and are then the same as their
functional twin. So are those that write a slice of one, after which the whole has a new value too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

# Higher-order ops that only set a mode around a subgraph: name -> position of the subgraph among
# the arguments.
WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
# Ops that give a part of a tensor, and those that put one into it: `part(whole, *where)` and
# `put(whole, part, *where)`.
_PARTS = {"aten.slice.Tensor": "slice_scatter.default", "aten.select.int": "select_scatter.default"}


def wrapped_module(root: GraphModule, node: Node) -> tuple[GraphModule, tuple[Any, ...]] | None:
    """Subgraph and arguments of a higher-order op that only calls it; None for other nodes."""
    position = None if hasattr(node.target, "_schema") else WRAPPERS.get(str(node.target))
    if position is None or (position == 4 and node.args[2] is not False):
        # Autocast that is on changes the types inside.
        return None
    submodule: Any = node.args[position]
    return getattr(root, submodule.target), node.args[position + 1 :]


def functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place ops that a reader must follow, or itself where it has none."""
    module = program.graph_module
    if all(_is_simple(graph_module) for graph_module in _with_wrapped(module)):
        return program
    return decomposed(program, ())


def decomposed(program: ExportedProgram, targets: Iterable[Any]) -> ExportedProgram:
    """The program functionalized, with PyTorch's decompositions of the given ops and no others.

    Raises InputError (HETC-I203) where PyTorch itself fails.
    """
    from torch._decomp import get_decompositions
    from torch.export import default_decompositions

    wanted = list(targets)
    table: dict[Any, Any] = dict(get_decompositions(wanted))
    # Composite ops stand only in the default table.
    composite: Any = default_decompositions()
    table |= {target: rule for target, rule in composite.items() if target in wanted}
    try:
        functionalized: ExportedProgram = program.run_decompositions(table)
        return functionalized
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        raise InputError(
            "HETC-I203",
            "PyTorch cannot bring the exported program into functional form",
            found=str(error).strip().partition("\n")[0],
            do="call run_decompositions({}) on the program and see what it says",
        ) from error


def decomposable(targets: Iterable[Any]) -> set[Any]:
    """Those of the ops that PyTorch can express by others."""
    from torch._decomp import get_decompositions
    from torch.export import default_decompositions

    wanted = set(targets)
    return {target for target in default_decompositions() if target in wanted} | set(
        get_decompositions(list(wanted))
    )


def _with_wrapped(module: GraphModule) -> Iterable[GraphModule]:
    yield module
    for node in module.graph.nodes:
        if node.op == "call_function" and (inner := wrapped_module(module, node)):
            yield from _with_wrapped(inner[0])


def _is_simple(module: GraphModule) -> bool:
    """Whether every in-place op writes a tensor that the graph made and that no other name reads
    afterwards.

    The written name itself may be read, and so may the tensors of which it is a part: the importer
    gives them their new values.
    """
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    sharing: dict[Node, list[Node]] = {}
    owned: dict[Node, bool] = {}
    fresh: dict[Node, bool] = {}
    results: dict[tuple[Node, Any], Node] = {}
    for node in order:
        schema = getattr(node.target, "_schema", None)
        wrapper = schema is None and str(node.target) in WRAPPERS
        if wrapper and wrapped_module(module, node) is None:
            return False
        source = _viewed(node, schema)
        if node.target is operator.getitem and source is not None and fresh[source]:
            # The results of one op are tensors of their own; two reads of one result are not.
            source = results.setdefault((source, node.args[1]), node)
            source = None if source is node else source
        if schema is not None and schema.is_mutable:
            if source is None or not owned[source] or not _writes_first(schema):
                return False
            written = _with_wholes(source)
            if len(written) > 1 and source.meta["val"].is_complex():
                return False
            others = (name for name in sharing[source] if name not in written)
            if any(order[user] > order[node] for name in others for user in name.users):
                return False
        names = sharing[source] if source is not None else []
        names.append(node)
        sharing[node] = names
        fresh[node] = source is None and schema is not None
        owned[node] = (
            owned[source] if source is not None else node.target is operator.getitem or fresh[node]
        )
    return True


def _with_wholes(node: Node) -> list[Node]:
    """A tensor, the one of which it is a part, and so on."""
    found: list[Any] = [node]
    while put_back(found[-1]):
        found.append(found[-1].args[0])
    return found


def put_back(node: Any) -> str | None:
    """The op that puts a node's part into the whole, its first argument; None where it is no
    part."""
    return None if node.kwargs else _PARTS.get(str(node.target))


def _writes_first(schema: Any) -> bool:
    """Whether an op writes its first argument and no other: what the importer reads as a new
    value."""
    written = [
        item.alias_info is not None and item.alias_info.is_write for item in schema.arguments
    ]
    return written[:1] == [True] and not any(written[1:])


def _viewed(node: Node, schema: Any) -> Node | None:
    """The tensor whose memory the node's result may share; None for a fresh result."""
    from torch.fx import Node as FxNode

    if node.op != "call_function":
        return None
    if schema is None or schema.name in _UNDECLARED:
        first = node.args[0] if node.args else None
        return first if isinstance(first, FxNode) else None
    for argument, item in zip(schema.arguments, node.args, strict=False):
        if argument.alias_info is not None and isinstance(item, FxNode):
            return item
    return None


# Composite ops that may return their input without saying so in their schema.
_UNDECLARED = {"aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::type_as"}
