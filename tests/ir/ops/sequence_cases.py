"""Ops along the sequence, attention above all, against loops over single numbers."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hetc.ir.types import BOOL, F32
from tests.ir.ops.oracle import ANY, FLOATS, NUMBERS, Draw, Trial, as_torch, case, narrow, wide


@case("rope", dtypes=FLOATS)
def rope(draw: Draw) -> Trial:
    batch, heads, rows, pairs = draw.shape(4, 4, most=3)
    width = 2 * pairs + draw.choice([0, 1, 2])
    x, interleaved = draw.array(batch, heads, rows, width), draw.flag()
    angles = draw.array(rows, pairs, dtype=F32)
    spread = np.repeat(angles, 2, -1) if interleaved else np.concatenate([angles, angles], -1)
    expected = x.astype(np.float32)
    for place in np.ndindex(batch, heads, rows):
        for pair in range(pairs):
            one, two = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + pairs)
            point = complex(x[(*place, one)], x[(*place, two)])
            turned = point * cmath.exp(1j * float(angles[place[2], pair]))
            expected[(*place, one)], expected[(*place, two)] = turned.real, turned.imag
    fields = {"x": x, "cos": np.cos(spread), "sin": np.sin(spread), "interleaved": interleaved}
    return Trial(fields, [expected.astype(x.dtype)])


@case("attention", dtypes=FLOATS)
def attention(draw: Draw) -> Trial:
    batch, groups, rows, width, values = draw.shape(5, 5, most=3)
    heads = groups * draw.integer(1, 2)
    length = rows + draw.integer(0, 3)
    q = draw.array(batch, heads, rows, width)
    k = draw.array(batch, groups, length, width)
    v = draw.array(batch, groups, length, values)
    kind = draw.choice([None, BOOL, F32])
    scores = (batch, heads, rows, length)
    mask = None if kind is None else draw.array(*draw.under(scores), dtype=kind)
    fields = {
        "q": q,
        "k": k,
        "v": v,
        "mask": mask,
        "sinks": draw.array(heads) if draw.flag() else None,
        "slopes": draw.array(heads, dtype=F32) if draw.flag() else None,
        "scale": draw.choice([1.0, 0.35]),
        "softcap": draw.choice([None, 2.0]),
        "causal": draw.flag(),
        "window": draw.choice([None, 1, 2]),
        "chunk": draw.choice([None, 2]),
    }
    expected = np.zeros((batch, heads, rows, values))
    for place in np.ndindex(batch, heads, rows):
        weights = _weights(place, fields, scores)
        group = place[1] // (heads // groups)
        for column in range(values):
            expected[(*place, column)] = sum(
                weight * float(v[place[0], group, key, column])
                for key, weight in enumerate(weights)
            )
    return Trial(fields, [expected.astype(q.dtype)])


def _weights(
    place: tuple[int, ...], fields: dict[str, Any], scores: tuple[int, ...]
) -> list[float]:
    """What a query gives to each key."""
    batch, head, row = place
    _, heads, rows, length = scores
    position = length - rows + row
    group = head // (heads // fields["k"].shape[1])
    query, keys, mask = fields["q"][batch, head, row], fields["k"][batch, group], fields["mask"]
    logits = []
    for index, key in enumerate(keys):
        pairs = zip(query, key, strict=True)
        score = sum(float(a) * float(b) for a, b in pairs) * fields["scale"]
        if fields["softcap"]:
            score = fields["softcap"] * math.tanh(score / fields["softcap"])
        if fields["slopes"] is not None:
            score += float(fields["slopes"][head]) * (index - position)
        seen = not fields["causal"] or index <= position
        seen = seen and (not fields["window"] or position - index < fields["window"])
        chunk = fields["chunk"]
        seen = seen and (not chunk or position // chunk == index // chunk)
        if mask is not None:
            element = np.broadcast_to(mask, scores)[batch, head, row, index]
            if mask.dtype == bool:
                seen = seen and bool(element)
            else:
                score += float(element)
        logits.append(score if seen else -math.inf)
    sink = [] if fields["sinks"] is None else [float(fields["sinks"][head])]
    top = max(*logits, *sink, -1e30)
    weights = [math.exp(score - top) for score in (*logits, *sink)]
    total = sum(weights)
    return [weight / total if total else 0.0 for weight in weights][:length]


@case("attention")
def attention_like_torch(draw: Draw) -> Trial:
    batch, groups, rows, width = draw.shape(4, 4)
    heads = groups * 2
    q, k, v = (draw.array(batch, h, rows, width) for h in (heads, groups, groups))
    expected = F.scaled_dot_product_attention(
        as_torch(q), as_torch(k), as_torch(v), is_causal=True, scale=0.3, enable_gqa=True
    )
    return Trial({"q": q, "k": k, "v": v, "scale": 0.3, "causal": True}, [expected])


@case("kv_append", dtypes=ANY)
def kv_append(draw: Draw) -> Trial:
    shape = draw.shape(1)
    axis = draw.axis(shape)
    longer = list(shape)
    longer[axis] = draw.integer(0, 3)
    past, new = draw.array(*longer), draw.array(*shape)
    expected = torch.cat([as_torch(past), as_torch(new)], axis)
    return Trial({"past": past, "new": new, "axis": axis}, [expected])


@case("keep_last", dtypes=ANY)
def keep_last(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    axis, rows = draw.axis(x.shape), draw.integer(0, 5)
    kept = min(rows, x.shape[axis])
    expected = as_torch(x).narrow(axis, x.shape[axis] - kept, kept)
    return Trial({"x": x, "axis": axis, "rows": rows}, [expected])


@case("conv1d_causal", dtypes=FLOATS)
def conv1d_causal(draw: Draw) -> Trial:
    batch, rows, per_group, outputs, groups = draw.shape(5, 5, most=3)
    taps = draw.integer(1, 4)
    x = draw.array(batch, per_group * groups, rows)
    weight = draw.array(outputs * groups, per_group, taps)
    bias = draw.array(outputs * groups) if draw.flag() else None
    history = draw.array(batch, per_group * groups, taps - 1) if draw.flag() else None
    before = torch.zeros(batch, per_group * groups, taps - 1) if history is None else wide(history)
    expected = F.conv1d(
        torch.cat([before, wide(x)], 2),
        wide(weight),
        None if bias is None else wide(bias),
        groups=groups,
    )
    fields = {"x": x, "weight": weight, "bias": bias, "history": history, "groups": groups}
    return Trial(fields, [narrow(expected, x)])


@case("scan", dtypes=NUMBERS)
def scan(draw: Draw) -> Trial:
    shape = draw.shape(1, 3)
    axis = draw.axis(shape)
    x = draw.array(*shape)
    decay = draw.choice([draw.array(*shape, low=0, high=1), 1, 2])
    maximum = draw.dtype in FLOATS and draw.flag()
    rates = wide(decay) if isinstance(decay, np.ndarray) else torch.full(shape, decay)
    rest = tuple(size for place, size in enumerate(shape) if place != axis % len(shape))
    initial = draw.array(*rest) if draw.flag() else None
    state = torch.zeros(rest, dtype=wide(x).dtype) if initial is None else wide(initial)
    states = []
    for step in range(shape[axis]):
        rate, now = rates.select(axis, step), wide(x).select(axis, step)
        state = torch.maximum(rate + state, now) if maximum else rate * state + now
        states.append(state)
    expected = [narrow(torch.stack(states, axis), x), narrow(state, x)]
    fields = {"x": x, "decay": decay, "initial": initial, "axis": axis, "maximum": maximum}
    return Trial(fields, expected)


@case("linear_attention", dtypes=FLOATS)
def linear_attention(draw: Draw) -> Trial:
    """The state as a sum over all earlier tokens: each outer product times what came after it."""
    batch, groups, length, rows, columns = draw.shape(5, 5, most=3)
    heads = groups * draw.integer(1, 2)
    q, k = (draw.array(batch, groups, length, rows, low=-1, high=1) for _ in range(2))
    v = draw.array(batch, heads, length, columns, low=-1, high=1)
    decay = draw.array(batch, heads, length, draw.choice([1, rows]), low=0, high=1)
    beta = draw.array(batch, heads, length, 1, low=0, high=0.5) if draw.flag() else None
    initial = draw.array(batch, heads, rows, columns, low=-1, high=1) if draw.flag() else None
    every, last = torch.zeros(v.shape), torch.zeros(batch, heads, rows, columns)
    for b, h in np.ndindex(batch, heads):
        keys, queries = (wide(x)[b, h // (heads // groups)] for x in (k, q))
        # One step takes M to A M + B.
        steps = []
        for t in range(length):
            a = torch.diag(wide(decay)[b, h, t].expand(rows))
            write = torch.outer(keys[t], wide(v)[b, h, t])
            if beta is not None:
                rate = wide(beta)[b, h, t]
                a = (torch.eye(rows) - rate * torch.outer(keys[t], keys[t])) @ a
                write = rate * write
            steps.append((a, write))
        for t in range(length):
            after = torch.eye(rows)
            state = torch.zeros(rows, columns)
            for a, write in reversed(steps[: t + 1]):
                state = state + after @ write
                after = after @ a
            if initial is not None:
                state = state + after @ wide(initial)[b, h]
            every[b, h, t] = queries[t] @ state
            last[b, h] = state
    fields = {"q": q, "k": k, "v": v, "decay": decay, "beta": beta, "initial": initial}
    return Trial(fields, [narrow(every, v), narrow(last, v)])
