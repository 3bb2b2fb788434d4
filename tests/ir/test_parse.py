"""Text that is wrong gets one clear error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.errors import IRError
from hetc.ir.text import parse, parse_program
from tests.golden import Golden

BROKEN = {
    "empty": "",
    "cut off": "graph @f(%x: f32[2]) {\n  %0 = add %x,",
    "no comma": "graph @f(%x: f32[2]) {\n  %0 = add %x 1\n  return %0\n}",
    "strange character": "graph @f() { ? }",
    "unknown op": "graph @f(%x: f32[2]) {\n  %0 = ad %x, 1\n  return %0\n}",
    "undefined value": "graph @f(%x: f32[2]) {\n  %0 = add %x, %y\n  return %0\n}",
    "defined twice": "graph @f(%x: f32[2]) {\n  %x = neg %x\n  return %x\n}",
    "operands": "graph @f(%x: f32[2]) {\n  %0 = neg %x, %x\n  return %0\n}",
    "literal for a tensor": "graph @f(%x: f32[2]) {\n  %0 = neg 2\n  return %0\n}",
    "tensor for a literal": "graph @f(%x: f32[2]) {\n  %0 = sum %x {axes = %x}\n  return %0\n}",
    "list expected": "graph @f(%x: f32[2]) {\n  %0 = concat %x {axis = 0}\n  return %0\n}",
    "unknown attribute": "graph @f(%x: f32[2]) {\n  %0 = gelu %x {tan}\n  return %0\n}",
    "attribute missing": "graph @f(%x: f32[2]) {\n  %0 = softmax %x\n  return %0\n}",
    "results": "graph @f(%x: f32[2]) {\n  %0, %1 = neg %x\n  return %0\n}",
    "rule of the op": "graph @f(%x: f32[2], %y: f32[3]) {\n  %0 = add %x, %y @a.b\n  return %0\n}",
    "declared types": "graph @f(%x: f32[2]) -> (y: f32[3]) {\n  return %x\n}",
    "unknown callee": "graph @f(%x: f32[2]) {\n  %0 = call @g(%x)\n  return %0\n}",
    "namesakes": "graph @f() { return }\ngraph @f() { return }",
    "size": "graph @f(%x: f32[2**S]) { return %x }",
    "escape": 'graph @f() {\n  %0 = weight {name = "\\q", type = f32[2]}\n  return %0\n}',
    "program alone": "program p {max_context = 3}",
}


def test_errors_read_well(golden: Golden) -> None:
    pages = []
    for name, text in BROKEN.items():
        with pytest.raises(IRError) as caught:
            parse(text)
        pages.append(f"# {name}\n{caught.value}\n")
    golden("parse-errors.txt", "\n".join(pages))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "program p {forward = @f, prefill = @f, max_context = 3}",
        "program p {forward = @f, prefill = @f, decode = 3, max_context = 3}",
        "program p {forward = @f, prefill = @f, decode = @g, max_context = 3}",
        "program p {forward = @f, prefill = @f, decode = @f}",
        "program p {forward = @f, prefill = @f, decode = @f, max_context = 3, more = 1}",
        "program p {forward = @f, prefill = @f, decode = @f, max_context = 3}\nstate k: f32[P] {}",
        "program p {forward = @f, prefill = @f, decode = @f, max_context = 3}\n"
        'state k: f32[P] {kind = "kv", rows = 2}',
    ],
)
def test_a_program_header_that_does_not_fit(header: str) -> None:
    with pytest.raises(IRError, match=r"HETC-X10[134]"):
        parse_program(f"{header}\ngraph @f() {{ return }}")


SAMPLE = """program p {forward = @f, prefill = @f, decode = @f, max_context = 3, facts = ["x"]}
state k: f32[B,P] {kind = "kv", axis = 1, layer = 0} @here
graph @g(%x: f32[B,S,4]) { %0 = mul %x, -1e-06 return %0 }
graph @f(%x: f32[B,S,4], %m: bool[S]) -> (y: f32[B,S,4]) {
  %0 = call @g(%x)
  %1, %2 = split %0 {axis = -1, sizes = [2, 2]}
  %3 = concat [%2, %1] {axis = 2} @layers.0
  return %3
}
"""


@settings(max_examples=300)
@given(st.data())
def test_damaged_text_gives_an_error_of_ours_or_a_graph(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SAMPLE)))
    end = data.draw(st.integers(start, min(len(SAMPLE), start + 12)))
    pieces = [
        "",
        "%",
        "@",
        '"',
        "[",
        "]",
        "{",
        "}",
        "-",
        "1e9",
        "S*S",
        "true",
        "%0",
        "\\",
        "9" * 5000,
    ]
    middle = data.draw(st.one_of(st.sampled_from(pieces), st.text(max_size=4)))
    text = SAMPLE[:start] + middle + SAMPLE[end:]
    for read in (parse, parse_program):
        with contextlib.suppress(IRError):
            assert read(text)
