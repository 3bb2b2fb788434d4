"""From a model to a program: canonicalize, prove, synthesize. The order is the meaning of the
compiler's front half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hetc.driver.options import DTYPES as DTYPE_NAMES
from hetc.driver.options import QUANTIZE, CompileOptions
from hetc.driver.policy import Policy
from hetc.driver.weights import WeightReader
from hetc.errors import UsageError
from hetc.ir.graph import Graph, Program
from hetc.ir.model import Model, WeightData
from hetc.ir.types import DTYPES, DType
from hetc.passes.adopt_state import adopt_state
from hetc.passes.bound_context import bound_context
from hetc.passes.canonicalize import canonicalize
from hetc.passes.declared_ops import declare_token_wise
from hetc.passes.fold_uniform import fold_uniform
from hetc.passes.narrow_weights import narrow_weights
from hetc.passes.prove_causal import prove_causal
from hetc.passes.quantize_weights import Quantized, Scheme, quantize_weights
from hetc.passes.retype import float_dtype, retype
from hetc.passes.scan_sums import scan_sums
from hetc.passes.shift_tokens import shift_tokens
from hetc.passes.simplify import simplify
from hetc.passes.synthesize_state import synthesize_state


@dataclass(frozen=True)
class Lowered:
    """The program of a model, its weights, and the context that it was proven for; what was
    quantized of it, None for nothing."""

    model: Model
    program: Program
    weights: WeightReader
    dtype: DType
    quantized: Quantization | None = None


@dataclass(frozen=True)
class Quantization:
    """`forward` before its matrices were quantized, with its weights, and what became of them."""

    before: Graph
    weights: WeightReader
    result: Quantized


def lower(model: Model, options: CompileOptions, policy: Policy) -> Lowered:
    """`forward` of `model` as prefill and decode.

    Raises StateError where decode cannot be derived, UsageError (HETC-U011) for a context beyond
    the model's, InputError (HETC-I010) for a declared op that the model does not have.
    """
    graph = canonicalize(declare_token_wise(model.graph, policy.token_wise))
    longest = bound_context(graph, WeightReader(model, graph), model.max_context)
    context = _context(longest, options)
    dtype = DTYPES[DTYPE_NAMES[options.dtype]] if options.dtype else model.dtype
    graph = simplify(retype(graph, float_dtype(graph), dtype))
    if model.stored is not None and model.weights is None:
        graph = narrow_weights(graph, model.stored)
    quantized = _quantize(model, graph, options, policy)
    if quantized is not None:
        graph = simplify(quantized.result.graph)
        model = _with_weights(model, quantized.result.weights)
    reader = WeightReader(model, graph)
    program = _derive(model, graph, reader, context)
    return Lowered(replace(model, max_context=context), program, reader, dtype, quantized)


def _quantize(
    model: Model, graph: Graph, options: CompileOptions, policy: Policy
) -> Quantization | None:
    groups = {
        name: data.groups for name, data in (model.weights or {}).items() if data.groups is not None
    }
    form = QUANTIZE[options.quantize or "keep"]
    tensors = tuple(policy.quantize.items())
    if not tensors and (form == "none" or (form == "keep" and not groups)):
        return None
    # What is rounded is what the source says, not what a narrower float made of it.
    source, reader = WeightReader(model, Graph("", (), (), ())), WeightReader(model, graph)
    made = quantize_weights(graph, Scheme(form, tensors), source, groups)
    return Quantization(graph, reader, made)


def _with_weights(model: Model, more: Mapping[str, WeightData]) -> Model:
    return model if model.weights is None else replace(model, weights={**model.weights, **more})


def _derive(model: Model, graph: Graph, reader: WeightReader, context: int) -> Program:
    if model.carried:
        return adopt_state(graph, model.carried, reader, context)
    # Packing is found out by evaluation, and masks become position-wise where it is ruled out.
    graph = simplify(fold_uniform(graph, reader, context))
    proof = prove_causal(graph, reader, context)
    facts = (*proof.facts, f"sequences of up to {context} tokens")
    graph = shift_tokens(scan_sums(proof.graph))
    return synthesize_state(graph, reader, context, facts)


def _context(longest: int, options: CompileOptions) -> int:
    if options.context is None:
        return longest
    if options.context > longest:
        raise UsageError(
            "HETC-U011",
            "the context is longer than the model's own",
            at="--context",
            expected=f"at most {longest}",
            found=options.context,
        )
    return options.context
