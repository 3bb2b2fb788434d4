"""Read target files: names and paths in, checked devices, machines and links out."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from hetc.errors import TargetError
from hetc.targets import host
from hetc.targets.build import build_device, build_link
from hetc.targets.forms import check_form, nearest
from hetc.targets.machine import Target
from hetc.targets.model import Device, Link, Quantity
from hetc.targets.schema import DEVICE, LINKS, MOST_CALIBRATED

HOST = "host"
_LINKS_FILE = "links.toml"
_HOW_TO_ASSUME = "state it with a range and a reason; docs/targets.md has an example"


def names() -> list[str]:
    """The targets that come with hetc, and `host`, in alphabetical order."""
    return sorted([*shipped_files(), HOST])


def link_names() -> list[str]:
    """The links that come with hetc, in the order of their file."""
    return list(_link_tables())


def load(name: str | os.PathLike[str]) -> Target:
    """A machine by name (`h200`), name and count (`sn40l:16`) or path of a target file.

    Raises `TargetError`: unknown name (with the nearest ones), bad count, unreadable file, or a
    file that breaks the schema. `host` measures this machine on first use and caches the result.
    """
    text = os.fspath(name)
    base, count = _split_count(text)
    if base == HOST:
        device = host.measured_device()
    elif _is_path(base):
        device = _read_device(Path(base), base)
    else:
        shipped = shipped_files()
        if base not in shipped:
            raise TargetError(
                "HETC-T001",
                f"unknown target {base!r}",
                expected=nearest(base, names()),
                do="hetc targets list shows all; a file of your own is given by its path (x.toml)",
            )
        device = _read_device(shipped[base], f"{base}.toml")
    return Target(device, count)


def check(path: str | os.PathLike[str]) -> list[TargetError]:
    """Everything wrong with a target file, in its schema's order; empty for a good file."""
    where = Path(path)
    try:
        table = _parse(where, str(where))
    except TargetError as error:
        return [error]
    return list(_problems(table))


def load_link(name: str | float) -> Link:
    """A link by name (`pcie5`), or of a given number of GB/s in one direction (`25`, `"12.5"`).

    Raises `TargetError` for an unknown name or a number that is not positive.
    """
    tables = _link_tables()
    if isinstance(name, str) and name in tables:
        return build_link(name, tables[name])
    try:
        gbps = float(name)
    except ValueError:
        raise TargetError(
            "HETC-T011",
            f"unknown link {name!r}",
            expected=nearest(str(name), tables),
            do="name a link, or give its bandwidth in GB/s in one direction, for example 25",
        ) from None
    if not 0 < gbps < float("inf"):
        raise TargetError(
            "HETC-T011", "a link needs a bandwidth above 0", expected="GB/s", found=name
        )
    return Link(
        name=f"{gbps:g}GB/s",
        title=f"{gbps:g} GB/s, as asked for",
        bandwidth=Quantity(gbps * 1e9, "B/s", "given by the user"),
        fraction=Quantity(
            1.0, "fraction", "given by the user: the number is what a transfer reaches"
        ),
        latency_us=Quantity(
            5.0, "us", range=(1.0, 30.0), why="not given; between PCIe and data centre Ethernet"
        ),
    )


def shipped_files() -> dict[str, Traversable]:
    """Name -> file of every target that comes with hetc, in alphabetical order."""
    entries = sorted(resources.files("hetc.targets").iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): entry
        for entry in entries
        if entry.name.endswith(".toml") and entry.name != _LINKS_FILE
    }


def _split_count(text: str) -> tuple[str, int]:
    """`sn40l:16` -> (`sn40l`, 16). A colon that is part of a path (`C:\\x.toml`) is left alone."""
    base, colon, count = text.rpartition(":")
    if not colon or "/" in count or "\\" in count:
        return text, 1
    if re.fullmatch(r"[1-9][0-9]{0,4}", count) is None:
        raise TargetError(
            "HETC-T010",
            "bad number of devices",
            at=text,
            expected="NAME:COUNT with COUNT from 1 to 99999",
            found=count or "nothing",
        )
    return base, int(count)


