"""Numbers of layers, and names in outlined ones: locations and parameters without the number.

A call of a layer stands at the layer's place (`model.layers.3`) and an op in it at the rest of its
own (`mlp.up_proj`). `+1.mlp.up_proj` is one layer further, where a period spans several, and
`/model.norm` is a place that does not belong to the layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hetc.ir.op import Op, Value
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Weight
from hetc.ir.ops.unary import Cast

_AHEAD = re.compile(r"\+([0-9]+)(?:\.(.*))?")


@dataclass(frozen=True)
class LayerNames:
    """The places of the calls and of the ops in the layer, and names for its inputs."""

    calls: tuple[str, ...]
    locs: tuple[str, ...]
    params: tuple[str, ...]


def full_location(call: str, inner: str) -> str:
    """Where an op of a layer stands in the model: `call` is the place of the call of the layer."""
    if inner.startswith("/"):
        return inner[1:]
    ahead = _AHEAD.fullmatch(inner)
    if ahead:
        prefix, _, number = call.rpartition(".")
        inner = ahead[2] or ""
        call = f"{prefix}.{int(number) + int(ahead[1])}"
    return f"{call}.{inner}" if call and inner else call or inner


def layer_numbers(locs: Iterable[str]) -> dict[str, int]:
    """The layer that each place is in: the number in the list of modules that holds most of them.

    `layers.3.self_attn` -> 3. Places outside of that list are left out.
    """
    lists: dict[str, dict[str, int]] = {}
    for loc in locs:
        parts = loc.split(".")
        for at, part in enumerate(parts):
            if at and part.isdecimal():
                lists.setdefault(".".join(parts[:at]), {})[loc] = int(part)
    # A list of one, around the layers, holds as many places as they do, but has fewer numbers.
    return max(lists.values(), key=lambda found: (len(found), len(set(found.values()))), default={})


def name_layers(rows: Sequence[Sequence[Op]], params: Sequence[Sequence[Value]]) -> LayerNames:
    """Names for a layer: `rows` are its instances, `params` what these take from outside."""
    columns = [[op.loc for op in same] for same in zip(*rows, strict=True)]
    prefix = next((found for column in columns if (found := _numbered(column))), None)
    if prefix is None:
        locs = tuple(column[0] for column in columns)
        return LayerNames(("",) * len(rows), locs, _param_names(params))
    layers = [
        min(number for loc in locs if (number := _layer(prefix, loc)) is not None)
        for locs in zip(*columns, strict=True)
    ]
    return LayerNames(
        tuple(f"{prefix}.{layer}" for layer in layers),
        tuple(_relative(prefix, layers, column) for column in columns),
        _param_names(params),
    )


def _numbered(locs: Sequence[str]) -> str | None:
    """What stands before the number in which `locs` differ, if they differ in one number alone."""
    split = [loc.split(".") for loc in locs]
    if len({len(parts) for parts in split}) != 1:
        return None
    differing = [at for at, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1]
    if len(differing) != 1 or not differing[0]:
        return None
    (at,) = differing
    return ".".join(split[0][:at]) if all(parts[at].isdecimal() for parts in split) else None


def _layer(prefix: str, loc: str) -> int | None:
    number = loc.removeprefix(f"{prefix}.").partition(".")[0]
    return int(number) if loc.startswith(f"{prefix}.") and number.isdecimal() else None


def _relative(prefix: str, layers: Sequence[int], locs: Sequence[str]) -> str:
    found = [_layer(prefix, loc) for loc in locs]
    ahead = {n - layer for n, layer in zip(found, layers, strict=True) if n is not None}
    rests = {loc.removeprefix(f"{prefix}.").partition(".")[2] for loc in locs}
    if None in found or len(ahead) != 1 or len(rests) != 1:
        return f"/{locs[0]}" if locs[0] else ""
    (distance,), (rest,) = ahead, rests
    return rest if not distance else f"+{distance}.{rest}".rstrip(".")


def _param_names(params: Sequence[Sequence[Value]]) -> tuple[str, ...]:
    taken: dict[str, int] = {}
    names = []
    for values in params:
        name = base = _param_name(values)
        while name in taken:
            taken[base] += 1
            name = f"{base}.{taken[base]}"
        taken[name] = 0
        names.append(name)
    return tuple(names)


def _param_name(values: Sequence[Value]) -> str:
    named = [_name(value) for value in values]
    if not all(named):
        op = values[-1].op
        while isinstance(op, (View, Cast)):
            op = op.x.op
        return "x" if op is None or len(set(values)) > 1 else op.kind
    split = [name.split(".") for name in named]
    if len({len(parts) for parts in split}) != 1:
        return "x"
    differing = [at for at, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1]
    rest = split[0][differing[-1] + 1 :] if differing else split[0]
    return ".".join(rest) or "x"


def _name(value: Value) -> str:
    return value.op.name if isinstance(value.op, Weight) else value.name
