"""Reports: the summary after a compile, tables, explanations, report.html, a bundle's README."""

from hetc.report.bench_table import bench_lines
from hetc.report.diff_table import diff_lines
from hetc.report.explain import explain_lines, find_records
from hetc.report.html import Report, html_report
from hetc.report.inspect_tables import by_layer, by_op, by_phase, layer_groups, phase_groups
from hetc.report.kernel_table import by_kernel, kernel_lines
from hetc.report.plan_simulation import plan_simulation_lines
from hetc.report.readme import readme
from hetc.report.simulation import simulation_lines
from hetc.report.summary import StateFacts, Summary, WholeFacts, summary_lines, with_bundle
from hetc.report.tables import Column, table
from hetc.report.tune_table import tune_lines
from hetc.report.units import amount, duration

__all__ = [
    "Column",
    "Report",
    "StateFacts",
    "Summary",
    "WholeFacts",
    "amount",
    "bench_lines",
    "by_kernel",
    "by_layer",
    "by_op",
    "by_phase",
    "diff_lines",
    "duration",
    "explain_lines",
    "find_records",
    "html_report",
    "kernel_lines",
    "layer_groups",
    "phase_groups",
    "plan_simulation_lines",
    "readme",
    "simulation_lines",
    "summary_lines",
    "table",
    "tune_lines",
    "with_bundle",
]
