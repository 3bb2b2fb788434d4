"""Reading config.json: transformers' own classes only, and no code from the model's directory."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from hetc.errors import InputError
from hetc.frontends.sources.libraries import first_line


def read_config(directory: Path) -> tuple[Any, tuple[str, ...]]:
    """The transformers config of a directory, and notes on what was ignored in it.

    Errors: HETC-I050 (no config.json), HETC-I051 (not JSON), HETC-I052 (unknown model type),
    HETC-I053 (needs its own code), HETC-I054 (an encoder-decoder), HETC-I055 (values out of range).
    """
    facts = _json_object(directory / "config.json")
    notes = _check_type(facts, directory / "config.json")
    config = _transformers_config(directory)
    _check_counts(config, directory / "config.json")
    if config.is_encoder_decoder:
        raise InputError(
            "HETC-I054",
            "the model is an encoder-decoder",
            at=str(directory),
            expected="a decoder-only language model",
            found=config.model_type,
        )
    return config, notes


def _json_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        folder = path.parent
        compiled = (folder / "manifest.json").is_file()
        raise InputError(
            "HETC-I050",
            "the directory is not a Hugging Face model",
            at=str(folder),
            expected="a file config.json",
            found="no such file" if folder.is_dir() else "no such directory",
            do="run it with hetc run, if it is a bundle: that is compiled already" * compiled,
        )
    try:
        facts = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _not_json(path, first_line(error)) from error
    if not isinstance(facts, dict):
        raise _not_json(path, type(facts).__name__)
    return facts


def _not_json(path: Path, found: str) -> InputError:
    return InputError(
        "HETC-I051", "config.json is not a JSON object", at=str(path), expected="{...}", found=found
    )


def _check_type(facts: dict[str, Any], path: Path) -> tuple[str, ...]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = facts.get("model_type")
    known = isinstance(model_type, str) and model_type in CONFIG_MAPPING_NAMES
    if facts.get("auto_map") and not known:
        raise InputError(
            "HETC-I053",
            "the model needs Python code from its own directory, which hetc never runs",
            at=str(path),
            expected="a model type that transformers implements itself",
            found=f"model_type {model_type!r} with auto_map",
            do="export it with torch.export yourself and compile the .pt2 file",
        )
    if not known:
        near = difflib.get_close_matches(str(model_type), CONFIG_MAPPING_NAMES, n=3)
        raise InputError(
            "HETC-I052",
            "transformers does not know this model type",
            at=str(path),
            expected=f"for example {', '.join(near)}" if near else "a model_type of transformers",
            found=f"model_type {model_type!r}",
            do="install a newer transformers, or compile a .pt2 or .onnx file of the model",
        )
    if facts.get("auto_map"):
        return ("config.json names code of its own (auto_map): ignored, transformers' is used",)
    return ()


# More than any model has; building millions of modules would never end.
_MOST = {"layers": 2**12, "experts": 2**16}


def _check_counts(config: Any, path: Path) -> None:
    """Refuse absurd numbers of layers and experts, and parts that are not of their type."""
    text = config.get_text_config(decoder=True)
    if not hasattr(text, "to_dict"):
        raise _not_a_model(path, f"text_config = {text!r}", "the configuration of a model")
    numbers = {**text.to_dict(), "num_hidden_layers": getattr(text, "num_hidden_layers", None)}
    for name, number in numbers.items():
        most = next((most for word, most in _MOST.items() if word in name), None)
        if most is not None and isinstance(number, int) and number > most:
            raise _not_a_model(path, f"{name} = {number}", f"at most {most}")
    names = config.architectures
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise _not_a_model(path, f"architectures = {names!r}", "a list of names")


def _not_a_model(path: Path, found: str, expected: str = "") -> InputError:
    return InputError(
        "HETC-I055",
        "config.json does not describe a model",
        at=str(path),
        expected=expected,
        found=found,
    )


def _transformers_config(directory: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # every config class has checks and errors of its own
        raise _not_a_model(directory / "config.json", first_line(error)) from error
