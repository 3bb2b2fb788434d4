"""Integers, bools, and ops along any axis, against the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.native.running import case
from tests.backends.native.test_native_ops import check, model, weight

WIDTH = 21


def test_comparisons_and_choices(tmp_path: Path) -> None:
    body = "%sum0 = mul %h, 0.5\n  "
    for number, name in enumerate(("eq", "ne", "lt", "le", "gt", "ge")):
        body += f"%q{number} = round %h\n  %c{number} = {name} %q{number}, 0.0\n  "
        body += f"%w{number} = where %c{number}, %h, {number + 1}.0\n  "
        body += f"%sum{number + 1} = add %sum{number}, %w{number}\n  "
    body += """%both = and %c0, %c3
  %either = or %c1, %both
  %odd = xor %either, %c4
  %not = not %odd
  %x = where %not, -3.4028235e38, %sum6
  %y = maximum %x, -100.0
  %nan = is_nan %y
  %z = where %nan, 0.0, %y"""
    check(case(model(body, WIDTH, "%z")), tmp_path)


def test_integers(tmp_path: Path) -> None:
    """Of tokens and of rounded numbers, of both signs; and back to floats."""
    body = """%wide = mul %h, 9.0
  %i = cast %wide {dtype = i64}
  %n = cast %i {dtype = i32}
  %a = mul %n, 3
  %b = sub %a, 7
  %c = abs %b
  %d = neg %c
  %e = maximum %d, %a
  %f = cast %e {dtype = i64}
  %g = floor_div %f, 4
  %k = mod %f, -5
  %l = div %f, 3
  %m = add %g, %k
  %o = add %m, %l
  %p = and %o, 12
  %q = not %p
  %t = reshape %tokens {shape = [B, T, 1]}
  %r = mul %q, %t
  %s = gt %r, 3
  %u = cast %s
  %v = cast %r
  %w = mul %v, 0.01
  %x = add %w, %u"""
    check(case(model(body, WIDTH)), tmp_path)


def test_axes_of_unknown_size_that_come_last(tmp_path: Path) -> None:
    """Channels before tokens, as convolutions have them, and numbers of tokens alone."""
    body = """%c = transpose %h {perm = [0, 2, 1]}
  %a = tanh %c
  %b = mul %a, %c
  %d = transpose %b {perm = [0, 2, 1]}
  %e = cast %tokens
  %f = mul %e, 0.1
  %g = reshape %f {shape = [B, 1, T]}
  %i = add %b, %g
  %j = transpose %i {perm = [0, 2, 1]}
  %x = mul %j, %d"""
    check(case(model(body, WIDTH)), tmp_path, 3e-5)


@pytest.mark.parametrize("axis", [2, 3])
def test_reductions(axis: int, tmp_path: Path) -> None:
    body = f"""%a = reshape %h {{shape = [B, T, 3, 7]}}
  %b = sum %a {{axes = [{axis}], keepdim}}
  %c = mean %a {{axes = [{axis}], keepdim}}
  %d = reduce_max %a {{axes = [{axis}]}}
  %e = reduce_min %a {{axes = [{axis}], keepdim}}
  %i = argmax %a {{axis = {axis}, keepdim}}
  %j = cast %i
  %s = softmax %a {{axis = {axis}}}
  %f = reshape %d {{shape = [B, T, {"1, 7" if axis == 2 else "3, 1"}]}}
  %g = add %b, %c
  %k = add %g, %f
  %l = add %k, %e
  %m = add %l, %j
  %n = mul %s, %m
  %x = reshape %n {{shape = [B, T, 21]}}"""
    check(case(model(body, WIDTH)), tmp_path, 3e-5)


def test_a_safe_softmax_of_hidden_rows_is_zeros(tmp_path: Path) -> None:
    body = """%g = gt %h, 1.5
  %m = where %g, %h, -inf
  %s = softmax %m {axis = 2, safe}
  %x = add %s, %h"""
    check(case(model(body, WIDTH)), tmp_path)


def test_elements_by_index(tmp_path: Path) -> None:
    """The largest of columns, put elsewhere and taken from there."""
    body = """%a = reshape %h {shape = [B, T, 7, 3]}
  %v, %i = topk %a {k = 2, axis = 2}
  %p = put_along %a, %i, 0.5 {axis = 2}
  %t = take_along %p, %i {axis = 2}
  %first = argmax %a {axis = 2}
  %u = reshape %first {shape = [B, T, 1, 3]}
  %w = take_along %a, %u {axis = 2}
  %c = concat [%t, %w, %p] {axis = 2}
  %d = slice %c {axis = 2, start = 2, stop = 9}
  %e = reshape %d {shape = [B, T, 21]}
  %x = add %e, %h"""
    half = "%half = full {value = 0.5, shape = [1, 1, 1, 1]}\n  "
    check(case(model(half + body.replace("0.5 {axis", "%half {axis"), WIDTH)), tmp_path)


def test_of_hidden_elements_the_first_are_chosen(tmp_path: Path) -> None:
    """Where fewer are left than are asked for, as when a router may use few groups of experts."""
    body = """%g = gt %h, 1.2
  %m = where %g, %h, -inf
  %v, %i = topk %m {k = 4}
  %t = take_along %h, %i {axis = 2}
  %a = argmax %m {axis = 2, keepdim}
  %n = cast %a
  %x = add %t, %n"""
    check(case(model(body, WIDTH, out=4)), tmp_path)


def test_joined_axes_and_copies(tmp_path: Path) -> None:
    body = """%a, %b = split %h {axis = 2, sizes = [9, 12]}
  %c = concat [%b, %a] {axis = 2}
  %d = reshape %c {shape = [B*T, 21]}
  %e = tile %d {repeats = [2, 1]}
  %f = reshape %e {shape = [2, B, T, 21]}
  %g = sum %f {axes = [0]}
  %i = full {value = 0.25, shape = [B, T, 1]}
  %x = mul %g, %i"""
    check(case(model(body, WIDTH)), tmp_path)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("inner", "outer"), [(7, 5), (7, 40)])
def test_a_matrix_for_each_group(inner: int, outer: int, dtype: str, tmp_path: Path) -> None:
    body = weight("heads", 3, inner, outer) + weight("back", 3, outer, inner)
    body += f"""%a = reshape %h {{shape = [B, T, 3, {inner}]}}
  %b = transpose %a {{perm = [0, 2, 1, 3]}}
  %c = matmul %b, %heads
  %d = matmul %c, %back
  %e = transpose %d {{perm = [0, 2, 1, 3]}}
  %x = reshape %e {{shape = [B, T, {3 * inner}]}}"""
    text = model(body, 3 * inner)
    if dtype == "f32":
        check(case(text), tmp_path, 2e-4)
        return
    # In portable code, which rounds no input, up to what the interpreter rounds between.
    check(case(text.replace("f32", dtype)), tmp_path, 0.6, variant="portable")
