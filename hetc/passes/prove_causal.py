"""Prove causality: every attention's mask is evaluated, classified, and replaced by what it means.

After the pass an attention is `causal`, has a `window` or a `chunk`, may have ALiBi `slopes`, or
keeps a mask that was shown to hide the future. What cannot be shown is an error that names the op.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hetc.errors import StateError
from hetc.ir.graph import Graph, rebuild
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.source import Constant
from hetc.ir.types import F16, Array
from hetc.passes.index_only import IndexOnly
from hetc.passes.probe import Probe, probe_mask
from hetc.passes.token_bias import positional_part

# An addend below this hides a key for certain, whatever finite score it is added to.
HIDDEN = float(np.finfo(np.float32).min) / 1000
HIDDEN_F16 = float(np.finfo(np.float16).min) / 2
# Of the largest bias: what f32 loses between two ways of computing one line.
ROUNDING = 1e-6


@dataclass(frozen=True)
class MaskClass:
    """What a mask means. `keep`: it is causal but has no shorter description, so it stays as a
    mask."""

    causal: bool = True
    window: int | None = None
    chunk: int | None = None
    slopes: tuple[float, ...] | None = None
    keep: bool = False

    def describe(self) -> str:
        """For people: `causal`, `sliding window 4096`, ..."""
        if self.keep:
            return "causal, irregular"
        base = (
            f"sliding window {self.window}"
            if self.window
            else f"chunks of {self.chunk}"
            if self.chunk
            else "causal"
        )
        return base + (" with ALiBi" if self.slopes else "")


@dataclass(frozen=True)
class Proof:
    """The graph with proven attention, and how many attentions have which kind of mask."""

    graph: Graph
    kinds: dict[str, int]

    @property
    def facts(self) -> tuple[str, ...]:
        """A sentence for each kind: `30 attention masks proven causal`."""
        return tuple(
            f"{count} attention {'mask' if count == 1 else 'masks'} proven {kind}"
            for kind, count in sorted(self.kinds.items())
        )


def prove_causal(graph: Graph, weights: WeightLookup, max_context: int) -> Proof:
    """Classify the mask of every attention in `graph` for sequences of up to `max_context`
    positions.

    Raises StateError: HETC-S010 (full attention), HETC-S011 (a mask that depends on data),
    HETC-S012 (a mask that shows the future), HETC-S013 (a row that sees nothing), HETC-S020 (cannot
    be evaluated).
    """
    index_only = IndexOnly()
    classes: dict[tuple[Value, bool, bool], MaskClass] = {}
    kinds: dict[str, int] = {}

    def step(op: Op) -> Op | None:
        if not isinstance(op, Attention):
            return None
        if op.q.shape[2] != op.k.shape[2]:
            raise StateError(
                "HETC-S016",
                "decode cannot be derived: queries and keys differ in length",
                at=op.loc,
                found=f"{op.q.shape[2]} queries, {op.k.shape[2]} keys",
            )
        found, bias = MaskClass(op.causal, op.window, op.chunk), None
        if op.mask is not None:
            mask: Value | None = op.mask
            if not index_only(op.mask):
                hidden = HIDDEN_F16 if op.mask.dtype is F16 else HIDDEN
                mask = positional_part(op.mask, hidden, index_only)
            if mask is None:
                raise StateError(
                    "HETC-S011",
                    "decode cannot be derived: a mask depends on data",
                    at=op.loc,
                    found=f"mask {op.mask.type} computed from the tokens",
                    do="export the model without that mask",
                )
            case = (mask, op.causal, op.sinks is not None)
            known = classes.get(case)
            if known is None:
                known = classify(
                    mask, weights, max_context, op.loc, causal=op.causal, sinks=case[2]
                )
                classes[case] = known
            if mask is not op.mask:
                # Beside what positions hide, the mask says what tokens add.
                known, bias = replace(known, keep=True), known.describe()
            found = _meet(op, known)
        if not found.causal:
            raise not_causal(op.loc)
        kind = found.describe() if bias is None else f"{bias} with a bias of the tokens"
        kinds[kind] = kinds.get(kind, 0) + 1
        return _apply(op, found)

    return Proof(rebuild(graph, step), kinds)


def not_causal(
    loc: str, found: str = "every position sees every other (mask is full)"
) -> StateError:
    """The error for bidirectional attention."""
    return StateError(
        "HETC-S010",
        "decode cannot be derived: attention is not causal",
        at=loc,
        found=found,
        do="export the model as a decoder (is_decoder=True): hetc splits causal models only",
    )


def _meet(op: Attention, mask: MaskClass) -> MaskClass:
    """What the attention's own attributes and its mask leave visible together."""
    windows = [window for window in (op.window, mask.window) if window is not None]
    # Two kinds of chunks, or two biases, have no common description.
    chunks = op.chunk is not None and mask.chunk not in (None, op.chunk)
    biases = op.slopes is not None and mask.slopes is not None
    keep = mask.keep or chunks or biases
    return MaskClass(
        window=min(windows, default=None),
        chunk=op.chunk or mask.chunk,
        # A mask that stays adds its bias itself.
        slopes=None if keep else mask.slopes,
        keep=keep,
    )


