"""What a bundle reaches on this machine, beside what the machine can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hetc.bundle.contract import PHASES, Phase
from hetc.bundle.dtypes import BY_NAME
from hetc.driver.load import load, require_phases
from hetc.driver.peak_memory import peak_memory_bytes
from hetc.ir.text import parse
from hetc.passes.cost import PhaseCosts, phase_costs
from hetc.runtime import Bundle, State
from hetc.runtime.handoff import size_of
from hetc.targets.cpu import CPU, read_cpu
from hetc.targets.measure import Measurement, measure

Step = Callable[[str], None]
_WARM_UP = 2
# What every state holds: no zeros, whose pages would all be one page of the memory.
_FILL = 0.01


@dataclass(frozen=True)
class BenchOptions:
    """Prompts and contexts in tokens, sequences at once, and how often each is measured: `repeats`
    of a prompt, `steps` of decode."""

    prompts: tuple[int, ...] = (128, 512, 2048)
    contexts: tuple[int, ...] = (64, 1024, 4096)
    batches: tuple[int, ...] = (1, 4, 16)
    repeats: int = 3
    steps: int = 16


@dataclass(frozen=True)
class Rate:
    """One case: `tokens` (of a prompt, or in the state) for each of `batch` sequences.

    `seconds` is the median of a prompt or a step; `flops` and `nbytes` are nominal: those of the
    graph, weights and state in the types that the bundle stores.
    """

    phase: Phase
    tokens: int
    batch: int
    seconds: float
    flops: float
    nbytes: float

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences: prompt tokens, or new ones."""
        return self.batch * (self.tokens if self.phase == "prefill" else 1) / self.seconds


