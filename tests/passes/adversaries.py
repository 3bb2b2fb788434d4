"""Models that mix tokens where a careless derivation would not see it, and odd ones that are fine.

Each is a function of hidden states f32[B,S,WIDTH] and tokens i64[B,S], put between an embedding and
a head by `model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.binary import Add, And, Div, Eq, FloorDiv, Gt, Le, Lt, Minimum, Mod, Mul, Or, Sub
from hetc.ir.ops.elementwise import Where
from hetc.ir.ops.index import Embedding, PutAlong, TakeAlong
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.reduce import CumSum, Sum
from hetc.ir.ops.sequence import Conv1dCausal, Scan
from hetc.ir.ops.shape import Broadcast, Concat, Flip, Pad, Reshape, Slice, Split, Transpose
from hetc.ir.ops.source import Constant, Full, Iota
from hetc.ir.ops.unary import Cast, Sigmoid, Sin
from hetc.ir.types import F16, F32, I8, I64, DType, TensorType
from tests.passes.blocks import LOWEST, B, S, weight

WIDTH, VOCABULARY, CONTEXT = 8, 13, 64
Mixer = Callable[[Value, Value], Value]
QUERY, KEY = Reshape(Iota(S).result, (S, 1)).result, Reshape(Iota(S).result, (1, S)).result
SEEN = Le(KEY, QUERY).result
POSITION = Cast(Iota(S).result, F32).result
DISTANCE = Cast(Sub(KEY, QUERY).result, F32).result


def model(mixer: Mixer) -> Graph:
    """forward(tokens i64[B,S]) -> logits f32[B,S,VOCABULARY] with `mixer` in its middle."""
    builder = GraphBuilder("forward")
    tokens = builder.input("tokens", TensorType(I64, (B, S)))
    hidden = Embedding(weight("embed", VOCABULARY, WIDTH), tokens, loc="embed").result
    logits = Linear(mixer(hidden, tokens), weight("head", VOCABULARY, WIDTH), loc="head")
    builder.add(logits)
    return builder.finish([logits.result], ["logits"])


def heads(x: Value, name: str, count: int = 2, width: int = 4) -> Value:
    """A projection of `x [B,S,*]` as `[B, count, S, width]`."""
    inner = x.shape[-1]
    assert isinstance(inner, int)
    flat = Linear(x, weight(name, count * width, inner), loc=name).result
    return Transpose(Reshape(flat, (B, S, count, width)).result, (0, 2, 1, 3)).result


def merged(x: Value) -> Value:
    width: DimLike = x.shape[1] * x.shape[3]
    return Reshape(Transpose(x, (0, 2, 1, 3)).result, (B, S, width)).result


def attend(x: Value, mask: Value | None = SEEN, **given: Any) -> Value:
    """Attention of `x`; `q`, `k` and `v` may be given, as may attributes."""
    q, k, v = (given.pop(name, None) or heads(x, name) for name in "qkv")
    return merged(Attention(q, k, v, mask, scale=0.5, loc="attn", **given).result)


def turned(x: Value) -> Value:
    return Transpose(x, (0, 2, 1)).result


def positions(name: str) -> Value:
    """A learned row a position, for every sequence: f32[B,S,WIDTH]."""
    rows = Embedding(weight(name, CONTEXT, WIDTH), Iota(S).result).result
    return Broadcast(Reshape(rows, (1, S, WIDTH)).result, (B, S, WIDTH)).result


def convolved(x: Value, name: str) -> Value:
    """Heads [B,2,S,4] of a causal convolution of `x [B,C,S]` that widens it."""
    channels = x.shape[1]
    assert isinstance(channels, int)
    widened = Conv1dCausal(x, weight(name, WIDTH, channels, 3)).result
    return Transpose(Reshape(turned(widened), (B, S, 2, 4)).result, (0, 2, 1, 3)).result


def latent_convolutions(x: Value, tokens: Value) -> Value:
    latent = turned(Linear(x, weight("c", 4, WIDTH)).result)
    return attend(x, k=convolved(latent, "kc"), v=convolved(latent, "vc"))


def keys_from_windowed_attention(x: Value, tokens: Value) -> Value:
    q = heads(positions("pos"), "q1", 8, 2)
    k, v = heads(x, "k1", 1, 2), heads(x, "v1", 1, 2)
    inner = merged(Attention(q, k, v, scale=0.5, causal=True, window=3).result)
    wide = Transpose(Reshape(inner, (B, S, 4, 4)).result, (0, 2, 1, 3)).result
    outer = attend(x, q=heads(x, "q2", 4), k=wide, v=wide)
    return Linear(outer, weight("o", WIDTH, 16)).result


def value_that_asks(x: Value, tokens: Value) -> Value:
    v = heads(x, "v")
    inner = Attention(heads(x, "q"), heads(x, "k"), v, SEEN, scale=0.5).result
    return attend(x, q=v, k=inner, v=v)


def two_windows(x: Value, tokens: Value) -> Value:
    k, v = heads(x, "k"), heads(x, "v")
    near, far = (attend(x, None, k=k, v=v, causal=True, window=n) for n in (2, 5))
    return Add(near, far).result


def same_three(x: Value, tokens: Value) -> Value:
    same = heads(x, "h")
    return attend(x, q=same, k=same, v=same)


def with_history(x: Value, tokens: Value) -> Value:
    before = Broadcast(Reshape(weight("before", WIDTH, 2), (1, WIDTH, 2)).result, (B, WIDTH, 2))
    return turned(Conv1dCausal(turned(x), weight("c", 8, 8, 3), None, before.result).result)


def numbers_of_tokens(x: Value, tokens: Value) -> Value:
    table = Broadcast(Reshape(weight("table", VOCABULARY), (1, VOCABULARY)).result, (B, VOCABULARY))
    picked = TakeAlong(table.result, tokens, 1).result
    return Mul(x, Reshape(picked, (B, S, 1)).result).result


def totals(x: Value, axis: int = 1) -> Value:
    return CumSum(x, axis).result


def totals_as(x: Value, dtype: DType) -> Value:
    return Cast(totals(Cast(x, dtype).result), F32).result


def mean_so_far(x: Value, tokens: Value) -> Value:
    steps = Cast(Reshape(Iota(S, 1).result, (S, 1)).result, F32).result
    return Div(totals(x), steps).result


def rows_by_tokens_so_far(x: Value, tokens: Value) -> Value:
    return Embedding(weight("table", CONTEXT, WIDTH), Mod(totals(tokens), CONTEXT).result).result


def tokens_first(x: Value, tokens: Value) -> Value:
    return Transpose(totals(Transpose(x, (1, 0, 2)).result, 0), (1, 0, 2)).result


def wrapping(x: Value, tokens: Value) -> Value:
    return Mul(x, Reshape(totals_as(Mul(tokens, 20).result, I8), (B, S, 1)).result).result


CHUNKS = And(SEEN, Eq(FloorDiv(KEY, 4).result, FloorDiv(QUERY, 4).result).result).result
EVEN = And(SEEN, Eq(Mod(Sub(QUERY, KEY).result, 2).result, 0).result).result
NEAR = And(SEEN, Gt(KEY, Sub(QUERY, 4).result).result).result
ANCHORED = And(SEEN, Or(Lt(KEY, 2).result, Gt(KEY, Sub(QUERY, 4).result).result).result).result
ALIBI = Mul(DISTANCE, 0.5).result
SINKS = weight("sinks", 2)
ROW_SHIFT = Broadcast(Mul(Cast(QUERY, F32).result, 0.5).result, (S, S)).result
STEEP_F16 = Mul(Cast(DISTANCE, F16).result, 4.0).result
WIGGLE = Add(ALIBI, Mul(Sin(Cast(KEY, F32).result).result, 1e-3).result).result

EXACT: dict[str, Mixer] = {
    "chunks": lambda x, t: attend(x, CHUNKS),
    "window_and_chunks": lambda x, t: attend(x, CHUNKS, window=3),
    "window_and_parity": lambda x, t: attend(x, EVEN, window=3),
    "parity": lambda x, t: attend(x, EVEN),
    "mask_of_keys_alone": lambda x, t: attend(x, Sin(POSITION).result, causal=True),
    "mask_of_one_number": lambda x, t: attend(x, Full(0.5, ()).result, causal=True),
    "alibi_in_anchored_window": lambda x, t: attend(x, Where(ANCHORED, ALIBI, LOWEST).result),
    "alibi_in_window": lambda x, t: attend(x, Where(NEAR, ALIBI, LOWEST).result),
    "nearly_alibi": lambda x, t: attend(x, Where(SEEN, WIGGLE, LOWEST).result),
    "alibi_in_other_chunks": lambda x, t: attend(x, Where(CHUNKS, ALIBI, LOWEST).result, chunk=6),
    "steep_alibi_f16": lambda x, t: attend(x, STEEP_F16, causal=True),
    "row_shift_beside_sinks": lambda x, t: attend(x, ROW_SHIFT, causal=True, sinks=SINKS),
    "alibi_from_zero_beside_sinks": lambda x, t: attend(
        x, Mul(POSITION, 0.5).result, causal=True, sinks=SINKS
    ),
    "alibi_beside_sinks": lambda x, t: attend(x, ALIBI, causal=True, sinks=SINKS),
    "keys_of_positions": lambda x, t: attend(x, k=heads(positions("pos"), "k")),
    "keys_and_values_of_positions": lambda x, t: attend(
        x, k=heads(positions("pos"), "k"), v=heads(positions("pos"), "v")
    ),
    "queries_of_positions": lambda x, t: attend(x, q=heads(positions("pos"), "q")),
    "one_value_as_query_key_and_value": same_three,
    "value_that_asks": value_that_asks,
    "keys_from_windowed_attention": keys_from_windowed_attention,
    "two_windows_on_one_key": two_windows,
    "latent_convolutions": latent_convolutions,
    "convolution_with_history": with_history,
    "numbers_of_tokens": numbers_of_tokens,
    "running_sum": lambda x, t: totals(x),
    "running_mean": mean_so_far,
    "running_sum_without_the_present": lambda x, t: Sub(totals(x), x).result,
    "running_sum_of_running_sums": lambda x, t: totals(totals(x)),
    "running_sum_with_tokens_first": tokens_first,
    "running_sum_with_tokens_last": lambda x, t: turned(totals(turned(x), -1)),
    "running_sum_f16": lambda x, t: totals_as(Mul(x, 100.0).result, F16),
    "running_sum_that_wraps": wrapping,
    "running_sum_of_tokens": rows_by_tokens_so_far,
    "running_sum_in_keys": lambda x, t: attend(x, k=heads(totals(x), "k")),
    "running_sum_of_attention": lambda x, t: totals(attend(x)),
    "fixed_decay": lambda x, t: Scan(x, 0.5).result,
}


def table_rows(x: Value, tokens: Value) -> Value:
    ids = Reshape(Minimum(tokens, 4).result, (B * S, 1)).result
    picked = TakeAlong(weight("table", CONTEXT, 5), ids, 1).result
    return Add(x, Reshape(picked, (B, S, 1)).result).result


def tokens_of_tokens(x: Value, tokens: Value) -> Value:
    picked = TakeAlong(tokens, Minimum(tokens, 0).result, 1).result
    return Embedding(weight("other", VOCABULARY, WIDTH), picked).result


def first_token_only(x: Value, tokens: Value) -> Value:
    flat = Reshape(x, (B * S, WIDTH)).result
    written = PutAlong(flat, Constant(((0, 1),), I64).result, Full(9.0, (1, 2)).result, 1).result
    return Reshape(written, (B, S, WIDTH)).result


def wide(x: Value, copies: int) -> Value:
    return Concat((x,) * copies, 2).result


def summed(x: Value) -> Value:
    return Sum(x, (2,), True).result


def last_state(x: Value, tokens: Value) -> Value:
    last = Scan(x, Sigmoid(x).result).results[1]
    return Add(x, Reshape(last, (B, 1, WIDTH)).result).result


def last_sum(x: Value, tokens: Value) -> Value:
    return Add(x, Slice(totals(x), 1, S - 1, S).result).result


def sum_across(x: Value, shape: tuple[DimLike, ...], axis: int) -> Value:
    return Reshape(totals(Reshape(x, shape).result, axis), (B, S, WIDTH)).result


def sum_backwards(x: Value, tokens: Value) -> Value:
    return Flip(totals(Flip(x, (1,)).result), (1,)).result


def by_length(x: Value, tokens: Value) -> Value:
    squared = Mul(Full(S, (S, 1)).result, Full(S, (S, 1)).result).result
    return Mul(x, Where(Gt(squared, 2000).result, 2.0, 1.0, F32).result).result


ONES = Full(1.0, (S, S)).result
REFUSED: dict[str, tuple[str, Mixer]] = {
    "sum_over_ones": (
        "HETC-S014",
        lambda x, t: Add(x, summed(Mul(Slice(x, 2, 0, 1).result, ONES).result)).result,
    ),
    "sum_over_copies": (
        "HETC-S014",
        lambda x, t: Add(x, summed(Broadcast(Slice(x, 2, 0, 1).result, (B, S, S)).result)).result,
    ),
    "last_state_of_a_scan": ("HETC-S014", last_state),
    "last_of_a_running_sum": ("HETC-S014", last_sum),
    "running_sum_backwards": ("HETC-S014", sum_backwards),
    "running_sum_across_sequences": ("HETC-S014", lambda x, t: sum_across(x, (B * S, WIDTH), 0)),
    "running_sum_across_features": ("HETC-S014", lambda x, t: sum_across(x, (B, S * WIDTH), 1)),
    "decay_by_length": ("HETC-S014", lambda x, t: Scan(x, S).result),
    "column_chosen_by_length": (
        "HETC-S014",
        lambda x, t: Add(x, Slice(wide(x, 10), 2, S, S + 1).result).result,
    ),
    "split_by_length": (
        "HETC-S014",
        lambda x, t: Add(x, summed(Split(wide(x, 8), 2, (S, 64 - S)).results[0])).result,
    ),
    "shifted_by_length": ("HETC-S014", lambda x, t: Pad(x, (0, 0, S), (0, 0, -1 * S)).result),
    "table_rows_by_place": ("HETC-S014", table_rows),
    "tokens_of_tokens": ("HETC-S014", tokens_of_tokens),
    "first_token_only": ("HETC-S014", first_token_only),
    "reversed_twice": ("HETC-S014", lambda x, t: Flip(Flip(x, (1,)).result, (1,)).result),
    "heads_without_transpose": (
        "HETC-S014",
        lambda x, t: attend(x, q=Reshape(x, (B, 2, S, 4)).result),
    ),
    "length_squared": ("HETC-S015", by_length),
    "length_beside_sinks": (
        "HETC-S015",
        lambda x, t: attend(
            x, Mul(Cast(Full(S, (S, S)).result, F32).result, 0.1).result, causal=True, sinks=SINKS
        ),
    ),
    "own_output_in_its_mask": (
        "HETC-S010",
        lambda x, t: attend(x, Add(ALIBI, Slice(heads(x, "m"), 3, 0, 1).result).result),
    ),
    "shown_by_numbers": (
        "HETC-S011",
        lambda x, t: attend(
            x,
            Cast(And(SEEN, Gt(Slice(heads(x, "m"), 3, 0, 1).result, 0).result).result, F32).result,
        ),
    ),
    "future_by_arithmetic": (
        "HETC-S012",
        lambda x, t: attend(
            x,
            Or(
                SEEN,
                And(Eq(Mul(QUERY, QUERY).result, 2809).result, Eq(KEY, 54).result).result,
            ).result,
        ),
    ),
    "prefix": ("HETC-S012", lambda x, t: attend(x, Or(SEEN, Lt(KEY, 3).result).result)),
}
