"""Generate text with a model that torch.compile gives to hetc, and see what ran where."""

import torch
from torch._dynamo.backends.registry import list_backends
from transformers import LlamaConfig, LlamaForCausalLM

import hetc.interop

CONFIG = LlamaConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
)
torch.manual_seed(0)
model = LlamaForCausalLM(CONFIG).eval()
prompt = torch.tensor([[1, 5, 9, 2, 6]])
settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
settings["attention_mask"] = torch.ones_like(prompt)
expected = model.generate(prompt, **settings)

# The name is known where hetc is installed; in a source tree the function does the same.
backend = "hetc" if "hetc" in list_backends() else hetc.interop.backend
options = {"prefill": "h200", "decode": "sn40l"}
model.forward = torch.compile(model.forward, backend=backend, options=options)
text = model.generate(prompt, **settings)

report = hetc.interop.last_report()
for graph in report.graphs:
    print(f"{graph.phase:8} {graph.ops} ops, called {graph.calls} times")
    for region in filter(None, (graph.whole, *graph.regions)):
        print(f"  {region.name}: {region.ops} ops on {region.executor}, {region.calls} calls")
        print(f"  {region.placed}: {region.marks}, {region.estimated_s:.1e} s estimated")
    for fallback in graph.fallbacks:
        print(f"  by PyTorch: {fallback.count} x {fallback.op}: {fallback.reason}")
for recompile in report.recompiles:
    print("compiled again:", recompile.reason)
assert torch.equal(text, expected)
print("the same text:", *text[0].tolist())
