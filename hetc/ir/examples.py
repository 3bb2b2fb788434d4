"""One small graph for every op: what the reference page shows and the tests run through."""

from __future__ import annotations

from hetc.ir.graph import Graph
from hetc.ir.op import OPS, Op
from hetc.ir.ops.elementwise import Binary, Unary
from hetc.ir.ops.reduce import Reduce
from hetc.ir.parse import parse

# Inputs, and the op that reads them.
_EXAMPLES: dict[str, tuple[str, str]] = {
    "all_gather": ("%x: bf16[B,S,32]", "%0 = all_gather %x {axis = 2, group_size = 8}"),
    "all_reduce": ("%x: bf16[B,S,H]", "%0 = all_reduce %x {group_size = 8}"),
    "and": ("%x: bool[B,S], %y: bool[B,S]", "%0 = and %x, %y"),
    "argmax": ("%x: f32[B,V]", "%0 = argmax %x {axis = -1}"),
    "argmin": ("%x: f32[B,V]", "%0 = argmin %x {axis = -1, keepdim}"),
    "attention": (
        "%q: bf16[B,9,S,64], %k: bf16[B,3,S,64], %v: bf16[B,3,S,64]",
        "%0 = attention %q, %k, %v {scale = 0.125, causal}",
    ),
    "avg_pool": (
        "%x: f32[B,64,56,56]",
        "%0 = avg_pool %x {window = [3, 3], stride = [2, 2], low = [1, 1], high = [1, 1]}",
    ),
    "bitcast": ("%x: f32[B,S]", "%0 = bitcast %x {dtype = i32}"),
    "broadcast": ("%x: f32[B,3,1,S,64]", "%0 = broadcast %x {shape = [B, 3, 3, S, 64]}"),
    "cast": ("%x: bf16[B,S,H]", "%0 = cast %x"),
    "concat": ("%x: f32[B,P,H], %y: f32[B,T,H]", "%0 = concat [%x, %y] {axis = 1}"),
    "constant": ("", "%0 = constant {data = [[1, 2], [3, 4]], dtype = i64}"),
    "conv": (
        "%x: f32[B,3,224,224], %w: f32[64,3,7,7], %b: f32[64]",
        "%0 = conv %x, %w {bias = %b, stride = [2, 2], low = [3, 3], high = [3, 3]}",
    ),
    "conv_transpose": (
        "%x: f32[B,64,T], %w: f32[64,32,4]",
        "%0 = conv_transpose %x, %w {stride = [2], low = [1], high = [1]}",
    ),
    "conv1d_causal": (
        "%x: f32[B,64,T], %w: f32[64,1,4], %b: f32[64], %h: f32[B,64,3]",
        "%0 = conv1d_causal %x, %w {bias = %b, history = %h, groups = 64}",
    ),
    "cumsum": ("%x: i64[B,S]", "%0 = cumsum %x {axis = 1}"),
    "dequantize": (
        "%x: u8[N,576], %s: f16[N,18], %m: f16[N,18]",
        "%0 = dequantize %x, %s {shift = %m, group = 32, dtype = bf16}",
    ),
    "embedding": ("%table: bf16[V,H], %ids: i64[B,S]", "%0 = embedding %table, %ids"),
    "expert_linear": (
        "%x: bf16[R,H], %w: bf16[8,N,H], %ids: i64[R]",
        "%0 = expert_linear %x, %w, %ids",
    ),
    "flip": ("%x: f32[B,S]", "%0 = flip %x {axes = [1]}"),
    "full": ("%tokens: i64[B,S]", "%0 = full {value = -inf, shape = [S, S]}"),
    "gated": ("%gate: bf16[B,S,N], %up: bf16[B,S,N]", "%0 = gated %gate, %up"),
    "gather": ("%x: f32[V,H], %ids: i64[B,S]", "%0 = gather %x, %ids"),
    "index": (
        "%x: f32[N,M,H], %i: i64[S,1], %j: i64[S]",
        "%0 = index %x, [%i, %j] {axes = [0, 1]}",
    ),
    "index_put": (
        "%x: f32[N,H], %u: f32[S,H], %i: i64[S]",
        "%0 = index_put %x, %u, [%i] {axes = [0], accumulate}",
    ),
    "iota": ("%tokens: i64[B,T], %past: i64[]", "%0 = iota {size = T, start = P}"),
    "keep_last": ("%x: f32[B,3,P+T,64]", "%0 = keep_last %x {axis = 2, rows = 4095}"),
    "kv_append": (
        "%past: bf16[B,3,P,64], %new: bf16[B,3,T,64]",
        "%0 = kv_append %past, %new {axis = 2}",
    ),
    "layer_norm": (
        "%x: bf16[B,S,H], %w: bf16[H], %b: bf16[H]",
        "%0 = layer_norm %x {weight = %w, bias = %b}",
    ),
    "linear": ("%x: bf16[B,S,K], %w: bf16[N,K]", "%0 = linear %x, %w"),
    "log_softmax": ("%x: f32[B,S,V]", "%0 = log_softmax %x {axis = -1}"),
    "matmul": ("%a: f32[B,9,S,64], %b: f32[B,9,64,S]", "%0 = matmul %a, %b"),
    "max_pool": (
        "%x: f32[B,64,112,112]",
        "%0, %1 = max_pool %x {window = [3, 3], stride = [2, 2], low = [1, 1], high = [1, 1]}",
    ),
    "nonzero": ("%x: bool[B,S]", '%0 = nonzero %x {count = "U0"}'),
    "not": ("%x: bool[B,S]", "%0 = not %x"),
    "opaque": (
        "%x: f32[B,S]",
        '%0 = opaque [%x] {framework = "aten", target = "aten.cummax.default", '
        'arguments = "{\\"dim\\": 1}", types = [f32[B,S]]}',
    ),
    "or": ("%x: bool[B,S], %y: bool[B,S]", "%0 = or %x, %y"),
    "pad": ("%x: f32[B,H,S]", "%0 = pad %x {low = [0, 0, 3], high = [0, 0, 0]}"),
    "put_along": (
        "%x: f32[B,V], %ids: i64[B,8], %u: f32[B,8]",
        "%0 = put_along %x, %ids, %u {axis = 1}",
    ),
    "quantize": ("%x: f32[N,576], %s: f32[N,18]", "%0 = quantize %x, %s {group = 32}"),
    "random": ("%tokens: i64[B,S]", "%0 = random {shape = [B, S], seed = 1, normal}"),
    "reshape": ("%x: f32[B,S,576]", "%0 = reshape %x {shape = [B*S, 9, 64]}"),
    "rms_norm": ("%x: bf16[B,S,H], %w: bf16[H]", "%0 = rms_norm %x {weight = %w}"),
    "rope": (
        "%x: bf16[B,9,S,64], %cos: f32[1,1,S,64], %sin: f32[1,1,S,64]",
        "%0 = rope %x, %cos, %sin",
    ),
    "scan": (
        "%x: f32[B,S,H], %decay: f32[B,S,H], %h: f32[B,H]",
        "%0, %1 = scan %x, %decay {initial = %h}",
    ),
    "shift_left": ("%x: i64[B,S], %y: i64[S]", "%0 = shift_left %x, %y"),
    "shift_right": ("%x: u8[N,288]", "%0 = shift_right %x, 4"),
    "slice": ("%x: f32[B,S,576]", "%0 = slice %x {axis = 2, start = 64, stop = 128}"),
    "softmax": ("%x: f32[B,9,S,S]", "%0 = softmax %x {axis = -1}"),
    "sort": ("%x: f32[B,V]", "%0, %1 = sort %x {descending}"),
    "split": ("%x: f32[B,S,96]", "%0, %1 = split %x {axis = -1, sizes = [64, 32]}"),
    "take_part": ("%x: bf16[B,S,256]", "%0 = take_part %x {axis = 2, group_size = 8}"),
    "take_along": ("%x: f32[B,V], %ids: i64[B,8]", "%0 = take_along %x, %ids {axis = 1}"),
    "tile": ("%x: f32[B,S]", "%0 = tile %x {repeats = [1, 3]}"),
    "topk": ("%x: f32[R,128]", "%0, %1 = topk %x {k = 8}"),
    "transfer": (
        "%x: bf16[B,S,H]",
        '%0 = transfer %x {source = "h200", destination = "sn40l"}',
    ),
    "transpose": ("%x: f32[B,S,9,64]", "%0 = transpose %x {perm = [0, 2, 1, 3]}"),
    "unpack4": ("%x: u8[N,288]", "%0 = unpack4 %x"),
    "weight": ("", '%0 = weight {name = "model.embed_tokens.weight", type = bf16[49152,576]}'),
    "where": ("%c: bool[1,1,S,S], %x: f32[B,9,S,S]", "%0 = where %c, %x, -inf"),
    "xor": ("%x: bool[B,S], %y: bool[B,S]", "%0 = xor %x, %y"),
}
_LAYER = "graph @layer(%x: f32[B,S,H], %w: f32[H]) { %0 = rms_norm %x {weight = %w} return %0 }\n"


def example(kind: str) -> Graph:
    """The example of the op called `kind`: a graph of that op alone.

    Raises KeyError where an op that is neither elementwise nor a reduction has none.
    """
    if kind == "call":
        return parse(
            _LAYER + _graph_text(kind, "%x: f32[B,S,H], %w: f32[H]", "%0 = call @layer(%x, %w)")
        )
    if kind in _EXAMPLES:
        return parse(_graph_text(kind, *_EXAMPLES[kind]))
    return parse(_graph_text(kind, *_by_family(OPS[kind])))


def _by_family(cls: type[Op]) -> tuple[str, str]:
    if issubclass(cls, Unary):
        return "%x: f32[B,S,H]", f"%0 = {cls.kind} %x"
    if issubclass(cls, Binary):
        return "%x: f32[B,S,H], %y: f32[H]", f"%0 = {cls.kind} %x, %y"
    if issubclass(cls, Reduce):
        return "%x: f32[B,S,H]", f"%0 = {cls.kind} %x {{axes = [-1]}}"
    raise KeyError(cls.kind)


def _graph_text(kind: str, inputs: str, line: str) -> str:
    return f"graph @{kind}({inputs}) {{ {line} return {line.partition(' =')[0]} }}\n"
