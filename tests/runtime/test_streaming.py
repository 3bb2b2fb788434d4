"""Pieces of a stream make the whole text, and none ends inside a character or a stop text."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from hetc.runtime.streaming import REPLACEMENT, Detokenizer, StopMatcher
from tests.runtime.toy import tokenizer_json

BYTES = Tokenizer.from_str(tokenizer_json().decode())


def decode(ids: Sequence[int]) -> str:
    return BYTES.decode(list(ids))


@given(st.text())
def test_pieces_are_whole_characters_and_make_the_text(text: str) -> None:
    detokenizer = Detokenizer(decode)
    pieces = [detokenizer.push(token) for token in BYTES.encode(text).ids]
    assert "".join([*pieces, detokenizer.flush()]) == text
    # One token a byte: a character comes out with its last byte, and not before.
    expected = [c for c in text for c in [""] * (len(c.encode()) - 1) + [c]]
    if REPLACEMENT not in text:
        assert pieces == expected


@given(st.lists(st.integers(0, 257), max_size=40))
def test_any_bytes_come_out_as_in_one_go(ids: list[int]) -> None:
    detokenizer = Detokenizer(decode)
    pieces = [detokenizer.push(token) for token in ids]
    assert "".join([*pieces, detokenizer.flush()]) == decode(ids)


def test_spaces_that_depend_on_the_token_before_stay() -> None:
    words = ["▁Hello", "▁wor", "ld", "▁again"]

    def sentencepiece(ids: Sequence[int]) -> str:
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    detokenizer = Detokenizer(sentencepiece)
    assert [detokenizer.push(i) for i in range(4)] == ["Hello", " wor", "ld", " again"]


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_text(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    found = "".join(matcher.push(character) for character in text) + matcher.flush()
    # Character by character, the stop text that is complete first wins.
    ends = [i + len(s) for s in stops for i in range(len(text)) if text.startswith(s, i)]
    if ends:
        first = min(ends)
        starts = [first - len(s) for s in stops if text[:first].endswith(s)]
        assert (found, matcher.stopped) == (text[: min(starts)], True)
    else:
        assert (found, matcher.stopped) == (text, False)


def test_nothing_undecided_is_said() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Yes.\n") == "Yes."
    assert matcher.push("\nUse") == ""
    assert matcher.push("ful") == "\n\nUseful"
    assert matcher.push("\n\nUser: hi") == ""
    assert matcher.stopped
    assert matcher.push("more") == ""
    assert matcher.flush() == ""
