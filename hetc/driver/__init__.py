"""The driver: the rooms of hetc put together, from a model to a running bundle."""

from hetc.backends.dataflow.lint import render as render_findings
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
from hetc.driver.verify import Verification, verify

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
    "Verification",
    "bench",
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
    "render_findings",
    "simulate",
    "simulate_plan",
    "verify",
]