def _apply(op: Attention, found: MaskClass) -> Op:
    slopes = op.slopes
    if found.slopes is not None:
        heads = op.q.shape[1]
        assert isinstance(heads, int)
        # One slope for all heads stands once in the mask.
        each = found.slopes * (heads // len(found.slopes))
        literal = Constant(each, loc=op.loc).result
        slopes = (
            literal if op.q.dtype is literal.dtype else Cast(literal, op.q.dtype, loc=op.loc).result
        )
    changes = {"causal": True, "window": found.window, "chunk": found.chunk, "slopes": slopes}
    return op.replace(**changes) if found.keep else op.replace(**changes, mask=None)


def classify(
    mask: Value,
    weights: WeightLookup,
    max_context: int,
    loc: str,
    *,
    causal: bool = False,
    sinks: bool = False,
) -> MaskClass:
    """What the index-only `mask` means, proven at positions around every constant in its subgraph.

    `causal`: the attention hides the future by itself. `sinks`: it has logits beside the keys', so
    that a shift of all keys of a row changes the result.
    """
    *shorter, longest = probe_mask(mask, weights, max_context)
    if np.isnan(longest.array).any():
        raise StateError(
            "HETC-S023",
            "decode cannot be derived: a mask neither shows nor hides some keys",
            at=loc,
            found="what the scores are multiplied by is neither 0 nor 1",
            do="export the model with a bool mask, or one that is added",
        )
    hidden_everywhere = HIDDEN_F16 if mask.dtype is F16 else HIDDEN
    for probe in shorter:
        size = len(probe.positions)
        if not _agree(probe.array, longest.array[..., :size, :size], hidden_everywhere, sinks):
            raise StateError(
                "HETC-S015",
                "decode cannot be derived: a mask or bias changes with the length of the sequence",
                at=loc,
                found=f"other values at length {longest.length} than at {probe.length}",
                do="export the model for one length regime, or bound the context with --context",
            )
    array = longest.array
    visible = array if array.dtype == np.bool_ else array > hidden_everywhere
    if causal:
        visible = visible & (longest.positions[:, None] >= longest.positions[None, :])
    elif visible.all() and array.min() <= -1e3:
        low = f"the mask adds no less than {float(array.min()):g}, which hides nothing for certain"
        raise not_causal(loc, low)
    found = _classify_visible(visible, longest, loc)
    if array.dtype == np.bool_:
        return found
    return _with_bias(found, np.where(visible, array, 0), visible, longest, sinks)


def _agree(a: Array, b: Array, hidden: float, sinks: bool) -> bool:
    if a.dtype == np.bool_:
        return bool((a == b).all())
    # Softmax does not see a shift that is constant along the keys.
    both_hidden = (a <= hidden) & (b <= hidden)
    if ((a <= hidden) != (b <= hidden)).any():
        return False
    shift = np.where(both_hidden, np.nan, b - np.where(both_hidden, 0, a))
    return bool(np.nanmax(_spread(shift, sinks), initial=0) <= 1e-4)


def _spread(shift: Array, sinks: bool) -> Array:
    """By how much a shift of scores differs from one that softmax does not see, a row."""
    low: Array = -np.nanmax(np.abs(shift), axis=-1) if sinks else np.nanmin(shift, axis=-1)
    high: Array = np.zeros_like(low) if sinks else np.nanmax(shift, axis=-1)
    return high - low


def _classify_visible(visible: Array, probe: Probe, loc: str) -> MaskClass:
    query, key = probe.positions[:, None], probe.positions[None, :]
    future = key > query
    if future.any() and visible.all():
        raise not_causal(loc)
    shown = visible & future
    if shown.any():
        *_, row, column = (int(axis[0]) for axis in np.nonzero(shown))
        raise StateError(
            "HETC-S012",
            "decode cannot be derived: attention is not causal",
            at=loc,
            found=f"position {probe.positions[row]} sees position {probe.positions[column]}",
            do="export the model as a decoder (is_decoder=True): hetc splits causal models only",
        )
    if not visible.any(axis=-1).all():
        raise StateError(
            "HETC-S013",
            "decode cannot be derived: a position sees nothing, not even itself",
            at=loc,
        )
    past = ~future
    if (visible == past).all():
        return MaskClass()
    distance = query - key
    gaps = distance[past & ~visible.all(axis=(0, 1))]
    window = int(gaps.min())
    # Between the farthest key seen and the nearest hidden one there must be no room for another.
    exact = bool((distance == window - 1).any())
    if exact and (visible == (past & (distance < window))).all():
        return MaskClass(window=window)
    first_cut = int(np.broadcast_to(query, future.shape)[past & ~visible.all(axis=(0, 1))].min())
    exact = bool((probe.positions == first_cut - 1).any())
    if exact and (visible == (past & (query // first_cut == key // first_cut))).all():
        return MaskClass(chunk=first_cut)
    return MaskClass(keep=True)


def _with_bias(
    found: MaskClass, bias: Array, visible: Array, probe: Probe, sinks: bool
) -> MaskClass:
    if found.keep or not bias.any():
        return found
    # ALiBi up to a shift that softmax does not see: bias[i, j] = slope * (j - i) + c[i] wherever j
    # is visible.
    key = probe.positions.astype(np.float32)
    last = bias[:, :, -1, :]
    span = key[-1] - key[0]
    slopes = (last[..., -1] - last[..., 0]) / span if visible[..., -1, 0].all() and span else None
    if slopes is None:
        return replace(found, keep=True)
    expected = slopes[..., None, None] * (key[None, :] - key[:, None])
    spread = _spread(np.where(visible, bias - expected, np.nan), sinks)
    scale = max(1.0, float(np.abs(bias).max()))
    same_for_all = slopes.shape[0] == 1
    if same_for_all and float(np.nanmax(spread)) <= ROUNDING * scale:
        return replace(found, slopes=tuple(float(slope) for slope in slopes[0]))
    return replace(found, keep=True)
