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
    """Import what `torch.fx.symbolic_trace` returns for a language model; see `export_fx`."""
    return import_exported(export_fx(module, example_inputs), name=name)


def export_fx(
    module: GraphModule, example_inputs: Sequence[torch.Tensor]
) -> torch.export.ExportedProgram:
    """Export a traced module, so that its sizes are symbols.

    A trace records calls without shapes and types, so the module is exported on `example_inputs`,
    of which integer ones of rank 2 are taken as `[batch, sequence]` with both axes dynamic. Without
    any, the first axis of all inputs is taken as the batch where it is the same. Raises InputError
    (HETC-I230) where PyTorch cannot export it so.
    """
    import torch

    has_tokens = any(_is_tokens(tensor) for tensor in example_inputs)
    tensors = tuple(_at_least_two(tensor, has_tokens) for tensor in example_inputs)
    shapes = tuple(map(_dynamic, tensors)) if has_tokens else _batches(tensors)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            return torch.export.export(
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
            do="trace a module whose forward fixes neither the batch nor, of tokens, the sequence",
        ) from error
    finally:
        for part in training:
            part.training = True


def _is_tokens(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 2 and not tensor.dtype.is_floating_point and not tensor.dtype.is_complex


def _at_least_two(tensor: torch.Tensor, has_tokens: bool) -> torch.Tensor:
    # PyTorch takes an axis of length 1 as static.
    if _is_tokens(tensor):
        return tensor.repeat(*(2 if size == 1 else 1 for size in tensor.shape))
    if not has_tokens and tensor.ndim and tensor.shape[0] == 1:
        return tensor.repeat(2, *(1 for _ in tensor.shape[1:]))
    return tensor


def _batches(tensors: Sequence[torch.Tensor]) -> tuple[dict[int, Any] | None, ...]:
    import torch

    same = len({tensor.shape[0] if tensor.ndim else None for tensor in tensors}) == 1
    if not same or not tensors[0].ndim:
        return (None,) * len(tensors)
    return ({0: torch.export.Dim("batch", min=1)},) * len(tensors)


def _dynamic(tensor: torch.Tensor) -> dict[int, Any] | None:
    import torch

    if not _is_tokens(tensor):
        return None
    return {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("sequence", min=1)}


def _is_variadic(module: GraphModule) -> bool:
    return any(
        node.op == "placeholder" and str(node.target).startswith("*") for node in module.graph.nodes
    )
