"""How few layers show the whole model: the period of its layer sequence.

A 405B config has 126 equal layers; exporting all of them takes torch a minute, exporting two takes
seconds. What is exported is a prefix (leading layers of another kind) and two periods, so that the
importer can check that a period repeats before it repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.sources.libraries import require
from hetc.frontends.sources.skeleton import build_skeleton

if TYPE_CHECKING:
    import torch

Signature = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Depth:
    """`total` layers are the first `export_layers`, the last `period` of them over and over.

    `layers` is the module path of the list of layers, "model.layers" say.
    """

    export_layers: int
    period: int
    total: int
    layers: str = "model.layers"

    @property
    def prefix(self) -> int:
        """Layers before the first period."""
        return self.export_layers - 2 * self.period


def plan_depth(config: Any) -> Depth | None:
    """The shortest model that stands for `config`'s, or None where all layers must be exported.

    Layers are equal when their modules' classes, plain attributes, parameters and buffers are, and
    the config's per-layer lists agree; an attribute that holds the layer's own index does not
    count. The shortened model is built as well, and must show the same layers and surroundings.
    """
    require("torch", "transformers", needed_for="reading a model's layers")
    if config.get_text_config() is not config:
        return None
    path, layers, around = _describe(config)
    depth = _shortest(layers, path)
    if depth is None:
        return None
    try:
        _, short_layers, short_around = _describe(truncated(config, depth.export_layers))
    except (InputError, ValueError, TypeError):
        # The config cannot be shortened; exporting all layers is always right.
        return None
    same = short_layers == layers[: depth.export_layers] and short_around == around
    return depth if same else None


def layer_modules(config: Any) -> str:
    """The module path of the list of layers ("model.layers", "transformer.h"); empty if none."""
    require("torch", "transformers", needed_for="reading a model's layers")
    return _layer_path(build_skeleton(config), config.get_text_config().num_hidden_layers)


def truncated(config: Any, layers: int) -> Any:
    """A copy of `config` with `layers` layers, and per-layer lists cut to that length."""
    total = config.get_text_config().num_hidden_layers
    facts = config.to_dict()
    for name in _per_layer_lists(config, total):
        facts[name] = facts[name][:layers]
    attribute = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    facts.pop("num_hidden_layers", None)
    facts[attribute] = layers
    short = type(config).from_dict(facts)
    short.architectures = config.architectures
    short.dtype = config.dtype
    return short


def _per_layer_lists(config: Any, total: int) -> list[str]:
    return [
        name
        for name, value in config.to_dict().items()
        if isinstance(value, list | tuple)
        and len(value) == total
        and not name.endswith("token_id")
        and name != "architectures"
    ]


def _describe(config: Any) -> tuple[str, list[Signature], Signature]:
    """Where the layers are, one signature a layer, and one of everything around the layers."""
    model = build_skeleton(config)
    total = config.get_text_config().num_hidden_layers
    path = _layer_path(model, total)
    if not path:
        return "", [], ()
    modules = model.get_submodule(path)
    facts = config.to_dict()
    lists = {name: facts[name] for name in _per_layer_lists(config, total)}
    described = [_attributes(layer) for layer in modules]
    for index, layer in enumerate(described):
        layer |= {f"config.{name}": _plain(values[index]) for name, values in lists.items()}
    keys = {key for layer in described for key in layer}
    own_index = {
        key
        for key in keys
        if all(layer.get(key) == ("int", index) for index, layer in enumerate(described))
    }
    layers = [
        tuple(sorted((key, value) for key, value in layer.items() if key not in own_index))
        for layer in described
    ]
    around = tuple(
        (name, (tuple(tensor.shape), str(tensor.dtype)))
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if not name.startswith(f"{path}.")
    )
    return path, layers, around


def _layer_path(model: Any, total: int) -> str:
    """The shallowest list of `total` modules: experts and the like lie deeper than the layers."""
    import torch

    paths = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == total
    ]
    return min(paths, key=lambda name: (name.count("."), name), default="")


def _attributes(layer: torch.nn.Module) -> dict[str, object]:
    """Every plain fact of a layer's modules, by path; values carry their type, as 1 == True."""
    import torch

    internal = vars(torch.nn.Module())
    facts: dict[str, object] = {}
    for path, module in layer.named_modules():
        facts[f"{path}:class"] = f"{type(module).__module__}.{type(module).__qualname__}"
        for name, value in vars(module).items():
            if name not in internal and (plain := _plain(value)) is not None:
                facts[f"{path}.{name}"] = plain
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            described = None if tensor is None else (tuple(tensor.shape), str(tensor.dtype))
            facts[f"{path}.{name}"] = described
    return facts


def _plain(value: object) -> object:
    if isinstance(value, int):
        return (type(value).__name__, int(value))
    if value is None or isinstance(value, str | float):
        return (type(value).__name__, repr(value))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(_plain(item) for item in value))
    if callable(value) and hasattr(value, "__qualname__"):
        return ("function", value.__qualname__)
    return None


def _shortest(layers: list[Signature], path: str) -> Depth | None:
    """The fewest layers that are a prefix and two periods, the rest whole periods."""
    total = len(layers)
    best: Depth | None = None
    for period in range(1, total // 3 + 1):
        # The longest tail in which every layer equals the one a period before it.
        start = total - period
        while start > 0 and layers[start - 1] == layers[start - 1 + period]:
            start -= 1
        prefix = start + (total - start) % period
        export = prefix + 2 * period
        if export < total and (best is None or export < best.export_layers):
            best = Depth(export, period, total, path)
    return best
