"""The compile-time self-check: the derived halves against the source, and the future against the
past, on small inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.errors import CheckFailed
from hetc.ir.graph import Program
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.types import Array

PREFILL_TOKENS = 8
DECODE_TOKENS = 4


@dataclass(frozen=True)
class Checked:
    """The tokens that were run, the logits they gave (f32), and the largest difference from
    `forward`."""

    tokens: Array
    prefill_logits: Array
    decode_logits: Array
    max_abs_error: float


def self_check(program: Program, weights: WeightLookup, vocabulary: int) -> Checked:
    """Run `prefill` on 8 tokens and `decode` on 4 more, one by one, and compare with `forward` on
    all 12.

    Then change the last 4 tokens and require that `forward` gives the same logits before them. The
    tolerance is 1e-4 of the logits' scale in f32, and what a dtype of fewer bits can hold
    otherwise. Raises CheckFailed (HETC-V001, HETC-V002).
    """
    total = min(PREFILL_TOKENS + DECODE_TOKENS, program.max_context)
    split = max(1, total - DECODE_TOKENS)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (1, total))
    forward = run_forward(program, tokens, weights)
    tolerance = tolerance_of(program, forward)
    first, *state = interpret(program.prefill, (tokens[:, :split],), weights)
    rows = []
    for position in range(split, total):
        past = np.asarray(position, np.int64)
        step = (tokens[:, position : position + 1], past, *state)
        logits, *state = interpret(program.decode, step, weights, {"P": position})
        rows.append(logits[:, -1].astype(np.float32))
    prefill = first[:, -1].astype(np.float32)
    decode = np.concatenate(rows) if rows else np.zeros((0, prefill.shape[-1]), np.float32)
    derived = np.concatenate([prefill, decode])
    error = float(np.max(np.abs(derived - forward[0, split - 1 : split - 1 + len(derived)])))
    if not error <= tolerance:
        raise CheckFailed(
            "HETC-V001",
            "the derived halves do not compute what the model computes",
            at=program.name,
            expected=f"at most {tolerance:.1e} between prefill + decode and forward",
            found=f"{error:.1e}",
            do="report this model: it is a bug in hetc",
        )
    other = tokens.copy()
    other[:, split:] = (other[:, split:] + 1) % vocabulary
    moved = float(
        np.max(np.abs(run_forward(program, other, weights)[:, :split] - forward[:, :split]))
    )
    if not moved <= tolerance:
        raise CheckFailed(
            "HETC-V002",
            "the model is not causal: changing later tokens changes earlier logits",
            at=program.name,
            found=f"a difference of {moved:.1e} before the change",
            do="compile it as one phase with --single-phase, or report this model if it is causal",
        )
    return Checked(tokens, prefill, decode, error)


def run_forward(program: Program, tokens: Array, weights: WeightLookup) -> Array:
    """Logits f32 [B,S,V] of the stateless source."""
    return interpret(program.forward, (tokens,), weights)[0].astype(np.float32)


def tolerance_of(program: Program, logits: Array) -> float:
    """How far two ways to compute the same logits may differ: rounding of the activations' type at
    the logits' scale."""
    bits = program.forward.outputs[0].dtype.bits
    relative = 1e-4 if bits >= 32 else 5e-2
    return relative * max(1.0, float(np.max(np.abs(logits))))
