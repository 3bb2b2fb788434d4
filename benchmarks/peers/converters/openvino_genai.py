"""OpenVINO IR by optimum-intel, its weights compressed by NNCF below 16 bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

_COMPRESSION = {
    "bf16": None,
    "int8": OVWeightQuantizationConfig(bits=8, sym=False),
    # Groups must divide 576, which NNCF's own 128 does not.
    "int4": OVWeightQuantizationConfig(bits=4, sym=False, group_size=64, ratio=1.0),
}


def convert(kind: str, source: Path, target: Path) -> None:
    """`kind` is bf16, int8 (a scale a channel) or int4 (groups of 64; the embeddings in int8)."""
    model = OVModelForCausalLM.from_pretrained(
        source,
        export=True,
        compile=False,
        load_in_8bit=False,
        quantization_config=_COMPRESSION[kind],
    )
    model.save_pretrained(target)
    # Without a tokenizer the pipeline does not start.
    command = Path(sys.executable).with_name("convert_tokenizer")
    subprocess.run([command, source, "-o", target, "--with-detokenizer"], check=True)
