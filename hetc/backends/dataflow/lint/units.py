"""Units, their places and their memory: what fits, what stands where, what the plan says of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hetc.backends.dataflow.fit import Demand, Shortfall, fit, total
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.schema import Section, Stage

# What the name of a unit, `stage.w3`, says that it takes of its site.
_HALVES = {"w": ("PCU", "PMU"), "x": ("PMU",), "r": ("PCU",), "b": ("PMU",)}


def unit_names(stage: Stage) -> dict[str, list[str]]:
    """Role -> the units of a stage: work lanes w, input copies x, reducers r, outputs b."""
    units = stage.units
    counts = {"w": units.lanes, "x": units.x_copies, "r": units.reducers, "b": units.outputs}
    return {
        role: [f"{stage.id}.{role}{place}" for place in range(count)]
        for role, count in counts.items()
    }


@rule(
    "HETC-L220",
    "the units and memory ports of a section are there",
    "give its stages fewer units, or split the section",
)
def units_fit(facts: Facts) -> Faults:
    yield from _shortfalls(facts, ("compute units", "memory units", "memory ports"))
    pcus = max((demand.pcus for _, demand in _sections(facts)), default=0)
    pmus = max((demand.pmus for _, demand in _sections(facts)), default=0)
    bound = facts.capacity
    return f"{pcus} of {bound.pcus} compute units, {pmus} of {bound.pmus} memory units"


@rule(
    "HETC-L221",
    "streams and buffers of a section fit its SRAM, and each memory unit",
    "lower depth_bytes, or split the section",
)
def sram_fits(facts: Facts) -> Faults:
    yield from _shortfalls(facts, ("SRAM", "memory unit"))
    used = max((demand.sram_bytes for _, demand in _sections(facts)), default=0)
    fullest = max((demand.pmu_bytes for _, demand in _sections(facts)), default=0)
    bound = facts.capacity
    text = f"{number(used)} of {number(bound.sram_bytes)} bytes"
    return f"{text}, the fullest unit {number(fullest)} of {number(bound.pmu_bytes)}"


def _sections(facts: Facts) -> Iterator[tuple[Section, Demand]]:
    for section in facts.plan.sections:
        yield section, total(facts.demands[name] for name in dict.fromkeys(section.stages))


def _shortfalls(facts: Facts, resources: Collection[str]) -> Iterator[Fault]:
    for section, demand in _sections(facts):
        for short in fit(demand, facts.capacity):
            if short.resource in resources:
                place = f"stage {short.place}" if short.place else f"section {section.id}"
                yield Fault(place, _told(place, short), short.demand, short.bound, short.lever)


def _told(place: str, short: Shortfall) -> str:
    needs = f"{place} needs {number(short.demand)}"
    unit = " bytes in one memory unit" if short.resource == "memory unit" else f" {short.resource}"
    return f"{needs}{unit} of {number(short.bound)}, short by {number(short.shortfall)}"


@rule(
    "HETC-L222",
    "the resources that a section states are those of its stages and of the target",
    "state what fit.py counts",
)
def resources(facts: Facts) -> Faults:
    bound = facts.capacity
    for section, demand in _sections(facts):
        counted = {
            "pcus": demand.pcus,
            "pcus_of": bound.pcus,
            "pmus": demand.pmus,
            "pmus_of": bound.pmus,
            "sram_bytes": demand.sram_bytes,
            "sram_bytes_of": bound.sram_bytes,
            "ports": len(demand.ports),
            "ports_of": bound.ports,
        }
        for field, value in counted.items():
            stated = getattr(section.resources, field)
            if stated != value:
                text = f"section {section.id} states {field} {number(stated)}"
                yield Fault(f"section {section.id}", f"{text}, not {number(value)}", stated, value)
    return f"{len(facts.plan.sections)} sections"


@rule(
    "HETC-L223",
    "every unit has a site on the grid that is free for it",
    "give each unit of the section's stages one site, and no two the same half of one",
)
def sites(facts: Facts) -> Faults:
    mesh = facts.mesh
    lanes = {"PCU": facts.capacity.pcus, "PMU": facts.capacity.pmus}
    placed = 0
    for section in facts.plan.sections:
        needed: dict[str, str] = {}
        for name in dict.fromkeys(section.stages):
            for role, units in unit_names(facts.stages[name]).items():
                needed.update(dict.fromkeys(units, role))
        yield from _unplaced(section, needed)
        taken: dict[tuple[int, int, str], str] = {}
        for unit, site in section.sites.items():
            placed += 1
            for half in _HALVES[needed[unit]] if unit in needed else ():
                if not mesh.has_site(site) or mesh.site_number(site) >= lanes[half]:
                    text = f"unit {unit} stands on site {site}, where the grid has no {half}"
                    yield Fault(f"unit {unit}", text)
                other = taken.setdefault((*site, half), unit)
                if other != unit:
                    text = f"units {other} and {unit} both take the {half} of site {site}"
                    yield Fault(f"unit {unit}", text, 2, 1)
    return f"{placed} units"


def _unplaced(section: Section, needed: Collection[str]) -> Iterator[Fault]:
    for unit in needed:
        if unit not in section.sites:
            yield Fault(f"unit {unit}", f"unit {unit} has no site in section {section.id}", 0, 1)
    for unit in section.sites:
        if unit not in needed:
            text = f"section {section.id} places {unit}, which none of its stages has"
            yield Fault(f"unit {unit}", text)


@rule("HETC-L224", "pins of the request are honoured", "move the unit to its pin, or drop the pin")
def pins(facts: Facts) -> Faults:
    for pin in facts.plan.request.pins:
        # A unit stands on its pin; a stage begins there.
        found = [
            site
            for section in facts.plan.sections
            for unit, site in section.sites.items()
            if unit == pin.unit or unit.rpartition(".")[0] == pin.unit
        ]
        if pin.site not in found:
            where = f"stands on {found[0]}" if found else "has no site"
            text = f"{pin.unit} {where}, the request pins it to {pin.site}"
            yield Fault(f"pin of {pin.unit}", text)
    return f"{len(facts.plan.request.pins)} pins"


@rule(
    "HETC-L225",
    "streams are bound to memory ports that the target has",
    "bind the stream to ports below the number that the target states",
)
def ports(facts: Facts) -> Faults:
    bound = facts.capacity.ports
    for stream in facts.streams.values():
        place = f"stream {stream.id}"
        if stream.tier != "sram" and not stream.ports:
            yield Fault(place, f"stream {stream.id} is bound to no memory port", 0, 1)
        for port in sorted(set(stream.ports)):
            if port >= bound:
                text = f"stream {stream.id} is bound to memory port {port}, the last is {bound - 1}"
                yield Fault(place, text, port, bound - 1)
    used = {port for stream in facts.streams.values() for port in stream.ports}
    return f"{len(used)} of {bound} ports"
