"""Identical layers as one: what differs in nothing but the number of its layer is one row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

# The first number that is a part of a name: `3` of model.layers.3.mlp/add.2 and of layer3.key.
_LAYER = re.compile(r"(?:^|(?<=[./_])|(?<=layer))\d+(?=[./]|$)")


@dataclass(frozen=True)
class FoldedOp:
    """Equal ops of `layers` (empty where the op is in no layer), as their first decision record.

    `seconds` is the estimated time of all of them together, in one execution on their device.
    """

    name: str
    layers: tuple[int, ...]
    record: Record
    names: tuple[str, ...]
    seconds: float

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def total_flops(self) -> int:
        return int(self.record["flops"]) * self.count

    @property
    def total_bytes(self) -> int:
        """Bytes read and written by all of them."""
        return (int(self.record["bytes_read"]) + int(self.record["bytes_written"])) * self.count


def layer_of(name: str) -> int | None:
    """The layer that a name is in: 3 for `layers.3.mlp.down_proj`."""
    found = _LAYER.search(name)
    # A number at the end counts equal ops (`/add.2`) or is a layer by itself (`layers.3`).
    if found is None or "/" in name[: found.start()]:
        return None
    return int(found.group())


def layer_path(name: str) -> str:
    """The part of a name up to its layer, `model.layers.3`; outside of layers the module's."""
    found = _LAYER.search(name) if layer_of(name) is not None else None
    return name[: found.end()] if found else name.partition("/")[0]


def with_layers(name: str, layers: Sequence[int]) -> str:
    """`name` with the number of its layer replaced by all of `layers`: `layers.0-29.mlp`."""
    if len(layers) < 2 or layer_of(name) is None:
        return name
    return _LAYER.sub(ranges(layers), name, count=1)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges: `0-29`, `0-4,6`, and `0,2,…,28` where there are many."""
    ordered = sorted(set(numbers))
    spans: list[tuple[int, int]] = []
    for number in ordered:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in spans]
    return ",".join(texts if len(texts) < 4 else [*texts[:2], "…", texts[-1]])


def own_seconds(record: Record) -> float:
    """Estimated seconds of one execution of an op on the device that it is on."""
    return float(record["seconds"][record["role"]])


def fold(records: Iterable[Record]) -> list[FoldedOp]:
    """`records` of ops, equal ones of different layers joined, in the order of their first."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_key(record), []).append(record)
    return [_folded(group) for group in groups.values()]


def _key(record: Record) -> tuple[object, ...]:
    name = str(record["name"])
    pattern = _LAYER.sub("*", name, count=1) if layer_of(name) is not None else name
    same = ("phase", "kind", "role", "mark", "flops", "bytes_read", "bytes_written")
    return (pattern, *(record[key] for key in same))


def _folded(group: Sequence[Record]) -> FoldedOp:
    names = tuple(str(record["name"]) for record in group)
    layers = tuple(layer for layer in map(layer_of, names) if layer is not None)
    # The first layer is often special (nothing stands before it): the second speaks for the rest.
    speaker = group[min(1, len(group) - 1)]
    seconds = sum(map(own_seconds, group))
    return FoldedOp(with_layers(names[0], layers), layers, speaker, names, seconds)
