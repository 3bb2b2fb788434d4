"""Predict a request: the time model of the cut, summed over prefill and over the new tokens.

All times are estimated seconds. Nothing here is a model of its own: `op_times` says what an op
takes, this file adds up, and says of every second which effect takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hetc.passes.op_times import execution_us, op_times
from hetc.passes.precision import Item
from hetc.passes.workload import Phase, Workload
from hetc.targets import Target

# Stretches of the new tokens whose middles stand for them. Times are affine in the context, but
# where a window fills up or a limit changes.
_STRETCHES = 4


@dataclass(frozen=True)
class Effects:
    """Seconds by what takes them; the parts add up to the whole.

    `compute_s` is what arithmetic takes beyond the memory time that it hides behind. `sequence_s`
    is the price of a batch beyond its bytes and flops, `step_s` what the host takes an execution.
    """

    weights_s: float = 0.0
    state_s: float = 0.0
    activations_s: float = 0.0
    compute_s: float = 0.0
    launch_s: float = 0.0
    sequence_s: float = 0.0
    all_reduce_s: float = 0.0
    step_s: float = 0.0

    @property
    def total_s(self) -> float:
        return float(sum(vars(self).values()))

    def __add__(self, other: Effects) -> Effects:
        parts = zip(vars(self).values(), vars(other).values(), strict=True)
        return Effects(*(a + b for a, b in parts))

    def scaled(self, factor: float) -> Effects:
        return Effects(*(factor * part for part in vars(self).values()))

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Name and seconds of every effect."""
        for name, seconds in vars(self).items():
            yield name.removesuffix("_s").replace("_", "-"), seconds


@dataclass(frozen=True)
class PhaseTime:
    """One execution of a phase, the mean of all of them.

    `ideal_compute_s` and `ideal_memory_s` are what its flops, and its weights and state, take at
    the rates of the data sheet.
    """

    effects: Effects
    ideal_compute_s: float
    ideal_memory_s: float

    @property
    def seconds(self) -> float:
        return self.effects.total_s

    @property
    def mfu(self) -> float:
        """Model FLOP utilization: part of the peak rate (Chowdhery et al. 2022, appendix B)."""
        return self.ideal_compute_s / self.seconds

    @property
    def mbu(self) -> float:
        """Model bandwidth utilization: part of the peak bandwidth that weights and state take."""
        return self.ideal_memory_s / self.seconds


def predict_phase(
    items: Iterable[Item], phase: Phase, workload: Workload, target: Target
) -> PhaseTime:
    """The mean execution of `phase` on `target`: the prompt, or one of the new tokens."""
    sizes = _sizes(phase, workload)
    effects, compute, memory = Effects(step_s=execution_us(target) * 1e-6), 0.0, 0.0
    for item in items:
        for bindings in sizes:
            share = item.count / len(sizes)
            amounts = item.work.at(bindings)
            amounts = replace(
                amounts,
                weight_bytes=amounts.weight_bytes * item.weight_ratio,
                state_bytes=amounts.state_bytes * item.state_ratio,
            )
            times = op_times(item.work, amounts, target)
            effects += Effects(
                times.weights_s,
                times.state_s,
                times.activations_s,
                times.exposed_compute_s,
                times.launch_s,
                times.sequence_s,
                times.link_s,
            ).scaled(share)
            dtype = item.work.dtype if item.work.matrix else "f32"
            compute += share * amounts.flops / target.peak_rate(dtype)
            if not item.work.fused:
                read = amounts.weight_bytes + amounts.state_bytes
                memory += share * read / target.peak_bandwidth()
    return PhaseTime(effects, compute, memory)


def _sizes(phase: Phase, workload: Workload) -> list[dict[str, int]]:
    """The sizes of prefill; of decode, those in the middles of equal stretches of the new
    tokens."""
    sizes = workload.bindings(phase)
    if phase == "prefill":
        return [sizes]
    steps = workload.new_tokens
    stretches = min(steps, _STRETCHES)
    middles = (((2 * i + 1) * steps // stretches - 1) // 2 for i in range(stretches))
    return [{**sizes, "P": workload.prompt_tokens + middle} for middle in middles]


@dataclass(frozen=True)
class Prediction:
    """A request of `batch` prompts and `new_tokens` answers each, the first of them prefill's.

    `handoff_s` is the time that state takes over the link, 0 on one device.
    """

    prefill: PhaseTime
    decode: PhaseTime
    batch: int
    new_tokens: int
    handoff_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.prefill.seconds

    @property
    def tpot_s(self) -> float:
        """Time of every token after the first, the mean."""
        return self.decode.seconds

    @property
    def total_s(self) -> float:
        """From the prompt to the last token; a hand-off is waited for."""
        handoff = self.handoff_s if self.new_tokens > 1 else 0.0
        return self.ttft_s + handoff + (self.new_tokens - 1) * self.tpot_s

    @property
    def decode_tokens_per_s(self) -> float:
        """New tokens a second of the whole batch while it decodes."""
        return self.batch / self.tpot_s

    @property
    def mfu(self) -> float:
        """Of prefill."""
        return self.prefill.mfu

    @property
    def mbu(self) -> float:
        """Of decode."""
        return self.decode.mbu

    @property
    def bottleneck(self) -> str:
        """The phase and effect that take the largest part of the total: `decode weights`."""
        parts = {f"prefill {name}": seconds for name, seconds in self.prefill.effects}
        steps = self.new_tokens - 1
        parts |= {f"decode {name}": steps * seconds for name, seconds in self.decode.effects}
        parts["hand-off"] = self.handoff_s if steps else 0.0
        return max(parts, key=lambda name: parts[name])
