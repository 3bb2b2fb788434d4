"""What restricts a cut beside time and memory: the user's pins and what devices cannot run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hetc.errors import PartitionError, Reason
from hetc.passes.cost import OpCost, PhaseCosts
from hetc.passes.workload import PHASES, Phase

# role -> kind of op -> why the device of this role cannot run it; None or absent where it can.
Capabilities = Mapping[str, Mapping[str, Reason | None]]
_BOTH = frozenset(PHASES)


@dataclass(frozen=True, eq=False)
class Rules:
    """`pinned` gives for the name of an op in a phase the role and the glob that pinned it."""

    pinned: Mapping[tuple[Phase, str], tuple[Phase, str]]
    capabilities: Capabilities

    @staticmethod
    def of(
        costs: Mapping[Phase, PhaseCosts], pins: Mapping[str, str], capabilities: Capabilities
    ) -> Rules:
        """Checked rules.

        Raises PartitionError: HETC-P001 for a pin to an unknown role or that matches no op,
        HETC-P002 for two pins that disagree about an op, HETC-P003 for an op pinned where it cannot
        run.
        """
        pinned: dict[tuple[Phase, str], tuple[Phase, str]] = {}
        for glob, role in pins.items():
            checked = _role(glob, role)
            matched = [cost for phase in costs.values() for cost in phase if _matches(glob, cost)]
            if not matched:
                raise _matches_nothing(glob, costs)
            for cost in matched:
                key = (cost.phase, cost.name)
                known = pinned.setdefault(key, (checked, glob))
                if known[0] != checked:
                    raise PartitionError(
                        "HETC-P002",
                        "two pins put one op on different devices",
                        at=f"{cost.phase}:{cost.name}",
                        found=f"{known[1]} -> {known[0]}, {glob} -> {checked}",
                        do="make the globs disjoint; a glob may start with prefill: or decode:",
                    )
                reason = capabilities.get(checked, {}).get(cost.kind)
                other = capabilities.get(_other(checked), {}).get(cost.kind)
                if reason is not None and other is None:
                    raise PartitionError(
                        "HETC-P003",
                        f"an op is pinned to the {checked} device, which cannot run it",
                        at=f"{cost.phase}:{cost.name}",
                        found=str(reason),
                        do=f"change the pin {glob}",
                    )
        return Rules(pinned, capabilities)

    def pin(self, cost: OpCost) -> str:
        """The glob that pins the op, or nothing."""
        return self.pinned.get((cost.phase, cost.name), ("", ""))[1]

    def reasons(self, cost: OpCost) -> dict[Phase, Reason]:
        """Role -> why its device cannot run the op."""
        found = {role: self.capabilities.get(role, {}).get(cost.kind) for role in PHASES}
        return {role: reason for role, reason in found.items() if reason is not None}

    def roles(self, cost: OpCost) -> frozenset[Phase]:
        """Where the op may be. An op that no device can run may be anywhere: it is a fallback."""
        pinned = self.pinned.get((cost.phase, cost.name))
        if pinned is not None:
            return frozenset({pinned[0]})
        return self.able(cost)

    def able(self, cost: OpCost) -> frozenset[Phase]:
        """Where the op may be if nothing is pinned."""
        return _BOTH - self.reasons(cost).keys() or _BOTH


def _other(role: Phase) -> Phase:
    return "decode" if role == "prefill" else "prefill"


def _role(glob: str, role: str) -> Phase:
    for known in PHASES:
        if role == known:
            return known
    raise PartitionError(
        "HETC-P001",
        "a pin names no device",
        at=glob,
        expected="prefill or decode: the device named for that phase",
        found=role,
    )


def _matches(glob: str, cost: OpCost) -> bool:
    for phase in (*PHASES, "forward"):
        if glob.startswith(f"{phase}:"):
            return cost.phase == phase and fnmatchcase(cost.name, glob.removeprefix(f"{phase}:"))
    return fnmatchcase(cost.name, glob)


def _matches_nothing(glob: str, costs: Mapping[Phase, PhaseCosts]) -> PartitionError:
    names = list(dict.fromkeys(cost.name for phase in costs.values() for cost in phase))
    wanted = glob.partition(":")[2] or glob
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3)
    return PartitionError(
        "HETC-P001",
        "a pin matches no op",
        at=glob,
        expected=f"names such as {', '.join(near or names[:3])}",
    )
