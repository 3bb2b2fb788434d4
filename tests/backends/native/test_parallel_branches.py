"""Layers whose attention and MLP read one norm: their products run as one, of as many rows as the
state needs; and layers with tables of their own, which are planned one by one."""

from __future__ import annotations

import re
from pathlib import Path

from tests.backends.native.running import case
from tests.backends.native.test_native_ops import check

_ATTENTION = """%q = linear %n, %wq
  %k = linear %n, %wk
  %q4 = reshape %q {shape = [B, T, 2, 6]}
  %k4 = reshape %k {shape = [B, T, 2, 6]}
  %qr = rope %q4, %cos, %sin
  %kr = rope %k4, %cos, %sin
  %qt = transpose %qr {perm = [0, 2, 1, 3]}
  %kt = transpose %kr {perm = [0, 2, 1, 3]}
  %keys = kv_append %past_key, %kt {axis = 2}
  %values = kv_append %past_value, %kt {axis = 2}
  %a = attention %qt, %keys, %values {causal}
  %at = transpose %a {perm = [0, 2, 1, 3]}
  %branch = reshape %at {shape = [B, T, 12]}"""
_MLP = """%u = linear %n, %wu
  %m = silu %u"""
_TABLES = "f32[1,T,1,6]"
_PAST, _ALL = "f32[B,2,P,6]", "f32[B,2,P+T,6]"


def _branches(mlp_first: bool) -> str:
    parts = (_MLP, _ATTENTION) if mlp_first else (_ATTENTION, _MLP)
    return f"""%n = rms_norm %x {{weight = %norm}}
  {parts[0]}
  {parts[1]}
  %s = add %branch, %m
  %y = add %s, %x"""


def _table(name: str) -> str:
    return f"""%{name}_rows = weight {{name = "{name}", type = f32[96,6]}}
  %{name}_found = embedding %{name}_rows, %p
  %{name} = reshape %{name}_found {{shape = [1, T, 1, 6]}}
  """


_HEAD = """%t = weight {name = "t", type = f32[50,12]}
  %x0 = embedding %t, %tokens
  %i = iota {size = T, start = P}
  %p = reshape %i {shape = [1, T]}
  """
_LAYER_WEIGHTS = {"norm": "[12]", "wq": "[12,12]", "wk": "[12,12]", "wu": "[12,12]"}


def _weights(layer: int) -> str:
    return "".join(
        f'%{name}{layer} = weight {{name = "{name}.{layer}", type = f32{shape}}}\n  '
        for name, shape in _LAYER_WEIGHTS.items()
    )


def test_a_last_layer_whose_branches_share_a_norm(tmp_path: Path) -> None:
    """The MLP is needed for the last token alone, the keys beside it for all."""
    for mlp_first in (True, False):
        body = _branches(mlp_first).replace("%x", "%x0")
        for name in _LAYER_WEIGHTS:
            body = re.sub(rf"%{name}\b", f"%{name}0", body)
        inputs = f"%past_key: {_PAST}, %past_value: {_PAST}"
        outputs = f"past_key.out: {_ALL}, past_value.out: {_ALL}"
        text = f"""
graph @decode(%tokens: i64[B,T], %past: i64[], {inputs}) -> (logits: f32[B,T,12], {outputs}) {{
  {_HEAD}{_weights(0)}{_table("cos")}{_table("sin")}{body}
  return %y, %keys, %values
}}"""
        check(case(text), tmp_path)


def test_layers_that_rotate_by_tables_of_their_own(tmp_path: Path) -> None:
    """What differs between the calls of one graph is no weight: each call is a block."""
    given = "".join(f", %{name}: f32{shape}" for name, shape in _LAYER_WEIGHTS.items())
    given += f", %cos: {_TABLES}, %sin: {_TABLES}, %past_key: {_PAST}, %past_value: {_PAST}"
    calls, inputs, outputs, results = "", "", "", ""
    for layer in (0, 1):
        calls += _weights(layer) + _table(f"cos{layer}") + _table(f"sin{layer}")
        args = ", ".join(f"%{name}{layer}" for name in _LAYER_WEIGHTS)
        calls += f"%x{layer + 1}, %k{layer}, %v{layer} = call @layer(%x{layer}, {args}, "
        calls += f"%cos{layer}, %sin{layer}, %key{layer}, %value{layer})\n  "
        inputs += f", %key{layer}: {_PAST}, %value{layer}: {_PAST}"
        outputs += f", key{layer}.out: {_ALL}, value{layer}.out: {_ALL}"
        results += f", %k{layer}, %v{layer}"
    text = f"""
graph @layer(%x: f32[B,T,12]{given}) -> (f32[B,T,12], {_ALL}, {_ALL}) {{
  {_branches(True)}
  return %y, %keys, %values
}}

graph @decode(%tokens: i64[B,T], %past: i64[]{inputs}) -> (logits: f32[B,T,12]{outputs}) {{
  {_HEAD}{calls}return %x2{results}
}}"""
    check(case(text), tmp_path)
