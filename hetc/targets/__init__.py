"""Hardware that hetc compiles for: TOML files with a source or a stated assumption beside every
number.
"""

from hetc.targets.document import describe, document
from hetc.targets.dtypes import bytes_per_value, canonical_dtype
from hetc.targets.files import check, link_names, load, load_link, names
from hetc.targets.host import measured_device
from hetc.targets.machine import Target
from hetc.targets.model import Assumption, Calibration, Device, Grid, Link, Memory, Quantity

__all__ = [
    "Assumption",
    "Calibration",
    "Device",
    "Grid",
    "Link",
    "Memory",
    "Quantity",
    "Target",
    "bytes_per_value",
    "canonical_dtype",
    "check",
    "describe",
    "document",
    "link_names",
    "load",
    "load_link",
    "measured_device",
    "names",
]
