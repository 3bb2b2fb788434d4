"""hetc opt: IR text in, IR text out."""

from __future__ import annotations

from hetc.ir.graph import Program
from hetc.ir.text import parse, print_graph, print_program
from hetc.passes.manager import run_passes
from hetc.passes.registry import load_pipeline


def optimize(text: str, pipeline: str) -> str:
    """Run the passes named in `pipeline` (commas between them) on the last graph of `text`."""
    result = run_passes(load_pipeline(pipeline), parse(text))
    return print_program(result) if isinstance(result, Program) else print_graph(result)
