"""Where a token's time goes in the native engine: cycles of every stage and barrier, by thread.

    python -m benchmarks.native_profile --context 64 [--quantize int8|int4] [--threads 2]

The decode half is written once more, with code that reads the CPU's cycle counter behind every
stage and every barrier and adds what has passed to a counter of the thread. Times are in
microseconds of one token, all layers together, medians of some tokens; the counter's rate comes
from the same run. `call` is what Python sees of as many tokens without counters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine, smollm2
from hetc.backends.native import NativePlan
from hetc.backends.native.products import Product
from hetc.backends.native.ssa import I64, PTR
from hetc.backends.native.stages import Stage
from hetc.backends.native.writer import Writer
from hetc.bundle import OpenBundle, open_bundle
from hetc.bundle.native import half_file
from hetc.driver import CompileOptions, compile_bundle
from hetc.ir.text import parse
from hetc.runtime.cores import physical_cores
from hetc.runtime.native import NativeOptions, native_executors
from hetc.runtime.native.cpu import cpu_features

TOKENS = 32
_MOST_COUNTERS = 256


@dataclass
class Counters:
    """One counter a thread for everything that is observed, and the cycle of the last look."""

    threads: int
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cells = np.zeros((self.threads, _MOST_COUNTERS), np.int64)

    def taken(self) -> NDArray[np.int64]:
        """The cycles [threads, names] since this was last asked."""
        found = self._cells[:, 1 : len(self.names) + 1].copy()
        self._cells[:] = 0
        return found

    def observe(self, w: Writer, stage: Stage | None) -> None:
        """Write code that adds the cycles since the last look to a new counter."""
        self.names.append(_name(stage))
        e = w.e
        address = e.index(self._cells.ctypes.data)
        base = e.at_entry(
            "counters",
            PTR,
            lambda: e.offset(
                e.op(f"llvm.inttoptr {address.name} : i64 to !llvm.ptr", PTR),
                e.mul(w.unit, e.index(self._cells.strides[0])),
            ),
        )
        e.at_entry("first look", I64, lambda: _stored(w, base))
        now = _cycle(w)
        place = e.offset(base, e.index(8 * len(self.names)))
        passed = e.sub(now, e.load(base, I64))
        e.store(e.add(e.load(place, I64), passed), place)
        e.store(now, base)


def _stored(w: Writer, base: Any) -> Any:
    now = _cycle(w)
    w.e.store(now, base)
    return now


def _cycle(w: Writer) -> Any:
    return w.e.op('llvm.call_intrinsic "llvm.readcyclecounter"() : () -> i64', I64)


def _name(stage: Stage | None) -> str:
    if stage is None:
        return "wait"
    if isinstance(stage, Product):
        return f"Product {stage.matrix.form.inner} x {16 * sum(stage.matrix.tiles)}"
    return type(stage).__name__


@dataclass(frozen=True)
class Replaced:
    """A bundle of which some files are others."""

    files: OpenBundle
    others: Mapping[str, bytes]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def read_bytes(self, name: str) -> bytes:
        return self.others[name] if name in self.others else self.files.read_bytes(name)


def decoded(
    bundle: Replaced, context: int, threads: int, counters: Counters
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Behind a prompt of `context` the seconds [TOKENS] and cycles [TOKENS, threads, names]."""
    make, files = native_executors(NativeOptions(threads)), cast(OpenBundle, bundle)
    prefill, decode = make(), make()
    prefill.prepare(files, "prefill")
    decode.prepare(files, "decode")
    prefill.bind(batch=1, context=context + 2 * TOKENS)
    prompt = np.random.default_rng(0).integers(0, 40000, (1, context))
    logits, state = prefill.run(prompt, None)
    times, cycles = [], []
    for _ in range(2 * TOKENS):
        token = np.array([[int(np.argmax(logits[0, -1]))]])
        state.owner = "decode"
        start = time.perf_counter()
        logits, state = decode.run(token, state)
        times.append(time.perf_counter() - start)
        cycles.append(counters.taken())
    decode.close()
    return np.array(times[TOKENS:]), np.array(cycles[TOKENS:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="SmolLM2 is compiled where none is given")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--quantize", default="none", help="as `hetc compile` takes it")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle
        if bundle is None:
            options = CompileOptions(dtype="bf16", quantize=given.quantize)
            bundle = compile_bundle(smollm2(), Path(folder) / "smollm2", options).path
        profile(bundle, given.context, given.threads)


def profile(path: Path, context: int, threads: int) -> None:
    """Print a line for every stage and barrier of decode."""
    files = open_bundle(path, check="sizes")
    graph = parse((path / "decode" / "graph.hetc").read_text())
    plan = NativePlan(graph, files.manifest.model.max_context, files.weight)
    isa = next(isa for isa in plan.variants if cpu_features().issuperset(isa.needs))
    counters = Counters(threads)
    counted = {half_file("decode", isa.name): plan.text("decode", isa, counters.observe).encode()}
    # The texts are those of the code at hand, the weights the bundle's.
    plain, _ = decoded(Replaced(files, plan.files()), context, threads, counters)
    replaced = Replaced(files, {**plan.files(), **counted})
    seconds, cycles = decoded(replaced, context, threads, counters)
    if not cycles.any():
        raise SystemExit("this CPU has no cycle counter that programs may read")
    # The thread that ends last has counted the whole function.
    rate = np.median(cycles.sum(axis=2).max(axis=1) / seconds)
    call, with_counters = (np.median(times) * 1e6 for times in (plain, seconds))
    print(f"{isa.name} · context {context} · call {call:.0f} us, counted {with_counters:.0f} us")
    each = np.median(cycles, axis=0) / rate * 1e6
    waits = each[:, [name == "wait" for name in counters.names]].sum(axis=1)
    for name, column in zip(counters.names, each.T, strict=True):
        print(f"{name:24}", *(f"{number:9.1f}" for number in column))
    print(f"{'all':24}", *(f"{number:9.1f}" for number in each.sum(axis=1)))
    print(f"{'waits':24}", *(f"{number:9.1f}" for number in waits))
    files.close()


if __name__ == "__main__":
    main()
