"""Tokenizers by transformers, kept as a file of the `tokenizers` library and a few facts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hetc.errors import InputError
from hetc.frontends.sources.libraries import first_line
from hetc.frontends.sources.model_source import TokenizerFiles

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


def directory_tokenizer(
    directory: Path, config: Any
) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    """The tokenizer of a Hugging Face directory, if it has one with a fast form; and notes.

    Error: HETC-I070 (its files are damaged).
    """
    from transformers import AutoTokenizer

    if not any((directory / name).is_file() for name in _FILES):
        return None, ("the directory has no tokenizer",)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, config=config, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises nothing more specific
        raise InputError(
            "HETC-I070",
            "the tokenizer of the model cannot be read",
            at=str(directory),
            found=first_line(error),
            do="replace its files, or remove them to compile without a tokenizer",
        ) from error
    return _files(tokenizer, (*_ids(config), *_generation_ids(directory)))


def gguf_tokenizer(path: Path, config: Any) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    """The tokenizer in a GGUF file's metadata, as transformers rebuilds it; and notes."""
    from transformers import TokenizersBackend
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    # What AutoTokenizer does with a GGUF file, without reading the config a second time.
    cls = TOKENIZER_MAPPING.get(type(config), None) or TokenizersBackend
    try:
        tokenizer = cls.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises plain Exception
        return None, (f"transformers cannot rebuild the file's tokenizer: {first_line(error)}",)
    return _files(tokenizer, _ids(config))


def _files(tokenizer: Any, eos_ids: Iterable[int]) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None, (f"{type(tokenizer).__name__} has no fast form: left out",)
    template, notes = tokenizer.chat_template, tuple[str, ...]()
    if isinstance(template, dict):
        notes = (f"of {len(template)} chat templates the one named default is kept",)
        template = template.get("default")
    ids = {*eos_ids, tokenizer.eos_token_id} - {None}
    encoded = tokenizer("a")["input_ids"]
    config = {
        "chat_template": template,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "bos_id": tokenizer.bos_token_id,
        "eos_ids": sorted(ids),
        "add_bos": tokenizer.bos_token_id is not None and encoded[0] == tokenizer.bos_token_id,
    }
    return TokenizerFiles(backend.to_str().encode(), config), notes


def _ids(config: Any) -> tuple[int, ...]:
    return _as_ids(getattr(config.get_text_config(), "eos_token_id", None))


def _generation_ids(directory: Path) -> tuple[int, ...]:
    """The ids that end generation by generation_config.json: chat models end a turn by others."""
    path = directory / "generation_config.json"
    if not path.is_file():
        return ()
    try:
        facts = json.loads(path.read_bytes())
        return _as_ids(facts.get("eos_token_id"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            "HETC-I070",
            "generation_config.json is not a JSON object",
            at=str(path),
            expected="{...}",
            found=first_line(error),
        ) from error


def _as_ids(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(item for item in values if isinstance(item, int))
