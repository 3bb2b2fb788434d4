"""The driver: the rooms of hetc put together, from a model to a running bundle.

Its public names are lazy: who loads a bundle need not wait for the compiler to be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hetc.driver.arrays import check_arrays_path, read_arrays, write_arrays
    from hetc.driver.bench import Benched, BenchOptions, bench
    from hetc.driver.compile import Compiled, compile, compile_bundle
    from hetc.driver.diff import diff_paths
    from hetc.driver.doctor import Finding, doctor
    from hetc.driver.export import export_path
    from hetc.driver.inspect import Inspection, inspect, is_bundle
    from hetc.driver.lint import Linted, holds_plan, lint_path
    from hetc.driver.load import load
    from hetc.driver.looks import Looks
    from hetc.driver.optimize import optimize
    from hetc.driver.options import CompileOptions
    from hetc.driver.plot import plot_path
    from hetc.driver.simulate import Simulated, SimulateOptions, simulate
    from hetc.driver.simulate_plan import SimulatedPlan, simulate_plan
    from hetc.driver.tune import TuneResult, tune
    from hetc.driver.verify import Verification, verify

_NAMES = {
    "hetc.driver.arrays": ("check_arrays_path", "read_arrays", "write_arrays"),
    "hetc.driver.bench": ("BenchOptions", "Benched", "bench"),
    "hetc.driver.compile": ("Compiled", "compile", "compile_bundle"),
    "hetc.driver.diff": ("diff_paths",),
    "hetc.driver.doctor": ("Finding", "doctor"),
    "hetc.driver.export": ("export_path",),
    "hetc.driver.inspect": ("Inspection", "inspect", "is_bundle"),
    "hetc.driver.lint": ("Linted", "holds_plan", "lint_path"),
    "hetc.driver.load": ("load",),
    "hetc.driver.looks": ("Looks",),
    "hetc.driver.optimize": ("optimize",),
    "hetc.driver.options": ("CompileOptions",),
    "hetc.driver.plot": ("plot_path",),
    "hetc.driver.simulate": ("SimulateOptions", "Simulated", "simulate"),
    "hetc.driver.simulate_plan": ("SimulatedPlan", "simulate_plan"),
    "hetc.driver.tune": ("TuneResult", "tune"),
    "hetc.driver.verify": ("Verification", "verify"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BenchOptions",
    "Benched",
    "CompileOptions",
    "Compiled",
    "Finding",
    "Inspection",
    "Linted",
    "Looks",
    "SimulateOptions",
    "Simulated",
    "SimulatedPlan",
    "TuneResult",
    "Verification",
    "bench",
    "check_arrays_path",
    "compile",
    "compile_bundle",
    "diff_paths",
    "doctor",
    "export_path",
    "holds_plan",
    "inspect",
    "is_bundle",
    "lint_path",
    "load",
    "optimize",
    "plot_path",
    "read_arrays",
    "simulate",
    "simulate_plan",
    "tune",
    "verify",
    "write_arrays",
]


class _Driver(ModuleType):
    """This package. Several functions bear the name of their module: the package has the function,
    whoever imported the module first."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _HOME:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Driver


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use, and keep it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
