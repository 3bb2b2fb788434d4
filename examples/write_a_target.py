"""Describe a chip in a TOML file, check it, and plan Llama-3.1-8B for it from its config alone."""

import json
import tempfile
from pathlib import Path

import hetc
from hetc import targets

CHIP = """
name = "my-chip"
title = "My dataflow chip, first silicon"
kind = "dataflow"
main_memory = "hbm"
[memory.hbm]
bytes = { value = 32e9, source = "data sheet 1.2, page 3" }
bandwidth = { value = 1.2e12, source = "data sheet 1.2, page 3" }
[rate]
f32 = { value = 50e12, source = "data sheet 1.2, page 1" }
bf16 = { value = 200e12, source = "data sheet 1.2, page 1" }
[link]
peer = "ethernet400"
host = "pcie5"
[assumption]
bandwidth_fraction = { value = 0.85, range = [0.7, 0.95], why = "measured on a long copy" }
gemm_fraction = { value = 0.6, range = [0.3, 0.8], why = "no measurement yet" }
launch_us = { value = 0.05, range = [0.02, 0.2], why = "pipeline depth of one stage" }
section_launch_us = { value = 5, range = [1, 20], why = "program load over PCIe" }
all_reduce_us = { value = 5, range = [2, 15], why = "two crossings of the switch" }
"""
LLAMA_8B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "dtype": "bfloat16",
}

with tempfile.TemporaryDirectory() as folder:
    chip, model = Path(folder, "my-chip.toml"), Path(folder, "llama-3.1-8b")
    chip.write_text(CHIP.replace("bf16", "bf17"))
    print(*(error.render() for error in targets.check(chip)), sep="\n")

    chip.write_text(CHIP)
    assert targets.check(chip) == []
    machine = targets.load(f"{chip}:8")
    print(f"\n{machine.name}: {machine.bandwidth() / 1e12:.2f} TB/s reached by a long read\n")

    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA_8B))
    # No weight files: a plan, which can be inspected but not run.
    with hetc.compile(model, prefill="h100", decode=f"{chip}:8", context=8192) as plan:
        print(*plan.manifest.summary, sep="\n")
