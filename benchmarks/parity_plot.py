"""Predicted against measured seconds, one panel a mode, as docs/img/fidelity.svg.

python -m benchmarks.parity_plot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.fidelity import Bench, Compared, both
from benchmarks.measurements import read_runs

IMAGE = Path(__file__).parents[1] / "docs" / "img" / "fidelity.svg"

_MARKERS = {"h100": ("o", "#3b6fb6"), "gh200": ("s", "#74a9cf"), "sn40l": ("^", "#d95f02")}
_OTHER = ("D", "#888888")


def draw(results: Mapping[str, Sequence[Compared]], path: Path) -> None:
    """Draw `results` (mode -> runs with predictions) into the SVG file at `path`."""
    # The same numbers give the same file.
    mpl.rcParams |= {"svg.hashsalt": "hetc", "svg.fonttype": "none"}
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    ends = (5e-4, 2e2)
    for axes, (mode, compared) in zip(figure.subplots(1, 2), results.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
        axes.set(title=mode, xlabel="measured, s", ylabel="predicted, s")
        axes.plot(ends, ends, color="#444444", linewidth=0.8)
        for factor in (0.9, 1.1):
            axes.plot(ends, [factor * end for end in ends], "--", color="#aaaaaa", linewidth=0.6)
        for chip in dict.fromkeys(item.run.chip for item in compared):
            marker, color = _MARKERS.get(chip, _OTHER)
            points = [item for item in compared if item.run.chip == chip]
            axes.scatter(
                [item.run.seconds for item in points],
                [item.seconds for item in points],
                s=16,
                marker=marker,
                facecolors="none",
                edgecolors=color,
                linewidths=0.9,
                label=f"{chip} ({len(points)})",
            )
        axes.legend(loc="upper left", frameon=False, fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(both(Bench(), [run for run in read_runs() if not run.apart]), IMAGE)
