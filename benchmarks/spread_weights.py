"""A model that was never quantized, near one that was: its weights taken off their grid.

Weights of a block of 32 in a GGUF file lie on a grid with the block's step. Each is moved by a
random part of at most half a step, which is what rounding may have moved it by: rounding to the
same grid gives the file again. So quantizers have real work to do on a trained model, where no
unquantized weights of it are at hand.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

_BLOCK = 32
# Kinds whose blocks begin with the step, in f16.
_KINDS = {
    gguf.GGMLQuantizationType.Q4_0,
    gguf.GGMLQuantizationType.Q4_1,
    gguf.GGMLQuantizationType.Q8_0,
}


def spread_weights(source: Path, target: Path, seed: int = 0) -> None:
    """Write the GGUF file `source` with all weights in f32, the quantized ones off their grids.

    Raises ValueError for a kind of quantization whose steps are not known here.
    """
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    _copy_fields(reader, writer)
    random = np.random.default_rng(seed)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, _spread(tensor, random))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _spread(tensor: gguf.ReaderTensor, random: np.random.Generator) -> np.ndarray:
    whole = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if tensor.tensor_type in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        return whole
    if tensor.tensor_type not in _KINDS:
        raise ValueError(f"{tensor.name}: the steps of {tensor.tensor_type.name} are not known")
    rows, columns = whole.shape
    blocks = tensor.data.reshape(rows, columns // _BLOCK, -1)
    steps = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16).astype(np.float32)
    moved = random.uniform(-0.5, 0.5, (rows, columns // _BLOCK, _BLOCK)).astype(np.float32) * steps
    return whole + moved.reshape(rows, columns)


def _copy_fields(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """Everything that the file says of the model, but what the writer says itself."""
    for field in reader.fields.values():
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = field.contents()
        if field.name == gguf.Keys.General.FILE_TYPE:
            value = int(gguf.LlamaFileType.ALL_F32)
        writer.add_key_value(field.name, value, kind, sub_type=inner)
