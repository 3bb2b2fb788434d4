"""The driver: the rooms of hetc put together, from a model to a running bundle."""

from hetc.driver.compile import Compiled, compile, compile_bundle
from hetc.driver.doctor import Finding, doctor
from hetc.driver.inspect import Inspection, inspect, is_bundle
from hetc.driver.load import load
from hetc.driver.optimize import optimize
from hetc.driver.options import CompileOptions
from hetc.driver.simulate import Simulated, SimulateOptions, simulate
from hetc.driver.verify import Verification, verify

__all__ = [
    "CompileOptions",
    "Compiled",
    "Finding",
    "Inspection",
    "SimulateOptions",
    "Simulated",
    "Verification",
    "compile",
    "compile_bundle",
    "doctor",
    "inspect",
    "is_bundle",
    "load",
    "optimize",
    "simulate",
    "verify",
]
