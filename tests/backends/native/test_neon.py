"""The text for ARM, compiled for it by LLVM and run in an emulator."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetc.bundle.native import ARGUMENTS, CAPACITY_STEP, WEIGHTS_FILE, NativeLayout, half_file
from hetc.ir.types import Array
from hetc.runtime.handoff import size_of
from hetc.runtime.native import jit
from tests.backends.native.running import Case, case
from tests.backends.native.test_coded import both, weights_with
from tests.backends.native.test_native_attention import model as attention
from tests.backends.native.test_native_ops import in_f32, model, weight
from tests.backends.native.test_quantized import quantized

LLC = next(filter(None, (shutil.which(f"llc-{n}") for n in range(30, 18, -1))), None)
TOOLS = [LLC, shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(None in TOOLS, reason="needs llc 19, gcc for aarch64 and qemu-user"),
]
VARIANTS = ["neonbf16", "neon", "portable"]
# Reads the sizes of the buffers and the other arguments, then tokens and weights; writes logits.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
void half(void **);
int main(void) {
  long bytes[8], sizes[6];
  if (fread(bytes, 8, 8, stdin) != 8 || fread(sizes, 8, 6, stdin) != 6) return 1;
  void *arguments[14];
  for (int i = 0; i < 8; i++) {
    arguments[i] = aligned_alloc(64, (bytes[i] + 127) / 64 * 64);
    for (long j = 0; j < bytes[i]; j++) ((char *)arguments[i])[j] = 0;
  }
  for (int i = 0; i < 6; i++) arguments[8 + i] = (void *)sizes[i];
  if (fread(arguments[0], 1, bytes[0], stdin) != bytes[0]) return 1;
  if (fread(arguments[2], 1, bytes[2], stdin) != bytes[2]) return 1;
  half(arguments);
  return fwrite(arguments[1], 1, bytes[1], stdout) != bytes[1];
}
"""


def program(text: str, folder: Path) -> Path:
    """A program for ARM that runs the half of `text` once."""
    from torch_mlir._mlir_libs._mlirDialectsLLVM import translate_module_to_llvmir

    mlir = jit._mlir()
    with mlir.Context():
        module = mlir.Module.parse(text)
        mlir.PassManager.parse(jit._PIPELINE).run(module.operation)
        text = translate_module_to_llvmir(module.operation)
    # An older llc knows an f32 as the hexadecimal of a double alone, and not every attribute.
    text = re.sub(r"-?\d\.\d+e[+-]\d+|f0x[0-9A-F]{8}", _as_double, text)
    (folder / "half.ll").write_text(re.sub(r"^attributes .*|(?<=\)) #\d+$", "", text, flags=re.M))
    (folder / "main.c").write_text(MAIN)
    features = "-mattr=+dotprod,+i8mm,+bf16"
    llc = [str(LLC), "-O2", "-mtriple=aarch64-linux-gnu", features, "-filetype=obj", "half.ll"]
    gcc = ["aarch64-linux-gnu-gcc", "-static", "-O1", "main.c", "half.o", "-o", "program"]
    for command in (llc, gcc):
        subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


def _as_double(found: re.Match[str]) -> str:
    is_bits = found[0].startswith("f0x")
    number = (
        struct.unpack(">f", bytes.fromhex(found[0][3:]))[0] if is_bits else np.float32(found[0])
    )
    return f"0x{struct.pack('>d', number).hex().upper()}"


def logits_on_arm(made: Case, variant: str, tokens: Array, folder: Path) -> Array:
    """The last token's logits of a prompt [B, T], prefilled by one thread."""
    text = made.files[half_file("prefill", variant)].decode()
    layout: NativeLayout = made.plan.layout()
    batch, count = tokens.shape
    sizes: dict[str, Any] = {
        "B": batch,
        "T": count,
        "C": 4 * CAPACITY_STEP,
        "N": 1,
        "K": 1,
        "unit": 0,
    }
    scratch, weights = layout.scratch["prefill"], made.files[WEIGHTS_FILE]
    nbytes: dict[str, Any] = {
        "tokens": tokens.nbytes,
        "logits": batch * layout.logit_columns * 4,
        "weights": len(weights),
        "pasts": batch * 8,
        "state": size_of(layout.state_bytes, sizes, at="state"),
        "shared": size_of(scratch.shared, sizes, at="shared"),
        "private": size_of(scratch.private, sizes, at="private"),
        "barrier": size_of(scratch.barrier, sizes, at="barrier"),
    }
    head = np.array([(nbytes | sizes)[name] for name in ARGUMENTS], np.int64)
    done = subprocess.run(
        ["qemu-aarch64-static", "-cpu", "max", program(text, folder)],
        input=head.tobytes() + tokens.tobytes() + weights,
        stdout=subprocess.PIPE,
        check=True,
    )
    found = np.frombuffer(done.stdout, np.float32).reshape(batch, 1, layout.logit_columns)
    return found[..., : made.vocab]


def error(made: Case, exact: Case, variant: str, tokens: Array, folder: Path) -> float:
    """The largest difference from the interpreter, of the largest logit."""
    expected = exact.reference(tokens, 0, exact.empty(len(tokens)))[0][:, -1:]
    found = logits_on_arm(made, variant, tokens, folder)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_products(variant: str, tmp_path: Path) -> None:
    body = weight("a", 67, 64) + weight("b", 64, 67)
    body += "%p = linear %h, %a\n  %q = silu %p\n  %r = linear %q, %b\n  %x = add %h, %r"
    made, exact = in_f32(model(body, 64), "bf16")
    tokens = np.arange(45).reshape(1, 45)
    found = error(made, exact, variant, tokens, tmp_path)
    assert found < (4e-3 if variant == "neonbf16" else 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_in_12_bits(variant: str, tmp_path: Path) -> None:
    tokens = np.arange(45).reshape(1, 45)
    coded, plain = (
        logits_on_arm(made, variant, tokens, tmp_path) for made in both(weights_with("others"))
    )
    np.testing.assert_array_equal(coded.view(np.uint32), plain.view(np.uint32))


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_quantized_products(variant: str, form: str, tmp_path: Path) -> None:
    made = quantized(form)  # type: ignore[arg-type]
    if half_file("prefill", variant) not in made.files:
        pytest.skip("the same text as another variant")
    tokens = np.random.default_rng(1).integers(0, 50, (2, 11))
    assert error(made, made, variant, tokens, tmp_path) < (2e-5 if variant == "portable" else 1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention(variant: str, tmp_path: Path) -> None:
    made = case(attention(heads=6, groups=2, width=8, options="scale = 0.5, causal"))
    if half_file("prefill", variant) not in made.files:
        pytest.skip("the same text as another variant")
    tokens = np.random.default_rng(1).integers(0, 50, (2, 70))
    assert error(made, made, variant, tokens, tmp_path) < 1e-5
