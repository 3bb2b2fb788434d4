"""The decode graph of one socket of a two-layer toy model, hand-written.

Hidden 64, 4 heads of 16 over 2 key heads, inner 128, 256 tokens, bf16. Over several sockets the
heads, the inner axis and the vocabulary are split, and two all-reduces a layer add up the parts.
"""

from __future__ import annotations

from hetc.ir.graph import Graph
from hetc.ir.text import parse

LAYERS = 2


def toy_graph(sockets: int, window: int = 0) -> Graph:
    """`decode(tokens, past, states) -> logits, states`, as one of `sockets` has it.

    With a window, the state keeps that many rows.
    """
    return parse(_layer(sockets, window) + _main(sockets, window))


def op_numbers(graph: Graph, sockets: int) -> dict[str, dict[str, int]]:
    """Graph -> the name that the text below gives an op -> its place."""
    found = {}
    for name, text in (("layer0", _layer(sockets, 0)), (graph.name, _main(sockets, 0))):
        lines = [line.split("=")[0] for line in text.splitlines() if line.startswith("  %")]
        names = [line.split(",")[0].strip().lstrip("%") for line in lines]
        found[name] = {op: place for place, op in enumerate(names)}
    return found


def _layer(n: int, window: int) -> str:
    heads, keys, inner = 4 // n, 2 // n, 128 // n
    state = f"bf16[B,{keys},{_rows(window)},16]"
    summed = "all_reduce %{} {{group_size = " + str(n) + "}}" if n > 1 else ""
    attended = f"  %o_sum = {summed.format('o_part')}\n" if n > 1 else ""
    mixed = f"  %down_sum = {summed.format('down_part')}\n" if n > 1 else ""
    o, down = ("o_sum", "down_sum") if n > 1 else ("o_part", "down_part")
    return f"""
graph @layer0(%x: bf16[B,1,64], %norm1: bf16[64], %q: bf16[{16 * heads},64],
    %k: bf16[{16 * keys},64], %v: bf16[{16 * keys},64], %key: {state}, %value: {state},
    %cos: bf16[1,16], %sin: bf16[1,16], %o: bf16[64,{16 * heads}], %norm2: bf16[64],
    %gate: bf16[{inner},64], %up: bf16[{inner},64], %down: bf16[64,{inner}]) {{
  %normed = rms_norm %x {{weight = %norm1}}
  %q_flat = linear %normed, %q
  %k_flat = linear %normed, %k
  %v_flat = linear %normed, %v
  %q_split = reshape %q_flat {{shape = [B, 1, {heads}, 16]}}
  %k_split = reshape %k_flat {{shape = [B, 1, {keys}, 16]}}
  %v_split = reshape %v_flat {{shape = [B, 1, {keys}, 16]}}
  %q_heads = transpose %q_split {{perm = [0, 2, 1, 3]}}
  %k_heads = transpose %k_split {{perm = [0, 2, 1, 3]}}
  %v_heads = transpose %v_split {{perm = [0, 2, 1, 3]}}
  %q_turned = rope %q_heads, %cos, %sin
  %k_turned = rope %k_heads, %cos, %sin
  %keys = kv_append %key, %k_turned {{axis = 2}}
  %values = kv_append %value, %v_heads {{axis = 2}}
  %mixed = attention %q_turned, %keys, %values {{scale = 0.25, causal}}
  %rows = transpose %mixed {{perm = [0, 2, 1, 3]}}
  %joined = reshape %rows {{shape = [B, 1, {16 * heads}]}}
  %o_part = linear %joined, %o
{attended}  %attended = add %x, %{o}
  %normed2 = rms_norm %attended {{weight = %norm2}}
  %gate_out = linear %normed2, %gate
  %up_out = linear %normed2, %up
  %gated = gated %gate_out, %up_out
  %down_part = linear %gated, %down
{mixed}  %out = add %attended, %{down}
  return %out, %keys, %values
}}
"""


def _rows(window: int) -> str:
    return f"W{window}" if window else "P"


def _main(n: int, window: int) -> str:
    states = [f"layer{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
    shape = f"bf16[B,{2 // n},{_rows(window)},16]"
    grown = f"bf16[B,{2 // n},{f'K{window}' if window else 'P+1'},16]"
    inputs = "".join(f", %{name}: {shape}" for name in states)
    outputs = "".join(f", {name}.out: {grown}" for name in states)
    shapes = {"norm1": [64], "q": [64 // n, 64], "k": [32 // n, 64], "v": [32 // n, 64]}
    shapes |= {"o": [64, 64 // n], "norm2": [64], "gate": [128 // n, 64], "up": [128 // n, 64]}
    shapes |= {"down": [64, 128 // n]}
    body, x = [], "%embedded"
    for i in range(LAYERS):
        for name, dims in shapes.items():
            weight = f'weight {{name = "layers.{i}.{name}", type = bf16[{dims}]}}'
            body.append(f"  %{name}{i} = {weight.replace('[[', '[').replace(']]', ']')}")
        first = f"{x}, %norm1{i}, %q{i}, %k{i}, %v{i}, %layer{i}.key, %layer{i}.value"
        rest = f"%cos_now, %sin_now, %o{i}, %norm2{i}, %gate{i}, %up{i}, %down{i}"
        body.append(f"  %x{i}, %keys{i}, %values{i} = call @layer0({first}, {rest})")
        x = f"%x{i}"
    left = [f"%{name}{i}" for i in range(LAYERS) for name in ("keys", "values")]
    lines = "\n".join(body)
    kept = ""
    for name in left if window else ():
        kept += f"  {name}_kept = keep_last {name} {{axis = 2, rows = {window}}}\n"
    returned = ", ".join(f"{name}_kept" if window else name for name in left)
    return f"""
graph @decode(%tokens: i64[B,1], %past: i64[]{inputs})
    -> (logits: bf16[B,1,{256 // n}]{outputs}) {{
  %position = iota {{size = 1, start = P}}
  %as_float = cast %position {{dtype = bf16}}
  %column = reshape %as_float {{shape = [1, 1]}}
  %rates = weight {{name = "rates", type = bf16[1,16]}}
  %angles = mul %column, %rates
  %cos_now = cos %angles
  %sin_now = sin %angles
  %embed = weight {{name = "embed", type = bf16[256,64]}}
  %embedded = embedding %embed, %tokens
{lines}
  %norm = weight {{name = "norm", type = bf16[64]}}
  %final = rms_norm %x{LAYERS - 1} {{weight = %norm}}
  %head = weight {{name = "head", type = bf16[{256 // n},64]}}
  %logits = linear %final, %head
{kept}  return %logits, {returned}
}}
"""
