"""Predictions against published measurements.

    python -m benchmarks.fidelity                    errors, and what each effect contributes
    python -m benchmarks.fidelity --each             every run as well
    python -m benchmarks.fidelity --ranges           textbook constants at the ends of their ranges
    python -m benchmarks.fidelity --fit              fit the calibrations, and cross-validate
    python -m benchmarks.fidelity --rows FILE --configs DIR     other measurements, other models

*untuned* predictions use data sheets and textbook constants (`[assumption]` of a target file),
*calibrated* ones the constants under `[calibration.FRAMEWORK]`. Each goes through the function
behind `hetc simulate`. Errors are of predicted time, |predicted - measured| / measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from benchmarks.calibrate import fits, with_constants
from benchmarks.measurements import CONFIGS, ROWS, Run, read_runs, repeated
from hetc.driver.simulate import Machine, SimulateOptions, Subject, open_subject, predict
from hetc.passes.predict import Effects, Prediction
from hetc.targets import Target, load, load_link

MODES = ("untuned", "calibrated")
# At most so much mean absolute percentage error, untuned and calibrated.
GOALS = {"GPU": (12.0, 6.0), "SN40L": (18.0, 8.0)}


@dataclass(frozen=True)
class Compared:
    """A run and its prediction."""

    run: Run
    prediction: Prediction

    @property
    def seconds(self) -> float:
        return timed(self.prediction, self.run)

    @property
    def error(self) -> float:
        """Relative and signed: 0.1 is 10 % too slow."""
        return self.seconds / self.run.seconds - 1


def timed(prediction: Prediction, run: Run) -> float:
    """The predicted seconds of what the run measured."""
    return {
        "ttft": prediction.ttft_s,
        "tpot": prediction.tpot_s,
        "total": prediction.total_s,
    }[run.what]


class Bench:
    """Models, each lowered once, and runs predicted on them."""

    def __init__(self, configs: Path = CONFIGS) -> None:
        self._configs = configs
        self._link = load_link("pcie5")
        self._subjects: dict[tuple[str, str], Subject] = {}

    def predict(self, run: Run, target: Target) -> Machine:
        dtype, weights, state = run.formats
        options = SimulateOptions(
            prefill=target.name,
            decode=target.name,
            batch=run.batch,
            prompt_tokens=run.prompt_tokens,
            new_tokens=run.new_tokens,
            weights=weights,
            kv=state,
        )
        subject = self._subject(run.model, dtype)
        return predict(subject, options, (target,), self._link).machines[0]

    def timed(self, run: Run, target: Target) -> float:
        """The predicted seconds of what the run measured."""
        return timed(self.predict(run, target).prediction, run)

    def _subject(self, model: str, dtype: str) -> Subject:
        if (model, dtype) not in self._subjects:
            self._subjects[model, dtype] = open_subject(self._configs / model, dtype)
        return self._subjects[model, dtype]

    def compare(self, runs: Iterable[Run], target_of: Callable[[Run], Target]) -> list[Compared]:
        return [Compared(run, self.predict(run, target_of(run)).prediction) for run in runs]

    def screened(self, run: Run) -> Run:
        """The run, kept apart where it cannot have been: the model does not fit the memory, or it
        beats the data sheet."""
        machine = self.predict(run, untuned(run))
        made = machine.prediction
        steps = run.new_tokens - 1 if run.what == "total" else int(run.what == "tpot")
        ideal = steps * max(made.decode.ideal_memory_s, made.decode.ideal_compute_s)
        ideal += made.prefill.ideal_compute_s if run.what != "tpot" else 0.0
        if run.apart or (machine.fits and ideal <= run.seconds):
            return run
        return run.without(
            "beats the data sheet" if machine.fits else "the model does not fit the memory"
        )


@cache
def _loaded(name: str, framework: str) -> Target:
    target = load(name)
    known = framework in target.device.calibrations
    return target.calibrate(framework) if known else target


def untuned(run: Run) -> Target:
    """The run's machine with data sheets and textbook constants alone."""
    return _loaded(run.target, "")


