"""From a checkpoint's tensors to the state dict of the transformers module, without reading them.

transformers renames, merges and splits checkpoint tensors while loading (experts stored one by
one become one stacked tensor, say). The same conversions run here, one target at a time, when its
tensor is asked for; on meta tensors first, so that names and shapes are checked at once.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.sources.checkpoint import StoredTensor
from hetc.frontends.sources.libraries import first_line
from hetc.frontends.sources.model_source import Array, LazyTensor
from hetc.frontends.sources.tensors import dtype_name, to_numpy
from hetc.ir.model import StoredGroups

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Candidate:
    """A tensor on its way to the state dict: what it will be, and how to make it."""

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Array]
    groups: StoredGroups | None = None


@dataclass
class _Group:
    """The stored tensors that one conversion turns into one or several weights."""

    converter: Any
    sources: list[tuple[str, StoredTensor]] = field(default_factory=list)


def bind_checkpoint(
    model: Any, stored: Mapping[str, StoredTensor], place: str
) -> tuple[dict[str, LazyTensor], tuple[str, ...]]:
    """Bind every name of `model`'s state dict to a lazy tensor; the second result is notes.

    Errors: HETC-I059 (missing), HETC-I060 (left over), HETC-I061 (wrong shape, or tied weights that
    differ), HETC-I063 (a conversion fails).
    """
    groups, unused = _group(model, stored, place)
    candidates: dict[str, Candidate] = {}
    for target, group in groups.items():
        for name, candidate in _candidates(model, target, group, place).items():
            if name in candidates:
                raise _failed(name, place, "two tensors of the checkpoint claim it")
            candidates[name] = candidate
    notes = []
    if converted := sum(group.converter is not None for group in groups.values()):
        notes.append(f"{converted} weights are merged or split from the checkpoint's, when read")
    if ignored := _ignored(model, unused):
        notes.append(
            f"the model does not use {len(ignored)} tensors, {ignored[0]} for one: ignored"
        )
    left_over = [key for key in unused if key not in set(ignored)]
    return bind(model, candidates, left_over, place), tuple(notes)


def bind(
    model: Any, candidates: Mapping[str, Candidate], left_over: Sequence[str], place: str
) -> dict[str, LazyTensor]:
    """Check candidates against `model`'s state dict, and give tied weights one tensor.

    Errors: HETC-I059, HETC-I060, HETC-I061.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    origin = _origins(model, expected, candidates)
    missing = sorted(name for name in expected if name not in origin)
    if missing:
        raise InputError(
            "HETC-I059",
            f"the checkpoint lacks {len(missing)} of the model's {len(expected)} weights",
            at=place,
            expected=_some(missing),
            found=f"{len(candidates)} weights"
            + (f"; not the model's: {_some(left_over)}" if left_over else ""),
            do="check that config.json and the weights are of the same model",
        )
    extra = sorted({*left_over, *(candidates.keys() - expected.keys())})
    if extra:
        raise InputError(
            "HETC-I060",
            f"the checkpoint has {len(extra)} tensors that the model has no place for",
            at=place,
            expected=f"only the {len(expected)} weights of {type(model).__name__}",
            found=_some(extra),
            do="check that config.json and the weights are of the same model",
        )
    for name, shape in expected.items():
        if candidates[origin[name]].shape != shape:
            raise InputError(
                "HETC-I061",
                "a weight has another shape than the model expects",
                at=f"{place}: {name}",
                expected=list(shape),
                found=list(candidates[origin[name]].shape),
                do="check that config.json and the weights are of the same model",
            )
    tensors = {
        source: LazyTensor(
            source, candidate.shape, candidate.dtype, candidate.load, candidate.groups
        )
        for source, candidate in candidates.items()
    }
    return {name: tensors[origin[name]] for name in expected}


def _origins(
    model: Any, expected: Mapping[str, object], candidates: Mapping[str, Candidate]
) -> dict[str, str]:
    """For every weight of the model that the checkpoint gives, the name under which it does."""
    origin = {name: name for name in expected if name in candidates}
    families: dict[str, list[str]] = {}
    for target, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        families.setdefault(source, [source]).append(target)
    for names in families.values():
        stored = [name for name in names if name in candidates]
        for other in stored[1:]:
            _require_equal(stored[0], candidates[stored[0]], other, candidates[other])
        for name in names:
            if stored and name in expected:
                origin[name] = stored[0]
    return origin


