"""The bundle's tokenizer and chat templates, on their own and against `transformers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hetc.errors import RuntimeFault
from hetc.runtime.chat import compile_chat_template
from hetc.runtime.tokenizer import Tokenizer, TokenizerConfig
from tests.runtime.toy import BOS, TOKENIZER_CONFIG, tokenizer_json

UNICODE = [
    "What is the capital of France?",
    "  leading and  double spaces\n\n\ttabs",
    "naïve café — “quotes” … ½",
    "日本語のテキストと한국어 텍스트",
    "👩‍👩‍👧‍👦 family, 🇫🇷 flag, e\u0301 combined",
    "العربية עברית हिन्दी ไทย",
    "def f(x):\n    return x ** 2  # ²",
]


def toy(**config: Any) -> Tokenizer:
    return Tokenizer.from_bytes(tokenizer_json(), json.dumps(TOKENIZER_CONFIG | config).encode())


@pytest.mark.parametrize("text", UNICODE)
def test_text_round_trips(text: str) -> None:
    assert toy().decode(toy().encode(text)) == text


def test_bos_is_added_where_the_model_wants_it_and_once() -> None:
    assert toy(add_bos=True).encode("a")[0] == BOS
    assert toy(add_bos=True).encode("<s>a").count(BOS) == 1
    assert BOS not in toy().encode("a")
    assert BOS not in toy(add_bos=True).encode("a", special=False)


def test_special_tokens_stay_out_of_the_text() -> None:
    ids = toy().encode("<s>a</s>")
    assert toy().decode(ids) == "a"
    assert toy().decode(ids, skip_special=False) == "<s>a</s>"


def test_a_template_sees_messages_and_tokens() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert toy().render_chat(messages) == "<s>[system]s\n[user]u\n[answer]"


def render(source: str, **variables: object) -> str:
    return compile_chat_template(source)([{"role": "user", "content": "é<"}], variables)


def test_templates_have_what_they_are_written_for() -> None:
    assert render("{% if true %}\n  x\n{% endif %}\ny") == "  x\ny"
    assert render("{{ messages[0].content | tojson }}") == '"é<"'
    loop = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert render(loop) == "01"
    assert render("{% generation %}a{{ b }}{% endgeneration %}", b=1) == "a1"
    assert render("{{ strftime_now is defined }}") == "False"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "TypeError"),
    ],
)
def test_a_template_that_fails_is_one_clear_error(source: str, found: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        render(source)
    at = "tokenizer/config.json, chat_template"
    assert (caught.value.code, caught.value.at) == ("HETC-R033", at)
    assert found in caught.value.found


def test_without_a_template_chat_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="HETC-R032"):
        toy(chat_template=None).encode_chat("hi")


@pytest.mark.parametrize(
    "config",
    [
        b"{",
        b"[]",
        b'{"eos_ids": 2}',
        b'{"bos_id": -1}',
        b'{"chat_template": {}}',
        b'{"add_bos": 1}',
    ],
)
def test_a_broken_config_is_named(config: bytes) -> None:
    with pytest.raises(RuntimeFault) as caught:
        TokenizerConfig.from_bytes(config)
    assert caught.value.code == "HETC-R031"
    assert caught.value.at.startswith("tokenizer/config.json")


@pytest.mark.parametrize("broken", [b"", b"{}", b"\xff", b'{"version": "1.0", "model": {}}'])
def test_a_broken_tokenizer_is_named(broken: bytes) -> None:
    with pytest.raises(RuntimeFault) as caught:
        Tokenizer.from_bytes(broken, b"{}")
    assert (caught.value.code, caught.value.at) == ("HETC-R031", "tokenizer/tokenizer.json")


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> tuple[Tokenizer, Any]:
    """SmolLM2's tokenizer, as a bundle would hold it, and as `transformers` has it."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(
        str(smollm2_gguf.parent), gguf_file=smollm2_gguf.name, local_files_only=True
    )
    config = {
        "chat_template": theirs.chat_template,
        "bos_token": theirs.bos_token,
        "eos_token": theirs.eos_token,
        "bos_id": theirs.bos_token_id,
        "eos_ids": [theirs.eos_token_id],
        "add_bos": False,
    }
    tokenizer_file = theirs.backend_tokenizer.to_str().encode()
    return Tokenizer.from_bytes(tokenizer_file, json.dumps(config).encode()), theirs


def test_smollm2_encodes_and_decodes_as_transformers_does(smollm2: tuple[Tokenizer, Any]) -> None:
    ours, theirs = smollm2
    for text in UNICODE:
        ids = theirs(text)["input_ids"]
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_smollm2_chats_as_transformers_does(smollm2: tuple[Tokenizer, Any]) -> None:
    ours, theirs = smollm2
    for messages in (
        [{"role": "user", "content": "What is the capital of France?"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Où?"},
            {"role": "assistant", "content": "Là."},
            {"role": "user", "content": "日本?"},
        ],
    ):
        rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert ours.render_chat(messages) == rendered
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert ours.encode_chat(messages) == ids


def test_smollm2_streams_whole_characters(smollm2: tuple[Tokenizer, Any]) -> None:
    ours, _ = smollm2
    for text in UNICODE:
        detokenizer = ours.detokenizer()
        pieces = [detokenizer.push(token) for token in ours.encode(text)]
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
        assert "".join([*pieces, detokenizer.flush()]) == text
