"""The compile-time self-check: the derived halves against the source, and the future against the
past, on small inputs.

It runs in f32 whatever the type of the weights: it checks the derivation, not the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hetc.errors import CheckFailed
from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, Array
from hetc.passes.check_declared import check_declared
from hetc.passes.declared_ops import declared_ops
from hetc.passes.retype import float_dtype, retype
from hetc.passes.room_to_run import require_room
from hetc.passes.whole_weights import whole_weights

PREFILL_TOKENS = 8
DECODE_TOKENS = 4
# Of the logits' scale: two orders of the same f32 arithmetic.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Checked:
    """The tokens that were run, the logits they gave (f32), and the largest difference from
    `forward`, absolute."""

    tokens: Array
    prefill_logits: Array
    decode_logits: Array
    max_abs_error: float

    @property
    def prefill_tokens(self) -> int:
        """How many of the tokens were prefilled; the others were decoded one by one."""
        return int(self.tokens.shape[1]) - len(self.decode_logits)


def self_check(program: Program, weights: WeightLookup, vocabulary: int) -> Checked:
    """Run `prefill` on 8 tokens and `decode` on 4 more, one by one, and compare with `forward`.

    Then change the last 4 tokens and require that `forward` gives the same logits before them.
    `weights` may have any float type. Raises CheckFailed: HETC-V001 (the halves are wrong),
    HETC-V002 (the model is not causal), HETC-V003 (it mixes the sequences of a batch), HETC-V004
    (an op that was declared token-wise is not), HETC-V006 (the memory does not suffice), HETC-V007
    (its own logits are no numbers).
    """
    program, weights = _with_whole_weights(in_f32(program), weights)
    types = {
        op.name: op.type.dtype.numpy
        for graph in (program.forward, program.prefill, program.decode)
        for op in graph.ops
        if isinstance(op, Weight)
    }

    def lookup(name: str) -> Array:
        return weights(name).astype(types[name], copy=False)

    total = min(PREFILL_TOKENS + DECODE_TOKENS, program.max_context)
    split = max(1, total - DECODE_TOKENS)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (1, total))
    other = tokens.copy()
    other[:, split:] = (other[:, split:] + 1) % vocabulary
    require_room(program.forward, {"B": 2, "S": total})
    # Both sequences in one batch: the weights are read once.
    both = _forward(program.forward, np.concatenate([tokens, other]), split, lookup)
    forward = both[:1]
    _require_finite(program.name, forward)
    tolerance = TOLERANCE * max(1.0, float(np.max(np.abs(forward))))
    prefill, decode = _derived(program, tokens, split, lookup)
    derived = np.concatenate([prefill, decode])
    error = _difference(derived, forward, split)
    if not error <= tolerance:
        (alone,) = interpret(program.forward, (tokens,), lookup)
        raise _wrong(program.name, error, tolerance, _difference(derived, alone, split))
    moved = float(np.max(np.abs(both[1:, :split] - forward[:, :split])))
    if not moved <= tolerance:
        raise CheckFailed(
            "HETC-V002",
            "the model is not causal: changing later tokens changes earlier logits",
            at=program.name,
            found=f"a difference of {moved:.1e} before the change",
            do="export a causal form of the model, or report it if it is one",
        )
    return Checked(tokens, prefill, decode, error)


def _require_finite(name: str, logits: Array) -> None:
    wrong = int(np.count_nonzero(~np.isfinite(logits)))
    if wrong:
        raise CheckFailed(
            "HETC-V007",
            "the model's own logits are no finite numbers, so that nothing can be compared",
            at=name,
            found=f"{wrong} of {logits.size} are infinite or not a number",
            do="check the weights of the model: a file may be damaged, or a float type too narrow",
        )


def _forward(graph: Graph, tokens: Array, split: int, lookup: WeightLookup) -> Array:
    """The logits of `graph`, on the way to which declared ops are held to their declaration."""
    declared = declared_ops(graph)
    watched = [value for op in declared for value in (*op.operands, *op.results)]
    open_graph = replace(graph, outputs=(*graph.outputs, *watched), output_names=())
    logits, *arrays = interpret(open_graph, (tokens,), lookup)
    known, length = dict(zip(watched, arrays, strict=True)), tokens.shape[1]
    # The prompt, the tokens that follow it one by one, and all of those at once.
    spans = [range(split), *(range(i, i + 1) for i in range(split, length)), range(split, length)]
    for op in declared:
        check_declared(op, known, [span for span in spans if span], TOLERANCE)
    return logits


def _difference(derived: Array, forward: Array, split: int) -> float:
    """Between the derived rows and those of `forward` that they stand for."""
    return float(np.max(np.abs(derived - forward[0, split - 1 : split - 1 + len(derived)])))


def _wrong(name: str, error: float, tolerance: float, error_alone: float) -> CheckFailed:
    if error_alone <= tolerance:
        return CheckFailed(
            "HETC-V003",
            "the model mixes the sequences of a batch: another row changes this one's logits",
            at=name,
            found=f"a difference of {error:.1e} beside another sequence",
            do="remove the operation that runs over the batch",
        )
    return CheckFailed(
        "HETC-V001",
        "the derived halves do not compute what the model computes",
        at=name,
        expected=f"at most {tolerance:.1e} between prefill + decode and forward",
        found=f"{error:.1e}",
        do="report this model: it is a bug in hetc",
    )


def _derived(
    program: Program, tokens: Array, split: int, lookup: WeightLookup
) -> tuple[Array, Array]:
    """The last row of prefill's logits, and decode's rows."""
    first, *state = interpret(program.prefill, (tokens[:, :split],), lookup)
    rows = []
    for position in range(split, tokens.shape[1]):
        past = np.asarray(position, np.int64)
        step = (tokens[:, position : position + 1], past, *state)
        logits, *state = interpret(program.decode, step, lookup, {"P": position})
        rows.append(logits[:, -1])
    prefill = first[:, -1]
    return prefill, np.concatenate(rows) if rows else np.zeros((0, prefill.shape[-1]), np.float32)


def _with_whole_weights(program: Program, weights: WeightLookup) -> tuple[Program, WeightLookup]:
    """`program` without the ops that dequantize its weights: each graph would run them anew."""
    forward, whole = whole_weights(program.forward, weights)
    prefill, decode = (whole_weights(g, weights)[0] for g in (program.prefill, program.decode))
    return replace(program, forward=forward, prefill=prefill, decode=decode), whole


def in_f32(program: Program) -> Program:
    """`program` with f32 in place of its narrower float types."""
    old = float_dtype(program.forward)

    def widened(graph: Graph) -> Graph:
        return retype(graph, old, F32)

    return replace(
        program,
        forward=widened(program.forward),
        prefill=widened(program.prefill),
        decode=widened(program.decode),
    )
