"""The tokenizer of a bundle: text to ids and back, and chats to text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as Vocabulary

from hetc.bundle import OpenBundle
from hetc.errors import RuntimeFault
from hetc.runtime.chat import Message, compile_chat_template
from hetc.runtime.streaming import Detokenizer

TOKENIZER_FILE = "tokenizer/tokenizer.json"
CONFIG_FILE = "tokenizer/config.json"


@dataclass(frozen=True)
class TokenizerConfig:
    """What `tokenizer/config.json` says about special tokens and chats."""

    chat_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    add_bos: bool = False

    @classmethod
    def from_bytes(cls, raw: bytes) -> TokenizerConfig:
        """Reads the file's bytes; raises RuntimeFault HETC-R031 naming the field."""
        try:
            plain = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _bad_file(CONFIG_FILE, "JSON", error) from error
        if not isinstance(plain, dict):
            raise _bad_file(CONFIG_FILE, "an object", type(plain).__name__)
        for key, fits in _FIELDS.items():
            value = plain.get(key)
            if value is not None and not fits(value):
                raise _bad_file(f"{CONFIG_FILE}, {key}", _EXPECTED[key], repr(value)[:80])
        return cls(
            chat_template=plain.get("chat_template"),
            bos_token=plain.get("bos_token"),
            eos_token=plain.get("eos_token"),
            bos_id=plain.get("bos_id"),
            eos_ids=tuple(plain.get("eos_ids") or ()),
            add_bos=bool(plain.get("add_bos")),
        )


class Tokenizer:
    """Encodes, decodes and renders chats as the model's own tokenizer does."""

    def __init__(self, vocabulary: Vocabulary, config: TokenizerConfig) -> None:
        self._vocabulary = vocabulary
        self.config = config
        self._chat: Callable[[Sequence[Message], Mapping[str, Any]], str] | None = None

    @classmethod
    def from_bytes(cls, tokenizer_json: bytes, config_json: bytes) -> Tokenizer:
        """Reads both files; raises RuntimeFault HETC-R031 naming the one that is broken."""
        config = TokenizerConfig.from_bytes(config_json)
        try:
            vocabulary = Vocabulary.from_buffer(tokenizer_json)
        # The library raises ValueError for most faults and a plain Exception for the rest.
        except Exception as error:
            raise _bad_file(TOKENIZER_FILE, "a file of the tokenizers library", error) from error
        vocabulary.no_truncation()
        vocabulary.no_padding()
        return cls(vocabulary, config)

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(self.config.eos_ids)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of `text`; `special` adds what the model wants around a prompt, such as BOS."""
        ids = list(self._vocabulary.encode(text, add_special_tokens=special).ids)
        bos = self.config.bos_id
        # The post-processor of the file usually adds it already.
        if special and self.config.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def encode_chat(self, messages: str | Sequence[Message]) -> list[int]:
        """The ids of a chat up to where the assistant answers; a string is one user message.

        The template writes BOS itself, so none is added.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.encode(self.render_chat(messages), special=False)

    def render_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> str:
        """The text of a chat; RuntimeFault HETC-R032 without a template, R033 if it fails."""
        if self._chat is None:
            if self.config.chat_template is None:
                raise RuntimeFault(
                    "HETC-R032",
                    "this model has no chat template",
                    at=CONFIG_FILE,
                    do="run without chat",
                )
            self._chat = compile_chat_template(self.config.chat_template)
        variables = {
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.config.bos_token or "",
            "eos_token": self.config.eos_token or "",
            "tools": None,
            "documents": None,
        }
        return self._chat(messages, variables)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that make no character come out as U+FFFD."""
        return self._vocabulary.decode(list(ids), skip_special_tokens=skip_special)

    def detokenizer(self) -> Detokenizer:
        """A fresh incremental decoder."""
        return Detokenizer(self.decode)


def read_tokenizer(bundle: OpenBundle) -> Tokenizer | None:
    """The bundle's tokenizer, or None where it was made without one."""
    if TOKENIZER_FILE not in bundle.manifest.files:
        return None
    config = bundle.read_bytes(CONFIG_FILE) if CONFIG_FILE in bundle.manifest.files else b"{}"
    return Tokenizer.from_bytes(bundle.read_bytes(TOKENIZER_FILE), config)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "chat_template": lambda value: isinstance(value, str),
    "bos_token": lambda value: isinstance(value, str),
    "eos_token": lambda value: isinstance(value, str),
    "bos_id": _is_id,
    "eos_ids": lambda value: isinstance(value, list) and all(map(_is_id, value)),
    "add_bos": lambda value: isinstance(value, bool),
}
_EXPECTED = {
    "chat_template": "a string or null",
    "bos_token": "a string or null",
    "eos_token": "a string or null",
    "bos_id": "a token id or null",
    "eos_ids": "a list of token ids",
    "add_bos": "true or false",
}


def _bad_file(at: str, expected: str, found: object) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R031",
        "the tokenizer of this bundle cannot be read",
        at=at,
        expected=expected,
        found=found,
        do="compile the bundle again",
    )
