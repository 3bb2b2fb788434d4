"""Golden tests of passes: text in, text out, in `golden/PASS/CASE.hetc-test`.

A file begins with the command (`# hetc opt -p lift-norms`), then comes the graph, `# expect`, and
what the command prints. `pytest --update-golden` rewrites what stands after `# expect`. Beside the
text, the numbers must be the same before and after.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hetc.errors import HetcError
from hetc.ir.dims import evaluate
from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.text import parse, print_graph, print_program
from hetc.ir.types import BF16, BOOL, F16, Array
from hetc.passes.manager import PassOptions, run_passes
from hetc.passes.registry import load_pipeline
from tests.golden import Golden
from tests.passes.blocks import random_weights

FOLDER = Path(__file__).parent / "golden"
EXPECT = "# expect\n"
LENGTH = 7


def cases(name: str) -> list[str]:
    """The cases in `golden/name`."""
    found = sorted(path.stem for path in (FOLDER / name).glob("*.hetc-test"))
    assert found, f"no cases of {name}"
    return found


def check(name: str, case: str, golden: Golden) -> None:
    """Run one case; fail on another text or other numbers than before."""
    file = f"{name}/{case}.hetc-test"
    before = (FOLDER / file).read_text(encoding="utf-8").partition(EXPECT)[0]
    command = before.splitlines()[0].removeprefix("# hetc opt ")
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", required=True)
    parser.add_argument("--context", type=int, default=4096)
    given = parser.parse_args(shlex.split(command))
    graph = parse(before)
    options = PassOptions(random_weights(graph), given.context)
    try:
        result = run_passes(load_pipeline(given.p), graph, options)
    except HetcError as error:
        golden(file, before + EXPECT + error.render())
        return
    if isinstance(result, Program):
        golden(file, before + EXPECT + print_program(result))
        assert_decodes(result, graph)
    else:
        golden(file, before + EXPECT + print_graph(result))
        assert_same_results(graph, result)


def assert_same_results(before: Graph, after: Graph) -> None:
    """Both graphs give the same outputs on random inputs."""
    bindings = {"B": 2, "S": LENGTH, "R": 5}
    inputs = [random_input(value, bindings, seed) for seed, value in enumerate(before.inputs)]
    weights = random_weights(before)
    expected = interpret(before, inputs, weights, bindings)
    found = interpret(after, inputs, weights, bindings)
    assert [value.type for value in after.outputs] == [value.type for value in before.outputs]
    for value, a, b in zip(before.outputs, expected, found, strict=True):
        assert_close(a, b, 2e-2 if value.dtype in (BF16, F16) else 2e-5)


def assert_decodes(program: Program, forward: Graph, chunks: Iterable[int] = (1, 2, 3)) -> None:
    """Prefill and then decode, in chunks of each of the sizes, give the logits of `forward`."""
    (tokens,) = (random_input(value, {"B": 2, "S": 11}, 0) for value in forward.inputs)
    weights = random_weights(forward)
    (expected,) = interpret(forward, [tokens], weights)
    for size in chunks:
        for start in (1, 4):
            last, *states = interpret(program.prefill, [tokens[:, :start]], weights)
            assert_close(expected[:, start - 1 : start], last, 2e-5)
            while start < tokens.shape[1]:
                new = tokens[:, start : start + size]
                inputs = [new, np.array(start, np.int64), *states]
                sizes = {"P": start, "T": new.shape[1]}
                logits, *states = interpret(program.decode, inputs, weights, sizes)
                assert_close(expected[:, start : start + size], logits, 2e-5)
                start += size


def assert_close(expected: Array, found: Array, tolerance: float) -> None:
    a, b = (np.asarray(x, dtype=np.float64) for x in (expected, found))
    np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * max(1.0, float(np.abs(a).max())))


def random_input(value: Value, bindings: dict[str, int], seed: int) -> Array:
    """An array for a graph input; integers are small, so that they can be ids."""
    rng = np.random.default_rng(seed)
    shape = tuple(evaluate(dim, bindings) for dim in value.shape)
    if value.dtype is BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if value.dtype.is_int:
        return rng.integers(0, 4, shape).astype(value.dtype.numpy)
    return rng.normal(0, 1, shape).astype(value.dtype.numpy)