@dataclass(frozen=True)
class Benched:
    """All of it. `machine` is the median of three measurements, between the cases."""

    name: str
    executors: Mapping[str, str]
    fallbacks: tuple[str, ...]
    cpu: CPU
    machine: Measurement
    load_s: float
    first_token_s: float
    weight_bytes: int
    peak_memory_bytes: int | None
    rates: tuple[Rate, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of `hetc bench BUNDLE --json`."""
        return {
            "name": self.name,
            "executors": dict(self.executors),
            "fallbacks": list(self.fallbacks),
            "machine": {
                "cpu": self.cpu.model,
                "cores": self.cpu.cores,
                "read_bytes_per_s": self.machine.dram_bandwidth,
                "f32_flops_per_s": self.machine.f32_rate,
            },
            "load_s": self.load_s,
            "first_token_s": self.first_token_s,
            "weight_bytes": self.weight_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "rates": [
                {
                    "phase": rate.phase,
                    "tokens": rate.tokens,
                    "batch": rate.batch,
                    "seconds": rate.seconds,
                    "tokens_per_s": rate.tokens_per_s,
                    "mbu": rate.nbytes / rate.seconds / self.machine.dram_bandwidth,
                    "mfu": rate.flops / rate.seconds / self.machine.f32_rate,
                }
                for rate in self.rates
            ],
            "left_out": list(self.left_out),
        }


def bench(
    path: str | Path, options: BenchOptions, step: Step, executor: str | None = None
) -> Benched:
    """Time the bundle at `path`; raises what loading and running it raise."""
    require_phases(path)
    cpu = read_cpu()
    step("measuring this machine")
    measured = [measure(cpu)]
    step("loading")
    start = time.perf_counter()
    with load(path, executor=executor) as bundle:
        loaded = time.perf_counter() - start
        prompt = _tokens(1, min(32, _limit(bundle) - 1), bundle)
        bundle.prefill(prompt)
        first = time.perf_counter() - start
        rates: list[Rate] = []
        left_out: list[str] = []
        costs = _costs(bundle)
        for tokens in _fitting(options.prompts, _limit(bundle), "prompts", left_out):
            step(f"prefill of {tokens:,} tokens")
            rates.append(_prefill(bundle, costs["prefill"], tokens, options.repeats))
        measured.append(measure(cpu))
        room = _limit(bundle) - options.steps - _WARM_UP
        for tokens in _fitting(options.contexts, room, "contexts", left_out):
            for batch in options.batches:
                step(f"decode after {tokens:,} tokens, batch {batch}")
                rates.append(_decode(bundle, costs["decode"], tokens, batch, options.steps))
        measured.append(measure(cpu))
        return Benched(
            name=bundle.manifest.model.name,
            executors=bundle.executors,
            fallbacks=tuple(map(str, bundle.fallbacks)),
            cpu=cpu,
            machine=_median(measured),
            load_s=loaded,
            first_token_s=first,
            weight_bytes=_weight_bytes(bundle),
            peak_memory_bytes=peak_memory_bytes(),
            rates=tuple(rates),
            left_out=tuple(left_out),
        )


def _fitting(wanted: Sequence[int], most: int, what: str, left_out: list[str]) -> Iterator[int]:
    for tokens in wanted:
        if tokens <= most:
            yield tokens
        else:
            left_out.append(f"{what} of {tokens:,} tokens: at most {most:,} fit")


def _limit(bundle: Bundle) -> int:
    return min(bundle.manifest.model.max_context, bundle.contract.max_context)


def _tokens(batch: int, count: int, bundle: Bundle) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Token ids that differ, the same in every run."""
    return np.random.default_rng(0).integers(0, bundle.manifest.model.vocab, (batch, count))


def _prefill(bundle: Bundle, costs: PhaseCosts, tokens: int, repeats: int) -> Rate:
    prompt = _tokens(1, tokens, bundle)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        bundle.prefill(prompt)
        times.append(time.perf_counter() - start)
    # The first run finds nothing in place yet.
    return _rate("prefill", costs, tokens, 1, statistics.median(times[1:]))


def _decode(bundle: Bundle, costs: PhaseCosts, tokens: int, batch: int, steps: int) -> Rate:
    state = _state(bundle, tokens, batch)
    new = _tokens(batch, 1, bundle)
    times = []
    for _ in range(_WARM_UP + steps):
        start = time.perf_counter()
        _, state = bundle.decode(new, state)
        times.append(time.perf_counter() - start)
    return _rate("decode", costs, tokens, batch, statistics.median(times[_WARM_UP:]))


def _state(bundle: Bundle, past: int, batch: int) -> State:
    """A state after `past` tokens that nobody computed: how long a step takes is all the same."""
    sizes = {"B": batch, "P": past}
    tensors = {}
    for spec in bundle.contract.states:
        shape = [size_of(dim, sizes, at=spec.name) for dim in spec.shape]
        tensors[spec.name] = np.full(shape, _FILL, BY_NAME[spec.dtype].numpy)
    return State(bundle.manifest.contract_sha256, past, tensors, owner="decode")


def _costs(bundle: Bundle) -> dict[Phase, PhaseCosts]:
    states = frozenset(bundle.contract.state_names)
    found: dict[Phase, PhaseCosts] = {}
    for phase in PHASES:
        text = bundle.files.read_bytes(bundle.manifest.half(phase).graph).decode()
        found[phase] = phase_costs(parse(text), phase, states)
    return found


def _rate(phase: Phase, costs: PhaseCosts, tokens: int, batch: int, seconds: float) -> Rate:
    prefill = phase == "prefill"
    sizes = {"B": batch, "S": tokens, "T": tokens if prefill else 1, "P": 0 if prefill else tokens}
    done = [cost.work.at(sizes) for cost in costs]
    nbytes = sum(amounts.weight_bytes + amounts.state_bytes for amounts in done)
    return Rate(phase, tokens, batch, seconds, sum(amounts.flops for amounts in done), nbytes)


def _weight_bytes(bundle: Bundle) -> int:
    return sum(bundle.files.weight(name).nbytes for name in bundle.files.weight_names())


def _median(measured: Sequence[Measurement]) -> Measurement:
    """Rate by rate."""
    rates = zip(*map(astuple, measured), strict=True)
    return Measurement(*(statistics.median(rate) for rate in rates))
