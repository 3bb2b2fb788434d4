"""From a model to a program: canonicalize, prove, synthesize. The order is the meaning of the compiler's front half."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hetc.errors import UsageError
from hetc.ir.graph import Program
from hetc.ir.model import Model
from hetc.ir.types import DTYPES, DType
from hetc.passes.canonicalize import canonicalize
from hetc.passes.fold_uniform import fold_uniform
from hetc.passes.prove_causal import prove_causal
from hetc.passes.retype import float_dtype, retype
from hetc.passes.simplify import simplify
from hetc.passes.synthesize_state import synthesize_state

from hetc.driver import options as names
from hetc.driver.options import CompileOptions
from hetc.driver.weights import WeightReader


@dataclass(frozen=True)
class Lowered:
    """The program of a model, its weights, and the context that it was proven for."""

    model: Model
    program: Program
    weights: WeightReader
    dtype: DType
    mask_kinds: dict[str, int]


def lower(model: Model, options: CompileOptions) -> Lowered:
    """`forward` of `model` as prefill and decode.

    Raises StateError where decode cannot be derived, UsageError (HETC-U011) for a context beyond the model's.
    """
    context = _context(model, options)
    graph = canonicalize(model.graph)
    dtype = DTYPES[names.DTYPES[options.dtype]] if options.dtype else model.dtype
    graph = simplify(retype(graph, float_dtype(graph), dtype))
    reader = WeightReader(model, graph)
    # Packing is found out by evaluation, and masks become position-wise where it is ruled out.
    graph = simplify(fold_uniform(graph, reader, context))
    proof = prove_causal(graph, reader, context)
    program = synthesize_state(proof.graph, reader, context, _facts(proof.kinds, context))
    return Lowered(replace(model, max_context=context), program, reader, dtype, proof.kinds)


def _context(model: Model, options: CompileOptions) -> int:
    if options.context is None:
        return model.max_context
    if options.context > model.max_context:
        raise UsageError(
            "HETC-U011",
            "the context is longer than the model's own",
            at="--context",
            expected=f"at most {model.max_context}",
            found=options.context,
        )
    return options.context


def _facts(kinds: dict[str, int], context: int) -> tuple[str, ...]:
    masks = tuple(f"{count} attention masks proven {kind}" for kind, count in sorted(kinds.items()))
    return (*masks, f"sequences of up to {context} tokens")
