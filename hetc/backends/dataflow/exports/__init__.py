"""Plans in the words of other tools, to be looked at beside what those tools say.

Nothing here is accepted by a vendor's tool, and every file says so: the formats are written from
public repositories and papers, and where a plan has something that they have no word for, the word
is hetc's. The one format that hetc reads is the plan itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.dataflow.exports.aie import aie_module
from hetc.backends.dataflow.exports.netlist import netlist
from hetc.backends.dataflow.exports.tables import tables
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.schema import Plan

FORMATS = ("netlist", "aie", "csv")


def export(plan: Plan, fabric: Fabric, format: str) -> Mapping[str, str]:
    """File name -> text of `plan`, which is for `fabric`, in one of `FORMATS`.

    Raises InputError HETC-L010 for a plan whose units have no sites, PlanError HETC-D10x for one
    whose stages contradict themselves.
    """
    if format == "netlist":
        return {"netlist.yaml": netlist(plan, fabric)}
    if format == "aie":
        return {"plan.mlir": aie_module(plan, fabric)}
    return tables(plan, fabric)
