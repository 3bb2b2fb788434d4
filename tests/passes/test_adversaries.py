"""What hetc derives is what the model computes, and what it cannot derive it refuses.

The compile-time self-check takes no part: it must not be what finds a wrong derivation.
"""

from __future__ import annotations

import numpy as np
import pytest

from hetc.errors import StateError
from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import interpret
from hetc.passes.prove_causal import prove_causal
from hetc.passes.scan_sums import scan_sums
from hetc.passes.synthesize_state import synthesize_state
from tests.passes.adversaries import CONTEXT, EXACT, REFUSED, VOCABULARY, model
from tests.passes.blocks import random_weights
from tests.passes.harness import assert_close


def derived(forward: Graph) -> Program:
    weights = random_weights(forward)
    proven = prove_causal(forward, weights, CONTEXT).graph
    return synthesize_state(scan_sums(proven), weights, CONTEXT)


@pytest.mark.parametrize("name", EXACT)
def test_what_is_odd_but_causal_is_exact(name: str) -> None:
    forward = model(EXACT[name])
    program, weights = derived(forward), random_weights(forward)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 16))
    (expected,) = interpret(forward, [tokens], weights)
    for rows in (1, 2):
        for start in (1, 2, 3, 7):
            for size in (1, 2, 3, 4):
                ids, wanted = tokens[:rows], expected[:rows]
                logits, *states = interpret(program.prefill, [ids[:, :start]], weights)
                assert_close(wanted[:, start - 1 : start], logits, 2e-5)
                for past in range(start, 16, size):
                    new = ids[:, past : past + size]
                    inputs = [new, np.array(past, np.int64), *states]
                    sizes = {"P": past, "T": new.shape[1]}
                    logits, *states = interpret(program.decode, inputs, weights, sizes)
                    assert_close(wanted[:, past : past + size], logits, 2e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_tokens_is_refused(name: str) -> None:
    code, mixer = REFUSED[name]
    with pytest.raises(StateError) as caught:
        derived(model(mixer))
    assert caught.value.code == code


def test_a_window_beside_chunks_keeps_every_key() -> None:
    program = derived(model(EXACT["window_and_chunks"]))
    assert {str(spec.type.shape[2]) for spec in program.states} == {"P"}


def test_keys_of_positions_are_not_kept() -> None:
    assert not derived(model(EXACT["keys_and_values_of_positions"])).states
