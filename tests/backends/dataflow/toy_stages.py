"""The stages and buffers of the toy plan, as tables."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.dataflow.schema import Template

BATCH, PAST = 2, 64
X_BYTES = BATCH * 64 * 2
Streams = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Row:
    """A stage in a line: its ops by name, dependences, lanes, other units (x, r, b), streams.

    A stream is its tensors and its bytes. A dependence that is carried ends in `'`, one by stream
    in `~`.
    """

    id: str
    template: Template
    ops: str
    depends: str
    lanes: int
    others: tuple[int, int, int] = (0, 0, 0)
    streams: Streams = ()


def stage_rows(n: int, kept: int) -> dict[str, list[Row]]:
    """Block -> its stages, over n sockets; `kept` rows of the state are read."""
    return {"pre": _pre(), "layers": _layer(n, kept), "post": _post(n)}


def _pre() -> list[Row]:
    rotary, embed = (("rates", 32),), (("embed", X_BYTES),)
    return [
        Row("rotary", "elementwise", "as_float angles cos_now sin_now", "", 1, streams=rotary),
        Row("embed", "lookup", "embedded", "", 1, streams=embed),
    ]


def _layer(n: int, kept: int) -> list[Row]:
    q, k, f, past = 64 // n, 32 // n, 128 // n, BATCH * kept * 32 // n
    projections = "q_flat k_flat v_flat q_split k_split v_split q_heads k_heads v_heads"
    attention = "keys values mixed rows joined"
    states: Streams = (("key", 2 * past), ("value", 2 * past))
    gateup: Streams = (("gate", 128 * f), ("up", 128 * f))
    norm1, norm2, down = (("norm1", 128),), (("norm2", 128),), (("down", 128 * f),)
    qkv, o = (("q k v", 128 * (q + 2 * k)),), (("o", 128 * q),)
    summed = n > 1
    sums = {
        "o": Row("o.sum", "all_reduce", "o_sum", "o", 0, (0, 0, 1)),
        "down": Row("down.sum", "all_reduce", "down_sum", "down", 0, (0, 0, 1)),
    }
    behind_o, behind_down = ("o.sum", "down.sum") if summed else ("o", "down")
    residual = f"{behind_o} embed add2'"
    return [
        Row("norm1", "norm", "normed", "embed add2'", 1, streams=norm1),
        Row("qkv", "gemv", projections, "norm1", 2, (1, 0, 1), qkv),
        Row("rope", "rotary", "q_turned k_turned", "qkv rotary", 1),
        Row("attend", "attention", attention, "rope qkv", 2, streams=states),
        Row("o", "gemv", "o_part", "attend", 2, (0, 0, 1), o),
        *([sums["o"]] if summed else []),
        Row("norm2", "norm", "attended normed2", residual, 1, streams=norm2),
        Row("gateup", "gemv", "gate_out up_out gated", "norm2", 2, (2, 1, 1), gateup),
        Row("down", "gemv", "down_part", "gateup~", 2, streams=down),
        *([sums["down"]] if summed else []),
        Row("add2", "elementwise", "out", f"{behind_down} norm2", 1),
    ]


def _post(n: int) -> list[Row]:
    return [
        Row("norm", "norm", "final", "add2", 1, streams=(("norm", 128),)),
        Row("head", "gemv", "logits", "norm", 2, (1, 0, 0), (("head", 128 * 256 // n),)),
    ]


def buffer_rows(n: int) -> dict[str, list[tuple[str, str, int]]]:
    """Block -> producer, consumers and bytes of its buffers, over n sockets."""
    q, k, f = BATCH * 2 * 64 // n, BATCH * 2 * 32 // n, BATCH * 2 * 128 // n
    o, down = ("o.sum", "down.sum") if n > 1 else ("norm2", "add2")
    sums = [("o.sum", "norm2", X_BYTES), ("down.sum", "add2", X_BYTES)] if n > 1 else []
    layers = [
        ("norm1", "qkv", X_BYTES),
        ("qkv", "rope", q + k),
        ("qkv", "attend", k),
        ("rope", "attend", q + k),
        ("attend", "o", q),
        ("o", o, X_BYTES),
        ("norm2", "gateup", X_BYTES),
        ("norm2", "add2", X_BYTES),
        ("gateup", "down", f),
        ("down", down, X_BYTES),
        ("add2", "norm1 norm2 norm", X_BYTES),
        *sums,
    ]
    return {
        "pre": [("rotary", "rope", 64), ("embed", "norm1 norm2", X_BYTES)],
        "layers": layers,
        "post": [("norm", "head", X_BYTES)],
    }
