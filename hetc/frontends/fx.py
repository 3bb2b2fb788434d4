"""Symbolically traced modules (torch.fx) as graphs: exported again on the example inputs, then
imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.torch_export import ImportedGraph, import_exported

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule


def import_fx(
    module: GraphModule, example_inputs: Sequence[torch.Tensor], *, name: str = "forward"
) -> ImportedGraph:
    """Import what `torch.fx.symbolic_trace` returns.

    A trace records calls without shapes and types, so the module is exported on `example_inputs`,
    of which integer ones of rank 2 are taken as `[batch, sequence]` with both axes dynamic. Raises
    InputError (HETC-I230) where PyTorch cannot export it so.
    """
    import torch

    tensors = tuple(_at_least_two(tensor) for tensor in example_inputs)
    shapes = tuple(_dynamic(tensor) for tensor in tensors)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, tensors, dynamic_shapes=(shapes,) if _is_variadic(module) else shapes
            )
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AssertionError,
        AttributeError,
        IndexError,
        torch._dynamo.exc.TorchDynamoException,
    ) as error:
        raise InputError(
            "HETC-I230",
            "PyTorch cannot export the traced module with a dynamic batch and sequence",
            found=str(error).strip().partition("\n")[0],
            do="trace a module whose forward takes tokens [batch, sequence] and fixes neither size",
        ) from error
    finally:
        for part in training:
            part.training = True
    return import_exported(program, name=name)


def _is_tokens(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 2 and not tensor.dtype.is_floating_point and not tensor.dtype.is_complex


def _at_least_two(tensor: torch.Tensor) -> torch.Tensor:
    # PyTorch takes an axis of length 1 as static.
    if not _is_tokens(tensor):
        return tensor
    return tensor.repeat(*(2 if size == 1 else 1 for size in tensor.shape))


def _dynamic(tensor: torch.Tensor) -> dict[int, Any] | None:
    import torch

    if not _is_tokens(tensor):
        return None
    return {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("sequence", min=1)}


def _is_variadic(module: GraphModule) -> bool:
    return any(
        node.op == "placeholder" and str(node.target).startswith("*") for node in module.graph.nodes
    )
