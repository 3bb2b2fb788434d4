"""What every part of a plan is."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything in a plan: frozen, by name, and strict about unknown fields."""
