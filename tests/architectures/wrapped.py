"""Language models inside others: of images and sounds, and the decoders of encoder-decoders."""

from __future__ import annotations

from tests.architectures.case import Case

CASES: dict[str, Case] = {}
