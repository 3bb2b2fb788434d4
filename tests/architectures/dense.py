"""Decoders of dense layers."""

from __future__ import annotations

from tests.architectures.case import Case

CASES: dict[str, Case] = {}
