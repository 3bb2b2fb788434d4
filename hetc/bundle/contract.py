"""The hand-off contract (`handoff.json`): what state passes to decode, in which form."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.fields import Fields, bad_field, check_integer, check_text
from hetc.bundle.filenames import HANDOFF_FILE
from hetc.bundle.strict_json import canonical_json, parse_json
from hetc.bundle.version import HANDOFF, read_version

Dim = int | str

MAX_CONTRACT_BYTES = 16 * 2**20
STATE_KINDS = ("kv", "latent", "window", "conv", "recurrent")
DIGEST_RULE = "sha256 over the row-major bytes"
_DIM = re.compile(r"[A-Za-z0-9_+*(), -]{1,64}")


@dataclass(frozen=True)
class StateSpec:
    """One state tensor of the hand-off.

    `shape` holds ints and symbols (`B` batch, `P` past length); `append_axis` is the axis that
    grows with P, None for state of fixed size; `keep` is how many rows survive (window - 1,
    kernel - 1), None for all; `position_range` is the half-open range of positions held, as text
    over symbols; `alignment` is in bytes.
    """

    name: str
    layer: int | None
    kind: str
    shape: tuple[Dim, ...]
    dtype: str
    append_axis: int | None
    keep: int | None
    producer_layout: str
    consumer_layout: str
    conversion: str = "none"
    heads: int | None = None
    page_tokens: int | None = None
    position_range: tuple[str, str] = ("0", "P")
    owner_before: str = "prefill"
    owner_after: str = "decode"
    alignment: int = 64
    digest: str = DIGEST_RULE

    @classmethod
    def from_json(cls, value: object, at: str, *, newer: bool = False) -> StateSpec:
        """Reads one entry of `states`; raises `BundleError` HETC-B004 naming the field."""
        f = Fields(value, at, newer=newer)
        spec = cls(
            name=f.text("name", max_length=200),
            layer=f.optional("layer", f.integer),
            kind=f.one_of("kind", STATE_KINDS),
            shape=f.array("shape", read_dim),
            dtype=f.one_of("dtype", BY_NAME),
            append_axis=f.optional("append_axis", f.integer),
            keep=f.optional("keep", f.integer),
            producer_layout=f.text("producer_layout"),
            consumer_layout=f.text("consumer_layout"),
            conversion=f.text("conversion"),
            heads=f.optional("heads", lambda key: f.integer(key, low=1)),
            page_tokens=f.optional("page_tokens", lambda key: f.integer(key, low=1)),
            position_range=_pair(f, "position_range"),
            owner_before=f.one_of("owner_before", ("prefill", "decode")),
            owner_after=f.one_of("owner_after", ("prefill", "decode")),
            alignment=f.integer("alignment", low=1),
            digest=f.text("digest"),
        )
        f.done()
        if not spec.name:
            raise bad_field(f.where("name"), "a name", spec.name)
        if spec.append_axis is not None and spec.append_axis >= len(spec.shape):
            expected = f"an axis below the rank, {len(spec.shape)}"
            raise bad_field(f.where("append_axis"), expected, spec.append_axis)
        if spec.alignment & (spec.alignment - 1):
            raise bad_field(f.where("alignment"), "a power of two", spec.alignment)
        return spec

    def to_json(self) -> dict[str, object]:
        """The entry as plain JSON values."""
        plain = dict(vars(self))
        return plain | {"shape": list(self.shape), "position_range": list(self.position_range)}


@dataclass(frozen=True)
class Contract:
    """The whole hand-off: the context lengths, in tokens, it holds for, and the states."""

    min_context: int
    max_context: int
    states: tuple[StateSpec, ...]

    @classmethod
    def from_json(cls, value: object, at: str = HANDOFF_FILE) -> Contract:
        """Reads `handoff.json`; raises `BundleError` HETC-B003 or HETC-B004 naming the field."""
        f = Fields(value, at)
        f.newer = read_version(f.take("schema"), f.where("schema"), HANDOFF) > HANDOFF
        contexts = f.nested("contexts")
        low = contexts.integer("min", low=1)
        contract = cls(
            min_context=low,
            max_context=contexts.integer("max", low=low),
            states=f.array("states", lambda v, where: StateSpec.from_json(v, where, newer=f.newer)),
        )
        contexts.done()
        f.done()
        names = contract.state_names
        if len(set(names)) != len(names):
            raise bad_field(f.where("states"), "every state name once", list(names))
        return contract

    @classmethod
    def from_bytes(cls, raw: bytes, at: str = HANDOFF_FILE) -> Contract:
        """Reads the bytes of `handoff.json`."""
        return cls.from_json(parse_json(raw, at, max_bytes=MAX_CONTRACT_BYTES), at)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The states' names, in hand-off order."""
        return tuple(state.name for state in self.states)

    def to_json(self) -> dict[str, object]:
        """The contract as plain JSON values."""
        return {
            "schema": str(HANDOFF),
            "contexts": {"min": self.min_context, "max": self.max_context},
            "states": [state.to_json() for state in self.states],
        }

    def to_bytes(self) -> bytes:
        """The bytes of `handoff.json`; the same contract always gives the same bytes."""
        return canonical_json(self.to_json())

    @property
    def sha256(self) -> str:
        """The hash that both halves are compiled against: of `to_bytes`, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, Phase] = ("prefill", "decode")


def read_dim(value: object, at: str) -> Dim:
    """One size of a shape: an integer, or an expression over symbols."""
    if not isinstance(value, str):
        return check_integer(value, at)
    if not _DIM.fullmatch(value):
        raise bad_field(at, "an integer or an expression over symbols", value)
    return value


def _pair(f: Fields, key: str) -> tuple[str, str]:
    found = f.array(key, check_text)
    if len(found) != 2:
        raise bad_field(f.where(key), "first and end position", list(found))
    return found[0], found[1]
