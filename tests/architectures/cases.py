"""Every causal-LM type that transformers knows."""

from __future__ import annotations

from tests.architectures import dense, encoders, experts, mixed, recurrent, wrapped
from tests.architectures.case import Case

GROUPS: dict[str, dict[str, Case]] = {
    "Dense": dense.CASES,
    "Experts": {**experts.CASES, **mixed.CASES},
    "Recurrent and hybrid": recurrent.CASES,
    "Inside other models": wrapped.CASES,
    "Encoders": encoders.CASES,
}
CASES: dict[str, Case] = {name: case for group in GROUPS.values() for name, case in group.items()}
