"""Compile a torch.export program, and check what it generates against the module itself."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import hetc

CONFIG = LlamaConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
)


class Stateless(torch.nn.Module):
    """tokens [B, S] -> logits [B, S, V]: all that hetc needs. There is no cache in it."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens, use_cache=False).logits


torch.manual_seed(0)
module = Stateless(LlamaForCausalLM(CONFIG)).eval()
batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=256)
program = torch.export.export(
    module,
    (torch.zeros((2, 8), dtype=torch.int64),),
    dynamic_shapes=({0: batch, 1: sequence},),
)

with hetc.compile(program, prefill="h200", decode="sn40l") as bundle:
    print(*bundle.manifest.summary, sep="\n")
    prompt = [1, 5, 9, 2, 6]
    answer = bundle.generate(prompt, max_new_tokens=12, ignore_eos=True)

# The same tokens from the module, which computes everything again for each.
tokens = torch.tensor([prompt])
with torch.no_grad():
    for _ in range(12):
        tokens = torch.cat([tokens, module(tokens)[:, -1:].argmax(-1)], dim=1)
expected = tuple(tokens[0, len(prompt) :].tolist())

print("\nhetc       ", *answer.token_ids)
print("the module ", *expected)
print("executors  ", *(f"{half} {name}" for half, name in answer.executors.items()))
assert answer.token_ids == expected
