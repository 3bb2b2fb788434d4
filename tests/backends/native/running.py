"""Runs a decode graph in the native engine, without a bundle around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np

from hetc.backends.native import NativePlan
from hetc.bundle import OpenBundle
from hetc.bundle.native import WEIGHTS_FILE
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.text import parse
from hetc.ir.types import Array
from hetc.runtime import State
from hetc.runtime.native import NativeOptions
from hetc.runtime.native.engine import Engine, NativeFiles
from hetc.runtime.native.executor import NativeExecutor
from hetc.runtime.native.jit import Compiled

POSITIONS = 96


@dataclass(frozen=True)
class Case:
    """A decode graph and its weights, planned once."""

    graph: Graph
    weights: Mapping[str, Array]
    state_element: Literal["i8"] | None = None
    lossless: bool = True
    compiled: dict[tuple[str, str | None], Compiled] = field(default_factory=dict)

    @cached_property
    def plan(self) -> NativePlan:
        return NativePlan(
            self.graph, POSITIONS, self.weight, self.state_element, lossless=self.lossless
        )

    @cached_property
    def files(self) -> dict[str, bytes]:
        return {**self.plan.files(), WEIGHTS_FILE: b"".join(self.plan.packed(self.weight))}

    @property
    def vocab(self) -> int:
        size = self.graph.outputs[0].shape[-1]
        assert isinstance(size, int)
        return size

    def weight(self, name: str) -> Array:
        return self.weights[name]

    def empty(self, batch: int) -> dict[str, Array]:
        """The states before any token."""
        return {
            value.name: np.zeros(_sizes(value, batch), value.dtype.numpy)
            for value in self.graph.inputs[2:]
        }

    def reference(
        self, tokens: Array, past: int, states: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The logits and the states that the interpreter gives."""
        given = {"tokens": tokens, "past": np.array(past), **states}
        inputs = [given[value.name] for value in self.graph.inputs]
        outputs = interpret(self.graph, inputs, self.weight, {"P": past})
        found = dict(zip(self.graph.output_names, outputs, strict=True))
        logits = found.pop("logits")
        return logits, {name.removesuffix(".out"): array for name, array in found.items()}


def _sizes(value: Value, batch: int) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else batch if str(size) == "B" else 0 for size in value.shape
    )


def case(text: str, seed: int = 0) -> Case:
    """The graph of `text`, with random weights."""
    graph, rng = parse(text), np.random.default_rng(seed)
    weights = {}
    for inner in (*graph.subgraphs(), graph):
        for op in inner.ops:
            if op.kind == "weight":
                shape = tuple(size for size in op.result.shape if isinstance(size, int))
                weights[dict(op.attributes())["name"]] = (
                    rng.normal(0, 0.5, shape).astype(np.float32).astype(op.result.dtype.numpy)
                )
    return Case(graph, weights)


@contextmanager
def executors(
    case: Case,
    folder: Path,
    threads: int,
    variant: str | None = None,
    *,
    active: int | None = None,
) -> Iterator[dict[str, NativeExecutor]]:
    """Both halves, ready to run; the code is compiled once for a case and variant.

    Decode uses `active` of the `threads`, all where None.
    """
    engine = Engine(NativeOptions(threads, variant))
    if active is not None:
        engine._pace = cast(Any, SimpleNamespace(threads=active, took=lambda seconds, rows: None))
    packed = folder / "weights.bin"
    packed.write_bytes(case.files[WEIGHTS_FILE])
    bundle = SimpleNamespace(
        read_bytes=case.files.__getitem__,
        mapped=lambda name: np.memmap(packed, np.uint8, "r"),
        manifest=SimpleNamespace(contract_sha256="", model=SimpleNamespace(vocab=case.vocab)),
    )
    made = {}
    for half in ("prefill", "decode"):
        executor = _Reusing(engine, case)
        executor.prepare(cast(OpenBundle, bundle), cast(Any, half))
        made[half] = executor
    yield cast(Any, made)
    engine.close()


class _Reusing(NativeExecutor):
    """Compiles a case once, however many threads it is then run with."""

    def __init__(self, engine: Engine, case: Case) -> None:
        super().__init__(engine)
        compile = engine.compile

        def known(files: NativeFiles, half: Any) -> Compiled:
            key = (half, engine._options.variant)
            if key not in case.compiled:
                case.compiled[key] = compile(files, half)
            return case.compiled[key]

        engine.compile = known  # type: ignore[method-assign]


def decoding(state: State) -> State:
    """`state` as decode takes it."""
    state.owner = "decode"
    return state


def two_products(element: str, wide: int) -> str:
    """A decode half with two products of one input, one of them `wide`, a bias, K that no group or
    block has (37), and a table that is looked up in as well."""
    return f"""
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,50]) {{
  %0 = weight {{name = "table", type = {element}[50,64]}}
  %1 = embedding %0, %tokens
  %2 = weight {{name = "a", type = {element}[37,64]}}
  %3 = weight {{name = "b", type = {element}[{wide},64]}}
  %4 = weight {{name = "bias", type = {element}[{wide}]}}
  %5 = linear %1, %2
  %6 = linear %1, %3 {{bias = %4}}
  %7 = silu %6
  %8 = weight {{name = "c", type = {element}[64,{wide}]}}
  %9 = linear %7, %8
  %10 = weight {{name = "odd", type = {element}[64,37]}}
  %11 = linear %5, %10
  %12 = add %9, %11
  %13 = linear %12, %0
  %14 = cast %13 {{dtype = f32}}
  return %14
}}"""


def largest_error(
    case: Case, ran: Mapping[str, NativeExecutor], tokens: Array, steps: list[int]
) -> float:
    """The largest difference of logits and states from the interpreter's, for `tokens` [B, S] of
    which the first of `steps` are prefilled and the others decoded so many at a time."""
    states, state, past, worst = case.empty(len(tokens)), None, 0, 0.0
    for count in steps:
        part = tokens[:, past : past + count]
        expected, states = case.reference(part, past, states)
        half = "prefill" if state is None else "decode"
        found, state = ran[half].run(part, None if state is None else decoding(state))
        expected = expected[:, -1:] if half == "prefill" else expected
        past += count
        assert found.shape == expected.shape
        worst = max(worst, float(np.max(np.abs(found - expected.astype(np.float32)))))
        for name, array in states.items():
            kept = state.numpy(name)
            assert kept.shape == array.shape
            assert kept.dtype == array.dtype
            difference = kept.astype(np.float32) - array.astype(np.float32)
            worst = max(worst, float(np.max(np.abs(difference), initial=0)))
    return worst