def _require_equal(name: str, a: Candidate, other: str, b: Candidate) -> None:
    """The exported program has one parameter for both, so they must be one."""
    if a.shape == b.shape and a.dtype == b.dtype and a.load().tobytes() == b.load().tobytes():
        return
    raise InputError(
        "HETC-I061",
        "two weights that the config ties together differ in the checkpoint",
        at=f"{name}, {other}",
        expected="equal tensors",
        found="different values",
        do="set tie_word_embeddings to false in config.json",
    )


def _group(
    model: Any, stored: Mapping[str, StoredTensor], place: str
) -> tuple[dict[str, _Group], list[str]]:
    """Which stored tensors make which weight, by transformers' conversions; and the unused."""
    from transformers import conversion_mapping
    from transformers import core_model_loading as loading

    transforms = conversion_mapping.get_model_conversion_mapping(model)
    renamings = [item for item in transforms if isinstance(item, loading.WeightRenaming)]
    converters = [item for item in transforms if isinstance(item, loading.WeightConverter)]
    of_pattern = {pattern: item for item in converters for pattern in item.source_patterns}
    expected = model.state_dict()
    groups: dict[str, _Group] = {}
    unused: list[str] = []
    for key in sorted(stored, key=loading.dot_natural_key):
        prefix = model.base_model_prefix
        target, pattern = loading.rename_source_key(key, renamings, converters, prefix, expected)
        if target not in expected and key in expected:
            # Already the model's name, which a renaming pattern happens to match.
            target, pattern = key, None
        if target not in expected:
            unused.append(key)
            continue
        converter = of_pattern[pattern] if pattern is not None else None
        group = groups.setdefault(target, _Group(converter))
        if group.converter is not converter or (converter is None and group.sources):
            raise _failed(target, place, f"{group.sources[0][1].key} and {key} both claim it")
        group.sources.append((pattern or key, stored[key]))
    return groups, unused


def _candidates(model: Any, target: str, group: _Group, place: str) -> dict[str, Candidate]:
    import torch

    if group.converter is None:
        ((_, source),) = group.sources

        def load_one() -> Array:
            return to_numpy(source.read())

        return {target: Candidate(source.shape, dtype_name(source.dtype), load_one)}

    def shapes_only(source: StoredTensor) -> torch.Tensor:
        return torch.empty(source.shape, dtype=source.dtype, device="meta")

    def candidate(name: str, planned: torch.Tensor) -> Candidate:
        def load() -> Array:
            return to_numpy(_convert(model, target, group, _read, place)[name])

        return Candidate(tuple(planned.shape), dtype_name(planned.dtype), load)

    planned = _convert(model, target, group, shapes_only, place)
    return {name: candidate(name, tensor) for name, tensor in planned.items()}


def _read(source: StoredTensor) -> torch.Tensor:
    return source.read()


def _convert(
    model: Any,
    target: str,
    group: _Group,
    read: Callable[[StoredTensor], torch.Tensor],
    place: str,
) -> dict[str, torch.Tensor]:
    """Run one of transformers' conversions on what `read` makes of its source tensors."""
    # A converter collects its sources inside itself, so every run takes a fresh one.
    converter = copy.deepcopy(group.converter)
    for pattern, source in group.sources:
        converter.add_tensor(target, source.key, pattern, lambda source=source: read(source))
    try:
        made = converter.convert(target, model=model, config=model.config)
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _failed(target, place, first_line(error)) from error
    return {name: t[0] if isinstance(t, list) else t for name, t in made.items()}


def _ignored(model: Any, unused: Sequence[str]) -> list[str]:
    """The tensors that transformers ignores for this model: tables it recomputes, old masks."""
    patterns = {r"rotary_emb\.inv_freq", r"(^|\.)position_ids$"}
    patterns |= set(model._keys_to_ignore_on_load_unexpected or ())
    return [key for key in unused if any(re.search(pattern, key) for pattern in patterns)]


def _failed(target: str, place: str, found: str) -> InputError:
    return InputError(
        "HETC-I063",
        "the checkpoint's tensors cannot be made into a weight of the model",
        at=f"{place}: {target}",
        found=found,
        do="load the model with transformers and save it again with save_pretrained",
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
