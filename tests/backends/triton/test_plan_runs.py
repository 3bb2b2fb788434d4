"""Whole prefill halves as launches equal the IR's own meaning, prompt by prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hetc.backends.triton.check import check_plan
from hetc.ir.interpret import interpret
from tests.backends.triton.halves import Half, half
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.run_plan import Ran, StateShape, run_plan
from tests.driver.models import FAMILIES, VOCABULARY

Array = np.ndarray[Any, np.dtype[Any]]
LENGTHS = (11, 3, 21)
# What the kernels have no form of, by the codes of the reasons.
REFUSED = {
    "lfm2": {"HETC-E050", "HETC-E056"},
    "deepseek_v3": {"HETC-E050", "HETC-E056"},
}


def prompts() -> list[list[int]]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(3, VOCABULARY, length).tolist() for length in LENGTHS]


def expected(made: Half, prompt: list[int]) -> list[Array]:
    """The logits [vocab] and the states of one prompt."""
    weights = made.planned.lowered.weights
    logits, *states = interpret(made.graph, [np.array([prompt], np.int64)], weights)
    return [wide(logits[0, 0]), *map(wide, states)]


def wide(x: Array) -> Array:
    return x.astype(np.float32)


def found(made: Half, ran: Ran, sequence: int) -> list[Array]:
    """The same of what ran."""
    states = []
    for spec in made.planned.program.states:
        *before, _, width = spec.type.shape
        heads = before[1] if len(before) == 2 else 1
        assert isinstance(heads, int)
        assert isinstance(width, int)
        shape = StateShape(heads, width, spec.keep)
        states.append(wide(ran.state(spec.name, shape, LENGTHS, sequence)))
    return [ran.logits[sequence], *states]


def distance(x: Array, y: Array) -> float:
    """The largest difference, of the largest number of `y`."""
    return float(np.abs(x.reshape(y.shape) - y).max() / np.abs(y).max())


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in REFUSED])
def test_a_half_is_computed_for_ragged_prompts(interpreter: Interpreter, family: str) -> None:
    assert_computed(interpreter, half(family))


@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_groups_of_integers_are_computed(
    interpreter: Interpreter, family: str, quantize: str
) -> None:
    made = half(family, quantize=quantize)
    stored = {weight.element for weight in made.plan().weights}
    assert stored & {"i8", "u8"}
    assert_computed(interpreter, made)


def assert_computed(interpreter: Interpreter, made: Half) -> None:
    assert made.lowered.reasons == ()
    plan = made.plan()
    assert check_plan(plan, made.states) == []
    weights = made.planned.lowered.weights
    ran = run_plan(interpreter, plan, made.lowered.kernels, prompts(), weights)
    for sequence, prompt in enumerate(prompts()):
        for ours, theirs in zip(found(made, ran, sequence), expected(made, prompt), strict=True):
            assert distance(ours, theirs) < 1e-4


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_bfloat16_is_as_near_to_exact_as_the_ir(interpreter: Interpreter, family: str) -> None:
    made, exact = half(family, "bf16"), half(family, "fp32")
    plan = made.plan()
    assert check_plan(plan, made.states) == []
    weights = made.planned.lowered.weights
    ran = run_plan(interpreter, plan, made.lowered.kernels, prompts(), weights)
    for sequence, prompt in enumerate(prompts()):
        ours = distance(found(made, ran, sequence)[0], expected(exact, prompt)[0])
        theirs = distance(expected(made, prompt)[0], expected(exact, prompt)[0])
        assert ours < 2 * theirs + 0.01


@pytest.mark.parametrize("family", REFUSED)
def test_what_no_kernel_computes_is_told(family: str) -> None:
    lowered = half(family).lowered
    assert {reason.code for reason in lowered.reasons} == REFUSED[family]
    assert all(reason.at for reason in lowered.reasons)


def test_equal_layers_share_their_kernels() -> None:
    llama, deeper = half("llama").lowered, half("gemma3_text").lowered
    assert len(llama.kernels) < len(llama.launches)
    # Three layers of two kinds.
    attentions = {x.kernel for x in deeper.launches if x.kernel.startswith("attention")}
    assert len(attentions) == 2