def _is_path(base: str) -> bool:
    return base.endswith(".toml") or "/" in base or os.sep in base


def _read_device(file: Path | Traversable, label: str) -> Device:
    table = _parse(file, label)
    problems = list(_problems(table))
    if problems:
        first, others = problems[0], len(problems) - 1
        more = f"; {others} more: hetc targets check {label}" if others else ""
        raise TargetError(
            first.code,
            f"{label} is not a valid target file: {first.what}",
            at=first.at,
            expected=first.expected,
            found=first.found,
            do=(first.do or "correct the file") + more,
        )
    return build_device(table, load_link)


def _parse(file: Path | Traversable, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or str(error)
        raise TargetError(
            "HETC-T002", "the target file cannot be read", at=label, found=found
        ) from error
    except (ValueError, RecursionError) as error:
        # Not UTF-8, not TOML, a path with a null byte, or tables nested without end.
        raise TargetError(
            "HETC-T002", "the target file is not TOML text", at=label, found=error
        ) from error


def _problems(table: dict[str, Any]) -> Iterator[TargetError]:
    """Faults of form first; rules across keys only once every key has its form."""
    faults = list(check_form(DEVICE, table, ""))
    yield from faults
    if not faults:
        yield from _check_references(table)


def _check_references(table: dict[str, Any]) -> Iterator[TargetError]:
    tiers, main = table["memory"], table["main_memory"]
    if main not in tiers:
        yield TargetError(
            "HETC-T009",
            "main_memory names no tier",
            at="main_memory",
            expected=", ".join(tiers),
            found=main,
        )
    for role, link in table.get("link", {}).items():
        if isinstance(link, str) and link not in _link_tables():
            yield TargetError(
                "HETC-T011",
                "unknown link",
                at=f"link.{role}",
                expected=nearest(link, _link_tables()),
                found=link,
            )
    constants = table["assumption"]
    if table["kind"] == "dataflow" and "section_launch_us" not in constants:
        yield TargetError(
            "HETC-T004",
            "a dataflow device says what loading a section costs",
            at="assumption.section_launch_us",
            do=_HOW_TO_ASSUME,
        )
    if "peer" in table.get("link", {}) and "all_reduce_us" not in constants:
        yield TargetError(
            "HETC-T004",
            "a device with siblings says what an all-reduce costs",
            at="assumption.all_reduce_us",
            do=_HOW_TO_ASSUME,
        )
    for framework, calibration in table.get("calibration", {}).items():
        if not 1 <= len(calibration["constants"]) <= MOST_CALIBRATED:
            yield TargetError(
                "HETC-T015",
                "a calibration has too many constants, or none",
                at=f"calibration.{framework}.constants",
                expected=f"1 to {MOST_CALIBRATED}",
                found=len(calibration["constants"]),
                do="fit what a data sheet cannot say; more constants fit the rows, not the chip",
            )
    if "section" in table and table["kind"] != "dataflow":
        yield TargetError(
            "HETC-T009", "only a dataflow device has sections", at="section", found=table["kind"]
        )
    if "grid" in table:
        yield from _check_grid(table["grid"], table["kind"])


def _check_grid(grid: dict[str, Any], kind: str) -> Iterator[TargetError]:
    if kind != "dataflow":
        yield TargetError(
            "HETC-T009", "only a dataflow device has a grid", at="grid", found=f"kind = {kind}"
        )
    slots = grid["rows"]["value"] * grid["columns"]["value"]
    compute, memory = grid["compute_units"]["value"], grid["memory_units"]["value"]
    needed = compute + memory if grid["layout"] == "checkerboard" else max(compute, memory)
    if needed > slots:
        yield TargetError(
            "HETC-T009",
            "more units than places on the grid",
            at="grid",
            expected=f"at most {slots:g}",
            found=f"{needed:g}",
        )


def _link_tables() -> dict[str, Any]:
    table = _parse(resources.files("hetc.targets") / _LINKS_FILE, _LINKS_FILE)
    for problem in check_form(LINKS, table, _LINKS_FILE):
        raise problem
    return table
