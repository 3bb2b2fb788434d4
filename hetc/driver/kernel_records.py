"""The kernels of a bundle's prefill half as JSON values: what is launched, and what was built."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hetc.bundle import OpenBundle
from hetc.bundle.launches import LAUNCHES_FILE, Kernel, LaunchPlan
from hetc.bundle.launches_file import read_launches


def kernel_records(files: OpenBundle) -> list[dict[str, Any]]:
    """One record for each kernel, in the order of their first launches; none for a bundle without
    kernels."""
    if LAUNCHES_FILE not in files.manifest.files:
        return []
    plan = read_launches(files.read_bytes(LAUNCHES_FILE))
    launches = Counter(launch.kernel for launch in plan.launches)
    return [
        {
            "name": name,
            "launches": count,
            "ops": _ops(plan, name),
            "configurations": len(plan.kernels[name].configs),
            "builds": len(plan.kernels[name].builds),
            "choices": _choices(plan.kernels[name]),
        }
        for name, count in launches.items()
    ]


def _ops(plan: LaunchPlan, name: str) -> list[str]:
    """The ops that the launches of a kernel compute, each once."""
    found = (op for launch in plan.launches if launch.kernel == name for op in launch.ops)
    return list(dict.fromkeys(found))


def _choices(kernel: Kernel) -> list[dict[str, Any]]:
    builds = {(build.arch, build.config): build for build in kernel.builds}
    return [
        {
            "arch": arch,
            "rows": choice.rows,
            "constants": dict(kernel.configs[choice.config].constants),
            "warps": kernel.configs[choice.config].warps,
            "stages": kernel.configs[choice.config].stages,
            "registers": builds[arch, choice.config].registers,
            "shared_bytes": builds[arch, choice.config].shared_bytes,
            "why": choice.why,
        }
        for arch, choices in kernel.choices.items()
        for choice in choices
    ]
