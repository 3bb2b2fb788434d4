"""Read marks, crossovers and decisions in Python: what `hetc inspect` and `hetc explain` print."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from hetc.driver import CompileOptions, inspect
from hetc.passes.decisions import find

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "dtype": "bfloat16",
}

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "config.json").write_text(json.dumps(CONFIG))
    options = CompileOptions(prefill="h200", decode="sn40l", prompt_tokens=1024, new_tokens=128)
    found = inspect(folder, options)

for phase in ("prefill", "decode"):
    marks = Counter(op["mark"] for op in found.ops if op["phase"] == phase)
    print(f"{phase:8}", *(f"{count} {mark}" for mark, count in marks.most_common()), sep="  ")

print()
for record in find(found.decisions, "model.layers.3.mlp.down_proj"):
    print(f"{record['phase']:8} {record['device']:6} {record['mark']:8}", end="")
    print(f" {record['intensity']:.3g} FLOP a byte, ridge {record['ridge']:.3g}")
    print(f"{'':8} {record['reason']['code']} {record['reason']['text']}")
    for flip in record["crossover"]:
        print(f"{'':8} {flip['mark']} from {flip['size']} = {flip['at']}")
    print(f"{'':8} elsewhere: {record['counterfactual']['delta_seconds']:+.2e} s")

cut = found.decisions["cut"]
print(f"\ncut: {cut['method']}, {cut['seconds']:.4f} s, gap {cut['gap']:g}")
for name, seconds in cut["alternatives_seconds"].items():
    print(f"     {name}: {seconds:.4f} s")
