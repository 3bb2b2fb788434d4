"""`hetc run` of a bundle without phases: from a file of arrays to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hetc.cli.lazy import driver, report
from hetc.cli.output import print_json


def run_forward(
    bundle: Path, inputs: Path | None, output: Path | None, executor: str | None, *, as_json: bool
) -> None:
    """Call the bundle on the arrays in `inputs`, and write what it gives to `output`."""
    assert inputs is not None, "checked by the caller"
    arrays = driver.read_arrays(inputs)
    if output is not None:
        driver.check_arrays_path(output)
    with driver.load(bundle, executor=executor) as loaded:
        found = loaded.run(**arrays)
        executors, fallbacks = loaded.executors, list(map(str, loaded.fallbacks))
    if output is not None:
        driver.write_arrays(output, found)
    rows = {name: _described(array) for name, array in found.items()}
    if as_json:
        written = None if output is None else str(output)
        outputs = {"outputs": rows, "written": written}
        print_json(outputs | {"executors": executors, "fallbacks": fallbacks})
        return
    for reason in fallbacks:
        click.echo(f"note: an executor was passed over: {reason}", err=True)
    columns = [report.Column("output"), report.Column("type")]
    columns += [report.Column(name, right=True) for name in ("least", "mean", "most")]
    shown = [
        [name, row["type"], *(_number(row[k]) for k in _FIGURES)] for name, row in rows.items()
    ]
    click.echo(report.table(columns, shown))


_FIGURES = ("least", "mean", "most")


def _described(array: Any) -> dict[str, Any]:
    """Type and range of an array."""
    sizes = ",".join(map(str, array.shape))
    made = {"type": f"{array.dtype}[{sizes}]", "shape": list(array.shape)}
    if not array.size or array.dtype.kind == "c":
        return made | dict.fromkeys(_FIGURES)
    wide = array.astype("float64")
    return made | {
        "least": float(wide.min()),
        "mean": float(wide.mean()),
        "most": float(wide.max()),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
