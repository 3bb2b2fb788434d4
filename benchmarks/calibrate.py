"""Fit the constants of a calibration, and test them on runs that they were not fitted to.

A framework has at most two constants a chip. They are searched within the ranges that the target
file states for them, by the simplex of Nelder and Mead (1965), for the least mean absolute
percentage error. What is printed is put into the target file by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from scipy.optimize import minimize

from benchmarks.measurements import Run
from hetc.targets import Target, load

# What each framework's constants are: one of its launches, and one of the work that it does worst.
FITTED = {
    "tensorrt-llm": ("launch_us", "head_bandwidth"),
    "sambaflow": ("section_launch_us", "gemm_fraction"),
    "tt-transformers": ("step_us", "gemm_fraction"),
}
# Of so few runs each is left out in turn.
_FEW = 15
Constants = dict[str, float]
Timed = Callable[[Run, Target], float]


_machine = cache(load)


def with_constants(target: Target, constants: Constants) -> Target:
    """The machine with some constants changed."""
    known = target.device.constants
    changed = {name: replace(known[name], value=value) for name, value in constants.items()}
    return replace(target, device=replace(target.device, constants={**known, **changed}))


def error(runs: Sequence[Run], constants: Constants, timed: Timed) -> float:
    """Mean absolute percentage error with these constants."""
    errors = (
        abs(timed(run, with_constants(_machine(run.target), constants)) / run.seconds - 1)
        for run in runs
    )
    return 100 * sum(errors) / len(runs)


def fit(runs: Sequence[Run], timed: Timed) -> Constants:
    """The constants that predict `runs`, of one chip and framework, best."""
    first = runs[0]
    known = _machine(first.target).device.constants
    names = FITTED[first.framework]
    start = [math.log(known[name].value) for name in names]
    bounds = [known[name].range or (known[name].value,) * 2 for name in names]
    found = minimize(
        lambda point: error(runs, dict(zip(names, map(math.exp, point), strict=True)), timed),
        start,
        method="Nelder-Mead",
        bounds=[(math.log(max(low, 1e-3)), math.log(high)) for low, high in bounds],
        options={"xatol": 5e-3, "fatol": 1e-3, "maxiter": 60, "initial_simplex": _simplex(start)},
    )
    return dict(zip(names, map(math.exp, found.x), strict=True))


def _simplex(start: list[float]) -> list[list[float]]:
    """The start, and a point a quarter away along each constant."""
    return [start] + [
        [value + 0.25 * (place == moved) for place, value in enumerate(start)]
        for moved in range(len(start))
    ]


def fits(runs: Sequence[Run], timed: Timed) -> Iterator[str]:
    """Lines of a table: constants of every chip, fitted to all its runs and to parts of them."""
    yield "| chip | fitted to | runs | constants | its own error % | tested on | runs | error % |"
    yield "|---|---|---:|---|---:|---|---:|---:|"
    for chip in dict.fromkeys(run.chip for run in runs):
        ours = [run for run in runs if run.chip == chip]
        yield _line(chip, "all", ours, [], timed)
        for name, part in _parts(ours).items():
            rest = [run for run in ours if run not in part]
            if rest:
                yield _line(chip, name, part, rest, timed)
        if len(ours) <= _FEW:
            found = _left_out(ours, timed)
            count = len(ours)
            yield f"| {chip} | all but one | {count - 1} | | | each | {count} | {found:.1f} |"


def _left_out(runs: Sequence[Run], timed: Timed) -> float:
    """Mean error of each run with the constants that were fitted to all the others."""
    errors = []
    for run in runs:
        constants = fit([other for other in runs if other is not run], timed)
        errors.append(error([run], constants, timed))
    return sum(errors) / len(errors)


def _parts(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each model; of a chip with one model, those of short and of long contexts."""
    models = dict.fromkeys(run.model for run in runs)
    if len(models) > 1:
        return {model: [run for run in runs if run.model == model] for model in models}
    short = [run for run in runs if run.prompt_tokens < 1024]
    return {"below 1024": short, "from 1024 on": [run for run in runs if run not in short]}


def _line(chip: str, name: str, part: Sequence[Run], rest: Sequence[Run], timed: Timed) -> str:
    constants = fit(part, timed)
    own = error(part, constants, timed)
    text = ", ".join(f"{key} {value:.3g}" for key, value in constants.items())
    tested = f"the rest | {len(rest)} | {error(rest, constants, timed):.1f}" if rest else " | | "
    return f"| {chip} | {name} | {len(part)} | {text} | {own:.1f} | {tested} |"
