"""The walk over the nodes of a functional graph, by the table of ATen ops."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, IRError, Reason
from hetc.frontends.torch_export import (
    table_bag,
    table_conv,
    table_distance,
    table_elementwise,
    table_fft,
    table_grid,
    table_index,
    table_mask,
    table_nn,
    table_norm,
    table_norm_backward,
    table_pool,
    table_random,
    table_recurrence,
    table_reduce,
    table_resample,
    table_shape,
    table_source,
)
from hetc.frontends.torch_export.context import Context, Pairs, Unsupported
from hetc.frontends.torch_export.functional import put_back, wrapped_module
from hetc.frontends.torch_export.opaque import opaque
from hetc.frontends.torch_export.places import Places, describe, place
from hetc.frontends.torch_export.registry import COMPLEX, TABLE, Handler
from hetc.frontends.torch_export.symbols import NotAPolynomial
from hetc.ir.op import Op, Value

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

# Imported for what they put into TABLE.
_TABLES = (
    table_bag,
    table_conv,
    table_distance,
    table_elementwise,
    table_fft,
    table_grid,
    table_index,
    table_mask,
    table_nn,
    table_norm,
    table_norm_backward,
    table_pool,
    table_random,
    table_recurrence,
    table_reduce,
    table_resample,
    table_shape,
    table_source,
)

# Keyword arguments that say where and how a tensor lies, not what is in it.
_PLACEMENT = {
    "device",
    "layout",
    "pin_memory",
    "memory_format",
    "non_blocking",
    "copy",
    "generator",
}

# Ops whose result is a number that data decides: a tensor without axes in the IR.
_NUMBERS = ("aten._local_scalar_dense.default", "aten.item.default")


@dataclass
class Walk:
    """One walk over one graph: `ctx` holds what was made so far, `unknown` the ops that no table
    knows. Sizes are bound to what the graph asserts of them."""

    ctx: Context
    places: Places
    unknown: list[tuple[Any, Reason, Op]] = field(default_factory=list)
    has_pairs: bool = False
    _handlers: dict[Any, tuple[Handler | None, Handler | None, bool]] = field(default_factory=dict)

    def run(self, module: GraphModule) -> tuple[Any, ...]:
        values = self.ctx.values
        for node in module.graph.nodes:
            if node.op == "call_function":
                if node not in values:
                    self.call(module, node)
            elif node.op == "output":
                results = self.resolve(node.args[0])
                return results if isinstance(results, tuple) else (results,)
        return ()

    def call(self, module: GraphModule, node: Node) -> None:
        values, target = self.ctx.values, node.target
        if target is operator.getitem and node.args[0] in values:
            values[node] = values[node.args[0]][node.args[1]]  # type: ignore[index]
            return
        if inner := wrapped_module(module, node):
            for placeholder, argument in zip(
                inner[0].graph.find_nodes(op="placeholder"), inner[1], strict=True
            ):
                values[placeholder] = self.resolve(argument)
            values[node] = self.run(inner[0])
            return
        val = node.meta.get("val")
        is_tensor = isinstance(val, tuple | list) or hasattr(val, "dtype")
        if not is_tensor and str(target) not in _NUMBERS:
            # Sizes are read where they are used; assertions say nothing about values.
            if str(target) == "aten._assert_scalar.default":
                self._require(node)
            return
        self.ctx.node = node
        self.ctx.loc = self.places.loc(node)
        try:
            values[node] = result = self._apply(node)
            self._check(result, val)
        except Unsupported as error:
            raise self._stuck(node, str(error), "express it by other ops") from error
        except NotAPolynomial as error:
            raise self._stuck(
                node, str(error), "rewrite the line, or declare other dims"
            ) from error
        except IRError as error:
            raise self._stuck(node, f"{error.what} {error.found}".strip(), "") from error

    def _require(self, node: Node) -> None:
        """Hold the export to what it asserts of its sizes (with its guards deferred, every branch
        that it took); assertions about data are the model's own."""
        condition = getattr(node.args[0], "meta", {}).get("val")
        if type(condition).__name__ != "SymBool" or not self.ctx.symbols.known(condition):
            return
        self.ctx.loc = self.places.loc(node)
        try:
            self.ctx.symbols.require(condition)
        except NotAPolynomial as error:
            do = "export the model for a range of lengths in which it takes one path"
            raise self._stuck(node, str(error), do) from error

    def _stuck(self, node: Node, found: str, remedy: str) -> InputError:
        place = describe(node, self.ctx.loc)
        what = f"{node.target} cannot be imported"
        return InputError("HETC-I211", what, at=place, found=found, do=remedy)

    def _apply(self, node: Node) -> Any:
        plain, by_pairs, mutable = self._handlers.get(node.target) or self._find(node)
        args = tuple([self.resolve(item) for item in node.args])
        kwargs = {
            key: self.resolve(item) for key, item in node.kwargs.items() if key not in _PLACEMENT
        }
        makes_pairs = not plain and by_pairs is not None
        if makes_pairs or (self.has_pairs and any(_has_pairs(item) for item in args)):
            self.has_pairs = True
            result = by_pairs(self.ctx, *args, **kwargs) if by_pairs else NotImplemented
        else:
            result = plain(self.ctx, *args, **kwargs) if plain else NotImplemented
        if result is NotImplemented:
            result = opaque(self.ctx, node, args, kwargs)
            text = f"{node.target} is not in hetc's table and PyTorch does not decompose it"
            reason = Reason("HETC-I210", text, at=place(node, self.ctx.loc))
            self.unknown.append((node.target, reason, self.ctx.builder.ops[-1]))
        if mutable:
            self._write(node.args[0], result)
        return result

    def _write(self, written: Any, value: Any) -> None:
        """Give what an in-place op wrote its new value, and so the tensors of which it is a part.

        `functional` made sure that nobody else sees the write.
        """
        values = self.ctx.values
        values[written] = value
        while put := put_back(written):
            part, (written, *where) = values[written], written.args
            values[written] = TABLE[put](
                self.ctx, values[written], part, *[self.resolve(item) for item in where]
            )

    def _find(self, node: Node) -> tuple[Handler | None, Handler | None, bool]:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise InputError(
                "HETC-I212",
                "control flow and other higher-order ops cannot be imported",
                at=describe(node, self.ctx.loc),
                found=node.target,
                do="export the model without torch.cond, while_loop and the like",
            )
        name = str(node.target).removeprefix("aten.")
        if schema.is_mutable:
            name = name.replace("_.", ".", 1)
        found = (TABLE.get(name), COMPLEX.get(name), bool(schema.is_mutable))
        self._handlers[node.target] = found
        return found

    def resolve(self, item: Any) -> Any:
        values = self.ctx.values
        if type(item) is int or item is None:
            return item
        if isinstance(item, list | tuple):
            return tuple([self.resolve(part) for part in item])
        if not hasattr(item, "meta"):
            return item
        if item in values:
            return values[item]
        val = item.meta.get("val")
        if isinstance(val, int | float | bool):
            return val
        if hasattr(val, "node") and type(val).__name__ == "SymInt":
            return self.ctx.symbols.dim(val)
        raise NotAPolynomial(f"{item.name} is a number that depends on sizes or data: {val}")

    def _check(self, result: Any, val: Any) -> None:
        """Hold the result against the type that PyTorch recorded: mistakes in a table stop here."""
        if isinstance(result, Value) and hasattr(val, "shape"):
            shape = self.ctx.shape_of(val)
            if result.type.shape != shape or result.type.dtype is not self.ctx.dtype:
                wanted = f"{self.ctx.dtype}[{','.join(map(str, shape))}]"
                raise IRError("HETC-X012", f"hetc made {result.type}, PyTorch {wanted}")


def _has_pairs(item: Any) -> bool:
    return isinstance(item, Pairs) or (
        isinstance(item, tuple) and any(isinstance(part, Pairs) for part in item)
    )
