"""Recurrent and hybrid decoders, and those with convolutions."""

from __future__ import annotations

from tests.architectures.case import Case

CASES: dict[str, Case] = {}
