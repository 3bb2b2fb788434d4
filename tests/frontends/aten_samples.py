"""Sample calls of every core ATen op, taken from PyTorch's own sample inputs (`op_db`).

An operator of `op_db` is called on its samples, forward and backward, and decomposed as
`torch.export` does it. The calls of core ops that come out are the samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.export import default_decompositions
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tests.frontends.aten_made import MADE
from tests.frontends.aten_programs import Sample

_CONVOLUTIONS = (
    *(f"nn.functional.conv{axes}d" for axes in (1, 2, 3)),
    *(f"nn.functional.conv_transpose{axes}d" for axes in (1, 2, 3)),
)
# Operators of op_db that come down to a core op of another name, where none has its name.
SOURCES: dict[str, tuple[str, ...]] = {
    "_adaptive_avg_pool2d": ("nn.functional.adaptive_avg_pool2d",),
    "_adaptive_avg_pool2d_backward": ("nn.functional.adaptive_avg_pool2d",),
    "_adaptive_avg_pool3d": ("nn.functional.adaptive_avg_pool3d",),
    "_cdist_forward": ("cdist",),
    "_embedding_bag": ("nn.functional.embedding_bag",),
    "_fft_c2r": ("fft.irfft", "fft.hfft", "fft.irfftn"),
    "_fft_r2c": ("fft.rfft", "fft.ihfft", "fft.rfftn"),
    "_local_scalar_dense": ("item",),
    "_log_softmax": ("log_softmax",),
    "_pdist_forward": ("nn.functional.pdist",),
    "_softmax": ("softmax",),
    "alias": (),
    "as_strided": ("as_strided", "stft"),
    "avg_pool2d_backward": ("nn.functional.avg_pool2d",),
    "col2im": ("nn.functional.unfold", "nn.functional.fold"),
    "constant_pad_nd": ("constant_pad_nd", "nn.functional.pad/constant"),
    "convolution": _CONVOLUTIONS,
    "convolution_backward": _CONVOLUTIONS,
    "copy": (),
    "embedding_dense_backward": ("nn.functional.embedding",),
    "empty_strided": ("empty_strided",),
    "fill": ("fill",),
    "full": ("full", "new_full"),
    "max_pool2d_with_indices": ("nn.functional.max_pool2d",),
    "max_pool2d_with_indices_backward": ("nn.functional.max_pool2d",),
    "max_pool3d_with_indices": ("nn.functional.max_pool3d",),
    "native_group_norm_backward": ("nn.functional.group_norm",),
    "native_layer_norm_backward": ("nn.functional.layer_norm",),
    "pow": ("pow", "float_power", "__rpow__"),
    "rand": ("rand_like", "uniform", "bernoulli"),
    "randperm": (),
    "randn": ("randn_like", "normal", "randn"),
    "reflection_pad1d": ("nn.functional.pad/reflect",),
    "reflection_pad2d": ("nn.functional.pad/reflect",),
    "reflection_pad3d": ("nn.functional.pad/reflect",),
    "replication_pad2d": ("nn.functional.pad/replicate", "nn.functional.pad/replicate_negative"),
    "replication_pad3d": ("nn.functional.pad/replicate", "nn.functional.pad/replicate_negative"),
    "scalar_tensor": ("scalar_tensor",),
    "split_with_sizes": ("split_with_sizes", "split", "chunk"),
    "view": ("view", "reshape", "flatten"),
    "where": ("where", "masked_fill"),
}
# Ops that are called only where a gradient may be asked for.
_FOR_GRADIENTS = {"_embedding_bag", "native_dropout"}
# A sample with more elements takes longer than it tells.
_MOST_ELEMENTS = 20_000


def core_ops() -> dict[str, Any]:
    """Name (`add.Tensor`) -> overload of every op that `torch.export` may leave in a fully
    decomposed program."""
    found = {}
    # `torch.ops.aten` lists only the ops that somebody has asked for.
    for full_name in torch._C._dispatch_get_all_op_names():
        packet, _, overload_name = full_name.removeprefix("aten::").partition(".")
        overload = getattr(getattr(torch.ops.aten, packet, None), overload_name or "default", None)
        if full_name.startswith("aten::") and overload and torch.Tag.core in overload.tags:
            found[f"{packet}.{overload_name or 'default'}"] = overload
    return found


def samples(name: str, dtype: torch.dtype, most: int) -> list[Sample]:
    """At most `most` different calls of the core op `name` on tensors of `dtype`.

    Those made by hand come first, then the sources by turns.
    """
    found: dict[str, Sample] = {}
    streams: list[Iterator[Sample]] = [iter(MADE[name](dtype))] if name in MADE else []
    streams += [_calls(info, name, dtype) for info in _sources(name, dtype)]
    while streams and len(found) < most:
        stream = streams.pop(0)
        for sample in stream:
            # One signature once: values differ, what is tested does not.
            if sample.text() not in found:
                found[sample.text()] = sample
                streams.append(stream)
                break
    return list(found.values())


@cache
def _infos() -> dict[str, list[OpInfo]]:
    """The operators of op_db by their names: `pad`, `nn.functional.pad`, and with the variant,
    `nn.functional.pad/reflect`."""
    by_name: dict[str, list[OpInfo]] = {}
    for info in op_db:
        short = info.name.removeprefix("nn.functional.")
        for name in {info.name, short, f"{info.name}/{info.variant_test_name}"}:
            by_name.setdefault(name, []).append(info)
    return by_name


def _sources(name: str, dtype: torch.dtype) -> list[OpInfo]:
    packet = name.partition(".")[0]
    names = SOURCES.get(packet, (packet, packet.removeprefix("_")))
    infos = [info for item in dict.fromkeys(names) for info in _infos().get(item, [])]
    if _is_backward(packet) or packet in _FOR_GRADIENTS:
        types = [info.supported_backward_dtypes("cpu") for info in infos]  # type: ignore[no-untyped-call]
    else:
        types = [info.supported_dtypes("cpu") for info in infos]  # type: ignore[no-untyped-call]
    return [info for info, known in zip(infos, types, strict=True) if dtype in known]


def _is_backward(packet: str) -> bool:
    # The gradient of unfold is col2im.
    return packet.endswith("backward") or packet == "col2im"


def _calls(info: OpInfo, name: str, dtype: torch.dtype) -> Iterator[Sample]:
    """The calls of one core op while an operator runs on its samples, and backwards."""
    packet = name.partition(".")[0]
    backward = _is_backward(packet)
    torch.manual_seed(0)
    graded = backward or packet in _FOR_GRADIENTS
    inputs = info.sample_inputs("cpu", dtype, requires_grad=graded)  # type: ignore[no-untyped-call]
    for given in itertools.islice(inputs, 60):
        recorder = _Recorder(name)
        with recorder:
            made = info.op(given.input, *given.args, **given.kwargs)
            if backward:
                _backward(made)
        yield from recorder.calls


def _backward(made: Any) -> None:
    parts = made if isinstance(made, tuple | list) else (made,)
    for part in parts:
        if isinstance(part, torch.Tensor) and part.requires_grad:
            # Not all ones: a gradient that is the same everywhere hides where it came from.
            part.backward(torch.randn_like(part), retain_graph=True)  # type: ignore[no-untyped-call]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Decomposes what is called as `torch.export` does, and keeps the calls of one op."""

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = f"aten.{name}"
        self.calls: list[Sample] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if str(func) == self.name:
            given = Sample(func, args, kwargs).tensors()
            size = sum(item.numel() for item in given)
            if size <= _MOST_ELEMENTS and all(map(_fills_memory, given)):
                kept = tree_map(_kept, (tuple(args), kwargs))
                self.calls.append(Sample(func, *kept))
        elif torch.Tag.core not in func.tags and func in _decompositions():
            with self:
                made = _decompositions()[func](*args, **kwargs)
            if made is not NotImplemented:
                return made
        return func(*args, **kwargs)


def _fills_memory(tensor: torch.Tensor) -> bool:
    """Whether a copy of the tensor alone is all that an op can see of it."""
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def _kept(item: Any) -> Any:
    return item.detach().clone() if isinstance(item, torch.Tensor) else item


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    return dict(default_decompositions())