def calibrated(run: Run) -> Target:
    """The run's machine with the constants fitted to its framework, where there are some."""
    return _loaded(run.target, run.framework)


def both(bench: Bench, runs: Sequence[Run]) -> dict[str, list[Compared]]:
    """Mode -> the runs with its predictions."""
    targets = (untuned, calibrated)
    return {mode: bench.compare(runs, of) for mode, of in zip(MODES, targets, strict=True)}


def mape(compared: Sequence[Compared]) -> float:
    """Mean absolute percentage error."""
    return 100 * sum(abs(item.error) for item in compared) / len(compared)


def group_of(run: Run) -> str:
    """GPU, SN40L or Wormhole."""
    if untuned(run).kind == "gpu":
        return "GPU"
    return {"sn40l": "SN40L"}.get(run.chip, run.chip.capitalize())


def _by(compared: Sequence[Compared], key: Callable[[Run], str]) -> dict[str, list[Compared]]:
    groups: dict[str, list[Compared]] = {}
    for item in compared:
        groups.setdefault(key(item.run), []).append(item)
    return groups


def error_table(results: dict[str, list[Compared]]) -> list[str]:
    """Errors by group, and within it by chip, model and precision."""
    lines = ["| rows | runs | untuned % | goal | calibrated % | goal |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    groups = {mode: _by(results[mode], group_of) for mode in MODES}
    for name in groups["untuned"]:
        goals = GOALS.get(name, (None, None))
        first, second = (mape(groups[mode][name]) for mode in MODES)
        count = len(groups["untuned"][name])
        goal = [f"{value:g}" if value else "" for value in goals]
        lines.append(
            f"| **{name}** | {count} | **{first:.1f}** | {goal[0]} | **{second:.1f}** | {goal[1]} |"
        )
        parts = {mode: _by(groups[mode][name], _part) for mode in MODES}
        for part in parts["untuned"]:
            first, second = (mape(parts[mode][part]) for mode in MODES)
            count = len(parts["untuned"][part])
            lines.append(f"| {part} | {count} | {first:.1f} | | {second:.1f} | |")
    return lines


def _part(run: Run) -> str:
    return f"{run.target} · {run.model} · {run.precision}"


def _without(*names: str) -> Callable[[Target], Target]:
    """A target whose constants lack some."""

    def change(target: Target) -> Target:
        kept = {n: c for n, c in target.device.constants.items() if n not in names}
        return replace(target, device=replace(target.device, constants=kept))

    return change


def _limited(run: Run, *, limit: Callable[[Target], Target]) -> Target:
    return limit(calibrated(run))


# Effects that are seconds of their own: they are taken off.
_PARTS = {
    "state that grows with the context": ("state",),
    "launches of kernels and sections": ("launch",),
    "all-reduce": ("all-reduce",),
    "activations": ("activations",),
    "sequences one after another": ("sequence",),
    "the host's step": ("step",),
}
# Effects that limit others: times are predicted anew without them.
_LIMITS = {
    "tiles and waves": _without("tile_rows"),
    "blocks that stream attention's heads": _without("head_bandwidth"),
    "a block for every query head in small groups": _without("shared_queries"),
}


def effect_table(bench: Bench, results: list[Compared]) -> list[str]:
    """Error of every group when one effect is left out of the calibrated model."""
    groups = _by(results, group_of)
    lines = [f"| left out | {' | '.join(f'{name} %' for name in groups)} |"]
    lines.append("|---|" + "---:|" * len(groups))
    rows = {"nothing": results}
    for title, limit in _LIMITS.items():
        runs = [item.run for item in results]
        rows[title] = bench.compare(runs, partial(_limited, limit=limit))
    errors = {
        title: [mape(found) for found in _by(compared, group_of).values()]
        for title, compared in rows.items()
    }
    for title, names in _PARTS.items():
        errors[title] = [_mape_less(found, names) for found in groups.values()]
    errors["prefill, in times from end to end"] = [
        _mape_less(found, (), prefill=True) for found in groups.values()
    ]
    order = sorted(errors, key=lambda title: (title != "nothing", -errors[title][0]))
    lines += [f"| {t} | {' | '.join(f'{value:.1f}' for value in errors[t])} |" for t in order]
    return lines


def _mape_less(compared: list[Compared], names: Sequence[str], *, prefill: bool = False) -> float:
    errors = []
    for item in compared:
        made = item.prediction
        less = Prediction(
            replace(made.prefill, effects=_less(made.prefill.effects, names)),
            replace(made.decode, effects=_less(made.decode.effects, names)),
            made.batch,
            made.new_tokens,
        )
        seconds = timed(less, item.run)
        if prefill and item.run.what == "total":
            seconds -= made.ttft_s
        errors.append(abs(seconds / item.run.seconds - 1))
    return 100 * sum(errors) / len(errors)


def _less(effects: Effects, names: Sequence[str]) -> Effects:
    return replace(effects, **{f"{name.replace('-', '_')}_s": 0.0 for name in names})


def range_table(bench: Bench, runs: list[Run]) -> list[str]:
    """Untuned errors with each textbook constant at either end of its stated range."""
    groups = _by_group(runs)
    lines = [f"| constant, low · high end of its range | {' | '.join(f'{n} %' for n in groups)} |"]
    lines.append("|---|" + "---:|" * len(groups))
    names = dict.fromkeys(name for run in runs for name in untuned(run).device.constants)
    for name in names:
        cells = []
        for ours in groups.values():
            ends = [
                mape(bench.compare(ours, partial(_at_end, name=name, end=end))) for end in (0, 1)
            ]
            has = any(name in untuned(run).device.constants for run in ours)
            cells.append(f"{ends[0]:.1f} · {ends[1]:.1f}" if has else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _at_end(run: Run, *, name: str, end: int) -> Target:
    target = untuned(run)
    found = target.device.constants.get(name)
    if found is None or found.range is None:
        return target
    return with_constants(target, {name: found.range[end]})


def _by_group(runs: Iterable[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(group_of(run), []).append(run)
    return groups


def run_table(results: dict[str, list[Compared]]) -> list[str]:
    """Every run: what was measured, and both predictions."""
    lines = [
        "| line | target | model | batch | in | out | what | measured | untuned | calibrated |"
    ]
    lines.append("|---:|---|---|---:|---:|---:|---|---:|---:|---:|")
    for first, second in zip(*(results[mode] for mode in MODES), strict=True):
        run = first.run
        lines.append(
            f"| {run.line} | {run.target} | {run.model} | {run.batch} | {run.prompt_tokens}"
            f" | {run.new_tokens} | {run.what} | {run.seconds:.4g} s"
            f" | {first.error:+.1%} | {second.error:+.1%} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--configs", type=Path, default=CONFIGS)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--ranges", action="store_true")
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    start = time.perf_counter()
    bench = Bench(given.configs)
    runs = [bench.screened(run) for run in read_runs(given.rows)]
    used, apart = ([r for r in runs if bool(r.apart) == kept] for kept in (False, True))
    print(f"{len(used)} runs, {repeated(given.rows)} lines that repeat one, {len(apart)} apart\n")
    if given.fit:
        print("\n".join(fits(used, bench.timed)))
        return
    results = both(bench, used)
    print("\n".join([*error_table(results), "", *effect_table(bench, results["calibrated"])]))
    if given.ranges:
        print("\n" + "\n".join(range_table(bench, used)))
    if given.each:
        print("\n" + "\n".join(run_table(results)))
    if apart:
        print("\nApart:")
        for item in bench.compare(apart, untuned):
            print(f"line {item.run.line}: {item.run.apart}; untuned {item.error:+.1%}")
    print(f"\n{time.perf_counter() - start:.0f} s, planning included")


if __name__ == "__main__":
    main()
