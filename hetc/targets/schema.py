"""The keys of a target file and of links.toml, as data; `forms.py` checks them."""

from __future__ import annotations

from hetc.targets.dtypes import DTYPES
from hetc.targets.forms import Choice, Each, Form, Number, Table, Text, Words

SCHEMA_VERSION = "hetc.target/1"

# The unit of every constant of the cost model; `docs/targets.md` says what each one means. A
# constant that is not required costs nothing where a file leaves it out.
CONSTANT_UNITS = {
    "bandwidth_fraction": "fraction",
    "gemm_fraction": "fraction",
    "gemm_fraction_f8": "fraction",
    "gemm_fraction_f4": "fraction",
    "launch_us": "us",
    "section_launch_us": "us",
    "all_reduce_us": "us",
    "step_us": "us",
    "sequence_us": "us",
    "head_bandwidth": "B/s",
    "shared_queries": "1",
    "tile_rows": "1",
    "tile_columns": "1",
}
# So many constants a calibration may have: with more, the rows are fitted and not the chip.
MOST_CALIBRATED = 2
_REQUIRED_CONSTANTS = ("bandwidth_fraction", "gemm_fraction", "launch_us")
_CONSTANTS: dict[str, Form] = {
    name: Number(unit, may_be_zero=unit == "us", constant=True)
    for name, unit in CONSTANT_UNITS.items()
}

LINK = Table(
    {
        "title": Text(),
        "bandwidth": Number("B/s"),
        "fraction": Number("fraction"),
        "latency_us": Number("us", may_be_zero=True),
    },
    or_name=True,
)

GRID = Table(
    {
        "layout": Choice(("checkerboard", "tiles")),
        "topology": Choice(("mesh", "torus")),
        "port_edges": Choice(("west", "west-east", "north-south", "all")),
        "rows": Number("1"),
        "columns": Number("1"),
        "compute_units": Number("1"),
        "compute_lanes": Number("1"),
        "compute_stages": Number("1"),
        "memory_units": Number("1"),
        "memory_unit_bytes": Number("B"),
        "memory_banks": Number("1"),
        "memory_unit_bytes_per_cycle": Number("B/cycle"),
        "clock_hz": Number("Hz"),
        "link_bytes_per_cycle": Number("B/cycle"),
        "scalar_link_bytes_per_cycle": Number("B/cycle", may_be_zero=True),
        "control_link_bits": Number("1", may_be_zero=True),
        "virtual_channels": Number("1"),
        "hop_cycles": Number("cycle", may_be_zero=True),
        "unit_latency_cycles": Number("cycle", may_be_zero=True),
        "memory_ports": Number("1"),
        "port_bytes_per_cycle": Number("B/cycle"),
        "memory_latency_us": Number("us", may_be_zero=True),
        "reconfigure_us": Number("us", may_be_zero=True, constant=True),
    }
)

DEVICE = Table(
    required={
        "name": Text(r"[a-z0-9][a-z0-9._-]*", "lower-case letters, digits, dots, dashes"),
        "title": Text(),
        "kind": Choice(("gpu", "dataflow", "cpu")),
        "main_memory": Text(),
        "memory": Each(Table({"bytes": Number("B"), "bandwidth": Number("B/s")}), "memory tiers"),
        "rate": Table({"f32": Number("FLOP/s")}, {name: Number("FLOP/s") for name in DTYPES}),
        "assumption": Table({name: _CONSTANTS[name] for name in _REQUIRED_CONSTANTS}, _CONSTANTS),
    },
    optional={
        "schema": Choice((SCHEMA_VERSION,)),
        "arch": Text(),
        "features": Words(),
        "units": Number("1"),
        "section": Choice(("op", "layer", "step")),
        "power_w": Number("W"),
        "link": Table({}, {"peer": LINK, "host": LINK}),
        "grid": GRID,
        "calibration": Each(
            Table({"rows": Text(), "constants": Table({}, _CONSTANTS)}), "frameworks"
        ),
    },
)

LINKS = Each(Table(LINK.required), "links")
