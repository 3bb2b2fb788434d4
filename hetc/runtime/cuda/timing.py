"""How long launches take on the GPU, and which configuration of a kernel is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.launches import Launch
from hetc.runtime.cuda.calls import Call, Calls
from hetc.runtime.cuda.device import releasing
from hetc.runtime.cuda.prefill import Prefill
from hetc.runtime.cuda.sizes import Sizes

_WARM_UP, _REPEATS = 2, 6
# Enough launches behind each other that the time between two events is not that of the events.
_BATCH_MS = 2.0
_MOST_LAUNCHES = 200


@dataclass(frozen=True)
class LaunchTime:
    """One launch of a plan: its number, kernel, operations, milliseconds and FLOP."""

    number: int
    kernel: str
    ops: tuple[str, ...]
    milliseconds: float
    flops: int


@dataclass(frozen=True)
class ConfigTime:
    """A kernel on `rows` rows in the configuration number `config`; `chosen` without tuning."""

    kernel: str
    rows: int
    config: int
    milliseconds: float
    chosen: bool


def time_launches(prefill: Prefill, tokens: NDArray[np.int64]) -> tuple[LaunchTime, ...]:
    """Every launch of a prefill of `tokens` [B, S] by itself, with the other launches in between.

    The median of several runs.
    """
    plan, device, driver = prefill.plan, prefill.device, prefill.device.driver
    with _started(prefill, tokens) as calls, _events(prefill, len(plan.launches) + 1) as events:
        times = []
        for run in range(_WARM_UP + _REPEATS):
            driver.record(events[0], device.compute)
            for index in range(len(plan.launches)):
                calls.make(index, index, driver, device.compute)
                driver.record(events[index + 1], device.compute)
            driver.synchronize(device.compute)
            pairs = pairwise(events)
            if run >= _WARM_UP:
                times.append([driver.elapsed_ms(start, end) for start, end in pairs])
        medians = np.median(np.asarray(times), axis=0)
    return tuple(
        LaunchTime(
            index,
            launch.kernel,
            launch.ops,
            float(medians[index]),
            calls.layout.sizes(launch.flops, at=f"launches[{index}]"),
        )
        for index, launch in enumerate(plan.launches)
    )


def time_configs(
    prefill: Prefill, tokens: NDArray[np.int64], step: Callable[[str], None]
) -> tuple[ConfigTime, ...]:
    """Every configuration that was built of the kernels of a prefill of `tokens` [B, S].

    A launch is timed in its place, where its operands hold what they should, and what it wrote is
    put back afterwards. Kernels that cannot be launched twice are left out: what they write are
    numbers of tokens or experts, or sums in memory that began as zeros.
    """
    plan, device, driver = prefill.plan, prefill.device, prefill.device.driver
    seen: set[tuple[str, int]] = set()
    found: list[ConfigTime] = []
    built = prefill.kernels.built
    with _started(prefill, tokens) as calls:
        for index, launch in enumerate(plan.launches):
            configs = sorted(built[launch.kernel])
            rows = calls.rows[index]
            new = (launch.kernel, rows) not in seen
            if new and len(configs) > 1 and _repeatable(prefill, launch):
                seen.add((launch.kernel, rows))
                step(f"{launch.kernel} on {rows:,} rows")
                chosen = prefill.kernels.choose(launch.kernel, rows).build.config
                made = [prefill.caller.in_config(calls, index, config) for config in configs]
                with _kept(prefill, launch, calls):
                    times = _times(prefill, made)
                for config, took in zip(configs, times, strict=True):
                    own = config == chosen
                    found.append(ConfigTime(launch.kernel, rows, config, took, own))
            calls.make(index, index, driver, device.compute)
    return tuple(found)


@contextmanager
def _started(prefill: Prefill, tokens: NDArray[np.int64]) -> Iterator[Calls]:
    """The calls of a prefill whose inputs are there; all work is done at the end."""
    device = prefill.device
    with device.current(), releasing(lambda: [] if device.driver.lost else [device.synchronize]):
        calls = prefill.calls(Sizes(*map(int, tokens.shape)))
        prefill.send_inputs(calls, tokens)
        yield calls


@contextmanager
def _events(prefill: Prefill, count: int) -> Iterator[list[int]]:
    driver = prefill.device.driver
    made: list[int] = []
    with releasing(lambda: [partial(driver.destroy_event, event) for event in made]):
        made.extend(driver.event(timing=True) for _ in range(count))
        yield made


@contextmanager
def _kept(prefill: Prefill, launch: Launch, calls: Calls) -> Iterator[None]:
    """What a launch writes is put back at the end."""
    device, driver = prefill.device, prefill.device.driver
    spans = [calls.span(name) for name in launch.writes]
    copies: list[int] = []
    with releasing(lambda: [device.synchronize, *(partial(driver.free, c) for c in copies)]):
        for span in spans:
            copies.append(driver.allocate(max(span.size, 1)))
            driver.copy(copies[-1], span.start, span.size, device.compute)
        yield
        for copy, span in zip(copies, spans, strict=True):
            driver.copy(span.start, copy, span.size, device.compute)


def _repeatable(prefill: Prefill, launch: Launch) -> bool:
    written = [buffer for buffer in prefill.plan.buffers if buffer.name in launch.writes]
    return not any(b.zeroed or b.element.startswith(("i", "u", "bool")) for b in written)


def _times(prefill: Prefill, calls: list[Call]) -> list[float]:
    """Milliseconds of one launch of each call, the median of several batches of them.

    All calls take turns, forth and back: a GPU that was idle is faster at first, until it is warm
    or at the limit of its power.
    """
    device, driver = prefill.device, prefill.device.driver
    with _events(prefill, 2) as (start, end):

        def batch(call: Call, count: int) -> float:
            driver.record(start, device.compute)
            for _ in range(count):
                call.launch(driver, device.compute)
            driver.record(end, device.compute)
            driver.synchronize(device.compute)
            return driver.elapsed_ms(start, end) / count

        counts = []
        for call in calls:
            batch(call, 1)
            once = batch(call, 1)
            counts.append(min(max(int(_BATCH_MS / max(once, 1e-6)), 1), _MOST_LAUNCHES))
        turns = list(enumerate(zip(calls, counts, strict=True)))
        found: list[list[float]] = [[] for _ in calls]
        for turn in range(_REPEATS):
            for number, (call, count) in turns[:: -1 if turn % 2 else 1]:
                found[number].append(batch(call, count))
    return [float(np.median(own)) for own in found]
