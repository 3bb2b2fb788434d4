"""From a model to a program: canonicalize, prove, synthesize. The order is the meaning of the
compiler's front half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hetc.driver.options import DTYPES as DTYPE_NAMES
from hetc.driver.options import QUANTIZE, CompileOptions
from hetc.driver.policy import Policy
from hetc.driver.weights import WeightReader
from hetc.errors import Reason, UsageError
from hetc.ir.graph import Graph, Program, Whole
from hetc.ir.model import Model, WeightData
from hetc.ir.ops.source import Weight
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
class LoweredWhole:
    """A model without phases, its weights, and what was quantized of it, None for nothing."""

    model: Model
    whole: Whole
    weights: WeightReader
    dtype: DType
    quantized: Quantization | None = None


@dataclass(frozen=True)
class Quantization:
    """`forward` before its matrices were quantized, with its weights, and what became of them."""

    before: Graph
    weights: WeightReader
    result: Quantized

    @property
    def parameters(self) -> int:
        """Elements of all weights, tied ones once."""
        return sum(weight_sizes(self.before).values())


def weight_sizes(*graphs: Graph) -> dict[str, int]:
    """Name and number of elements of every weight that the graphs read."""
    weights = (op for graph in graphs for op in graph.ops if isinstance(op, Weight))
    sizes = {op.name: op.type.size for op in weights}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


def lower(model: Model, options: CompileOptions, policy: Policy) -> Lowered:
    """`forward` of `model` as prefill and decode.

    Raises StateError where decode cannot be derived, UsageError (HETC-U011) for a context beyond
    the model's and (HETC-U019) for a model without phases, InputError (HETC-I010) for a declared op
    that the model does not have.
    """
    if model.no_phases is not None:
        raise needs_phases(model.name, model.no_phases)
    graph = canonicalize(declare_token_wise(model.graph, policy.token_wise))
    longest = bound_context(graph, WeightReader(model, graph), model.max_context)
    context = _context(longest, options)
    model, graph, quantized = _typed(model, graph, options, policy)
    reader = WeightReader(model, graph)
    program = _derive(model, graph, reader, context)
    return Lowered(replace(model, max_context=context), program, reader, model.dtype, quantized)


def lower_whole(model: Model, options: CompileOptions, policy: Policy) -> LoweredWhole:
    """The graph of a model without phases, in the dtype that is asked for.

    Raises UsageError (HETC-U018) for an option that only phases give a meaning.
    """
    _refuse_phased(options, policy)
    model, graph, quantized = _typed(model, canonicalize(model.graph), options, policy)
    graph = replace(graph, name="forward", output_names=_output_names(graph))
    reader = WeightReader(model, graph)
    return LoweredWhole(model, Whole(model.name, graph), reader, model.dtype, quantized)


def needs_phases(name: str, why: Reason) -> UsageError:
    """HETC-U019: something of prefill and decode was asked of a model that has neither."""
    return UsageError(
        "HETC-U019",
        "this model has no phases: neither prefill nor decode",
        at=name,
        expected="a decoder",
        found=str(why),
    )


def _output_names(graph: Graph) -> tuple[str, ...]:
    """A name for every output that no input has: files call both by name."""
    taken = {value.name for value in graph.inputs}
    names = graph.output_names or tuple(f"output{i}" for i in range(len(graph.outputs)))
    return tuple(f"{name}.result" if name in taken else name for name in names)


def _refuse_phased(options: CompileOptions, policy: Policy) -> None:
    given = {
        "--context": options.context is not None,
        "--plan": options.plan is not None,
        "--kv": options.kv != "model",
        "token_wise in the policy": bool(policy.token_wise),
    }
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise UsageError(
            "HETC-U018",
            "this model has no phases, and these options are about them",
            at=", ".join(wrong),
            do="leave them out",
        )


def _typed(
    model: Model, graph: Graph, options: CompileOptions, policy: Policy
) -> tuple[Model, Graph, Quantization | None]:
    """The canonical `graph` of `model` in the asked dtype, its matrices quantized; and the model
    with the weights that it then has."""
    dtype = DTYPES[DTYPE_NAMES[options.dtype]] if options.dtype else model.dtype
    graph = simplify(retype(graph, float_dtype(graph), dtype))
    if model.stored is not None and model.weights is None:
        graph = narrow_weights(graph, model.stored)
    quantized = _quantize(model, graph, options, policy)
    if quantized is not None:
        graph = simplify(quantized.result.graph)
        model = _with_weights(model, quantized.result.weights)
    return replace(model, dtype=dtype), graph, quantized


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
