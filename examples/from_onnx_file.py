"""Compile an .onnx decoder, here one that torch.onnx has just exported."""

import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import hetc

CONFIG = GPT2Config(
    vocab_size=128,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_positions=128,
    bos_token_id=None,
    eos_token_id=None,
    initializer_range=0.3,
    attn_implementation="eager",
)


class Stateless(torch.nn.Module):
    """input_ids [B, S] -> logits [B, S, V]."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False).logits


torch.manual_seed(0)
batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=128)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "decoder.onnx")
    torch.onnx.export(
        Stateless(GPT2LMHeadModel(CONFIG)).eval(),
        (torch.zeros((2, 8), dtype=torch.int64),),
        path,
        dynamo=True,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes=({0: batch, 1: sequence},),
        verbose=False,
    )
    with hetc.compile(path, prefill="h100", decode="sn40l", new_tokens=64) as bundle:
        print(*bundle.manifest.summary, sep="\n")
        print("\ntokens", *bundle.generate([3, 1, 4, 1, 5], max_new_tokens=12).token_ids)
