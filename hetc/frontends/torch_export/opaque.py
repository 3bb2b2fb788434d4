"""Ops that no table knows: kept under their PyTorch name, and run by PyTorch in the reference
executor."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hetc.errors import BackendError, InputError
from hetc.frontends.torch_export.context import Context, Pairs
from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_numpy, to_torch
from hetc.ir.dims import Dim
from hetc.ir.op import Value
from hetc.ir.ops.control import OPAQUE_RUNNERS, Opaque
from hetc.ir.ops.source import Full
from hetc.ir.types import I64, Array, TensorType

if TYPE_CHECKING:
    from torch.fx import Node

FRAMEWORK = "aten"
_TARGET = re.compile(r"[a-zA-Z_]\w*\.[a-zA-Z_]\w*\.[a-zA-Z_]\w*")


def opaque(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The node as an `Opaque` op.

    Tensors and symbolic sizes (as i64 scalars) become operands; the rest is JSON: `{"input": i}`,
    `{"size": i}`, `{"dtype": name}`, `{"float": text}` for numbers that JSON has not, and plain
    values.
    """
    inputs: list[Value] = []

    def encode(item: Any) -> Any:
        if isinstance(item, Value):
            inputs.append(item)
            return {"input": len(inputs) - 1}
        if isinstance(item, Dim):
            inputs.append(ctx.op(Full, item, (), I64))
            return {"size": len(inputs) - 1}
        if isinstance(item, tuple | list):
            return [encode(part) for part in item]
        if isinstance(item, float) and (item != item or item in (float("inf"), float("-inf"))):
            return {"float": str(item)}
        if item is None or isinstance(item, bool | int | float | str):
            return item
        if str(item).startswith("torch.") and not isinstance(item, Pairs):
            return {"dtype": str(item).removeprefix("torch.")}
        raise InputError(
            "HETC-I204",
            f"an argument of {node.target} cannot be kept",
            at=ctx.loc,
            found=type(item).__name__,
        )

    arguments = {
        "args": [encode(item) for item in args],
        "kwargs": {key: encode(item) for key, item in kwargs.items()},
    }
    several = isinstance(ctx.val, tuple | list)
    fakes = ctx.val if several else (ctx.val,)
    types = tuple(
        TensorType(dtype_of_torch(fake.dtype), ctx.shape_of(fake))
        for fake in fakes
        if fake is not None
    )
    kept = (tuple(inputs), FRAMEWORK, str(node.target), json.dumps(arguments), types)
    results = iter(ctx.ops(Opaque, *kept, pointwise=_is_pointwise(node.target)))
    aligned = tuple(None if fake is None else next(results) for fake in fakes)
    return aligned if several else aligned[0]


def _is_pointwise(target: Any) -> bool:
    import torch

    if target.namespace == "prims":
        # Prims carry no tags; the ATen op that one stands for does.
        name = getattr(getattr(target, "impl_aten", None), "__name__", "")
        target = getattr(getattr(torch.ops.aten, name, None), "default", target)
    return torch.Tag.pointwise in target.tags


def run_aten(op: Opaque, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Run an opaque op with PyTorch; raises BackendError (HETC-E002) where this PyTorch has no such
    op, or the op fails."""
    import torch

    target: Any = torch.ops
    if not _TARGET.fullmatch(op.target):
        raise _no_such_op(op)
    for name in op.target.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise _no_such_op(op) from None

    def decode(item: Any) -> Any:
        if isinstance(item, list):
            return [decode(part) for part in item]
        if not isinstance(item, dict):
            return item
        ((kind, value),) = item.items()
        if kind == "input":
            return to_torch(inputs[value], op.inputs[value].dtype)
        if kind == "size":
            return int(inputs[value])
        return float(value) if kind == "float" else getattr(torch, value)

    arguments = json.loads(op.arguments)
    keywords = {key: decode(item) for key, item in arguments["kwargs"].items()}
    try:
        with torch.no_grad():
            made = target(*decode(arguments["args"]), **keywords)
    except Exception as error:  # the op is anybody's code
        raise BackendError(
            "HETC-E002",
            f"PyTorch cannot run {op.target}",
            at=op.loc,
            found=f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}",
            do="make the op take these sizes and types, or replace it in the model",
        ) from error
    results = made if isinstance(made, tuple | list) else (made,)
    return tuple(to_numpy(tensor.contiguous()) for tensor in results if tensor is not None)


def _no_such_op(op: Opaque) -> BackendError:
    return BackendError(
        "HETC-E002",
        f"PyTorch has no op {op.target}",
        at=op.loc,
        do="import the package that registers it, or replace the op in the model",
    )


OPAQUE_RUNNERS[FRAMEWORK] = run_aten
