"""Policy: a TOML file that pins ops, sets limits and declares what hetc cannot know.

A compile fails where it would break the policy, and where a declaration shows to be false.

    granularity = "phase"                       # or "op": one phase on different devices
    max_fallback_ops = 1
    token_wise = ["mylib.rotate.default"]       # unknown ops that work token by token

    [pins]
    "decode:layers.*.self_attn*" = "decode"

    [quantize]                                  # how matrices are stored, by name
    "*.down_proj.weight" = "int8"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetc.driver.options import QUANTIZE
from hetc.errors import InputError
from hetc.passes.partition import Granularity
from hetc.passes.quantize_weights import Form

_KEYS = {
    "granularity": str,
    "max_fallback_ops": int,
    "token_wise": list,
    "pins": dict,
    "quantize": dict,
}


@dataclass(frozen=True)
class Policy:
    """What a compile must keep to.

    Halves are the unit of deployment, so each phase stays whole unless asked otherwise.
    `token_wise` names opaque ops that are taken to work token by token. `quantize` gives the form
    of matrices whose name fits a glob.
    """

    granularity: Granularity = "phase"
    max_fallback_ops: int | None = None
    token_wise: tuple[str, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    quantize: Mapping[str, Form] = field(default_factory=dict)


def read_policy(path: str | Path | None) -> Policy:
    """The policy in the file at `path`; the default one for None. Raises InputError (HETC-I007)."""
    if path is None:
        return Policy()
    path = Path(path)
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "HETC-I007", "the policy cannot be read", at=str(path), found=str(error)
        ) from error
    for key, value in fields.items():
        _check(path, key, value)
    fields["token_wise"] = tuple(fields.get("token_wise", ()))
    return Policy(**fields)


def _check(path: Path, key: str, value: Any) -> None:
    wanted = _KEYS.get(key)
    right = wanted is not None and isinstance(value, wanted)
    if key == "granularity":
        right = value in ("phase", "op")
    elif key == "max_fallback_ops":
        right = type(value) is int and value >= 0
    elif key == "token_wise":
        right = right and all(isinstance(name, str) for name in value)
    elif key == "quantize":
        right = right and all(form in QUANTIZE for form in value.values())
    elif key == "pins":
        right = right and all(isinstance(role, str) for role in value.values())
    if not right:
        raise InputError(
            "HETC-I007",
            "the policy has a field that hetc does not take",
            at=f"{path}: {key}",
            expected='granularity = "phase" or "op", max_fallback_ops = 0 or more, '
            "token_wise = [names of ops], [pins] of globs, "
            "[quantize] of globs to none, keep, int8 or int4",
            found=repr(value),
        )
