"""Targets with constants that were fitted to published measurements, where a user asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.errors import TargetError
from hetc.targets import Target


def calibrated_targets(targets: Sequence[Target], frameworks: Sequence[str]) -> tuple[Target, ...]:
    """`targets`, each with the calibrations of `frameworks` that its file has.

    Raises TargetError (HETC-T014) for a framework that no target knows.
    """
    found = list(targets)
    for framework in frameworks:
        known = [framework in target.device.calibrations for target in targets]
        if not any(known):
            names = dict.fromkeys(name for t in targets for name in t.device.calibrations)
            raise TargetError(
                "HETC-T014",
                f"no calibration for {framework!r}",
                at=", ".join(dict.fromkeys(target.name for target in targets)),
                expected=", ".join(names) or "none: these devices have no calibration",
                do="leave --calibrated out, or add [calibration.FRAMEWORK] to a file of your own",
            )
        found = [
            target.calibrate(framework) if has else target
            for target, has in zip(found, known, strict=True)
        ]
    return tuple(found)
