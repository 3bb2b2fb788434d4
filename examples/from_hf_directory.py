"""Compile a Hugging Face directory into a bundle on disk, then run the bundle by its path."""

import tempfile
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

import hetc

CONFIG = Qwen3Config(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
)

logging.disable_progress_bar()
with tempfile.TemporaryDirectory() as folder:
    directory, output = Path(folder, "model"), Path(folder, "bundle")
    torch.manual_seed(0)
    # config.json and model.safetensors; a tokenizer beside them would let the bundle speak text.
    Qwen3ForCausalLM(CONFIG).save_pretrained(directory)

    hetc.compile(directory, output=output, prefill="h200", decode="sn40l", dtype="bf16").close()
    print(*sorted(file.relative_to(output).as_posix() for file in output.rglob("*.*")), sep="\n")

    # Loading needs no torch: the bundle holds all that it takes.
    with hetc.load(output) as bundle:
        one, two = bundle.generate([[1, 2, 3], [4, 5, 6, 7]], max_new_tokens=8, ignore_eos=True)
        handoff = one.handoff
        print("\nanswers ", *one.token_ids, "|", *two.token_ids)
        if handoff is not None:
            print(f"hand-off {handoff.bytes} bytes of {handoff.dtype}")
