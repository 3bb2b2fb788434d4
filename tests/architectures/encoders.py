"""Encoders that transformers lists among its causal models."""

from __future__ import annotations

from tests.architectures.case import Case

CASES: dict[str, Case] = {}
