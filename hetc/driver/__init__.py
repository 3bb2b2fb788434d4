"""The driver: the rooms of hetc put together, from a model to a running bundle."""

from hetc.backends.dataflow.lint import render as render_findings
from hetc.driver.compile import Compiled, compile, compile_bundle
from hetc.driver.diff import diff_paths
from hetc.driver.doctor import Finding, doctor
from hetc.driver.export import export_path
from hetc.driver.inspect import Inspection, inspect, is_bundle
from hetc.driver.lint import Linted, lint_path
from hetc.driver.load import load
from hetc.driver.optimize import optimize
from hetc.driver.options import CompileOptions
from hetc.driver.plot import plot_path
from hetc.driver.simulate import Simulated, SimulateOptions, simulate
from hetc.driver.verify import Verification, verify

__all__ = [
    "CompileOptions",
    "Compiled",
    "Finding",
    "Inspection",
    "Linted",
    "SimulateOptions",
    "Simulated",
    "Verification",
    "compile",
    "compile_bundle",
    "diff_paths",
    "doctor",
    "export_path",
    "inspect",
    "is_bundle",
    "lint_path",
    "load",
    "optimize",
    "plot_path",
    "render_findings",
    "simulate",
    "verify",
]
