"""What hetc's prefill is measured against on a GPU: PyTorch with random weights of the same shapes.

A Llama in plain PyTorch, which is eager or compiled (max-autotune), and transformers' own where it
is installed. All give the logits of the last token, and keep keys and values.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Prefill = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama; `tied`: the embedding is the output's matrix as well."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    groups: int
    vocab: int
    context: int
    tied: bool = False
    theta: float = 500000.0

    @property
    def width(self) -> int:
        """Numbers of a head."""
        return self.hidden // self.heads


LLAMA_8B = LlamaShape("llama-3.1-8b", 32, 4096, 14336, 32, 8, 128256, 131072)
SMOLLM2 = LlamaShape("smollm2", 30, 576, 1536, 9, 3, 49152, 8192, tied=True, theta=100000.0)


class Layer(nn.Module):
    """One decoder layer: x [B, S, H] to x, keys and values."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        rows = (shape.heads + 2 * shape.groups) * shape.width
        self.norm_attention = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.qkv = nn.Linear(shape.hidden, rows, bias=False)
        self.out = nn.Linear(shape.heads * shape.width, shape.hidden, bias=False)
        self.norm_mlp = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.gate = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pre-norm attention and a gated MLP."""
        shape = self.shape
        batch, count, _ = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, count, -1, shape.width).transpose(1, 2)
        q, k, v = qkv.split((shape.heads, shape.groups, shape.groups), dim=1)
        q, k = q * cos + _turned(q) * sin, k * cos + _turned(k) * sin
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, count, -1))
        y = self.norm_mlp(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y)), k, v


class Llama(nn.Module):
    """Tokens [B, S] to logits [B, V] of the last token, and all keys and values."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)
        if shape.tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One prefill."""
        width = self.shape.width
        steps = torch.arange(0, width, 2, device=tokens.device, dtype=torch.float32) / width
        positions = torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32)
        angles = torch.outer(positions, self.shape.theta**-steps).repeat(1, 2)
        x = self.embed(tokens)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        cache: list[Tensor] = []
        for layer in self.layers:
            x, k, v = layer(x, cos, sin)
            cache += (k, v)
        return self.head(self.norm(x[:, -1])).float(), cache


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def plain(shape: LlamaShape) -> Llama:
    """Random weights, made on the device."""
    with torch.device("cuda"):
        model = Llama(shape).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
    return model.eval()


def eager(model: Llama) -> Prefill:
    """As it is: scaled dot product attention chooses its flash kernel."""

    def prefill(tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(tokens)[0]
            return logits

    return prefill


def compiled(model: Llama) -> Prefill:
    """Compiled for one shape at a time, with all of Inductor's own tuning."""
    made: dict[torch.Size, Any] = {}

    def prefill(tokens: Tensor) -> Tensor:
        if tokens.shape not in made:
            # The CUDA graphs of the shape before keep memory that this one needs.
            made.clear()
            torch.compiler.reset()
            torch.cuda.empty_cache()
            made[tokens.shape] = torch.compile(model, mode="max-autotune", dynamic=False)
        with torch.no_grad():
            logits: Tensor = made[tokens.shape](tokens)[0]
            return logits

    return prefill


def transformers(shape: LlamaShape) -> Prefill | None:
    """transformers' Llama with SDPA, eager; None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    library: Any = importlib.import_module("transformers")
    config = library.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("cuda"):
        model: Any = library.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()

    def prefill(tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            found = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
            logits: Tensor = found.logits[:, -1].float()
            return logits

    return prefill


@dataclass(frozen=True)
class Product:
    """Products of one shape in a prefill: x [rows, inner] times [inner, columns], `calls` times."""

    rows: int
    inner: int
    columns: int
    calls: int
    seconds: float

    @property
    def rate(self) -> float:
        """FLOP per second."""
        return 2 * self.calls * self.rows * self.inner * self.columns / self.seconds


def products(prefill: Prefill, tokens: Tensor, repeats: int = 5) -> list[Product]:
    """The products of more than one row in their places, by PyTorch's profiler; longest first."""
    profiler: Any = importlib.import_module("torch.profiler")
    with profiler.profile(
        activities=[profiler.ProfilerActivity.CUDA, profiler.ProfilerActivity.CPU],
        record_shapes=True,
    ) as profile:
        for _ in range(repeats):
            prefill(tokens)
        torch.cuda.synchronize()
    found = []
    for event in profile.key_averages(group_by_input_shape=True):
        if event.key == "aten::mm" and event.input_shapes[0][0] > 1:
            (rows, inner), (_, columns) = event.input_shapes[:2]
            seconds = event.self_device_time_total / 1e6 / repeats
            found.append(Product(rows, inner, columns, event.count // repeats, seconds))
    return sorted(found, key=lambda product: -product.seconds)


# Of `attention`: PyTorch's own choice, and its kernels by name.
ATTENTION = ("", "FLASH_ATTENTION", "CUDNN_ATTENTION")


def attention(shape: LlamaShape, count: int, backend: str) -> float | None:
    """Seconds of a causal attention of `count` tokens by PyTorch; None where `backend` refuses."""
    names: Any = importlib.import_module("torch.nn.attention")
    q, k, v = (
        torch.randn(1, heads, count, shape.width, device="cuda", dtype=torch.bfloat16)
        for heads in (shape.heads, shape.groups, shape.groups)
    )

    def run() -> Tensor:
        attended: Tensor = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=True
        )
        return attended

    try:
        if not backend:
            return _seconds(run)
        with names.sdpa_kernel(getattr(names.SDPBackend, backend)):
            return _seconds(run)
    except RuntimeError:
        return None


def copy_bandwidth() -> float:
    """Bytes per second that the device reads and writes in a copy of 2 GiB."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / _seconds(lambda: target.copy_(source))


def gemm_rate(size: int = 8192) -> float:
    """FLOP per second of a product of two square bf16 matrices, by the vendor's library."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    return 2 * size**3 / _seconds(lambda: a @ b)


def _seconds(run: Callable[[], object], repeats: int = 20) -> float:
    """The median time of one run."""
    for _ in range(3):
        run()
    times: list[float] = []
    event: Any = torch.cuda.Event
    for _ in range(repeats):
        start, end = (event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times)[repeats // 2]
