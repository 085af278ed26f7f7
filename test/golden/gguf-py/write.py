"""Writes the files beside it with gguf-py, ggml's own writer: python3 write.py (gguf 0.19.0, numpy)."""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np

OUT = Path(__file__).parent
E, K, H, I = 3, 2, 64, 32
TYPES = {
    "gate": ((E, I, H), gguf.GGMLQuantizationType.Q8_0),
    "up": ((E, I, H), gguf.GGMLQuantizationType.Q4_0),
    "down": ((E, H, I), gguf.GGMLQuantizationType.BF16),
}


def fill(writer):
    """A layer of Qwen3's architecture, with what stands around it in published files."""
    random = np.random.default_rng(7)
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(H)
    writer.add_feed_forward_length(I)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_expert_count(E)
    writer.add_expert_used_count(K)
    writer.add_expert_feed_forward_length(I)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {i}" for i in range(20)])
    writer.add_token_scores([0.5 * i for i in range(20)])
    writer.add_token_types([1] * 20)
    writer.add_tensor("token_embd.weight", random.standard_normal((20, H)).astype(np.float16))
    writer.add_tensor("blk.1.ffn_gate_inp.weight", random.standard_normal((E, H)).astype(np.float32))
    for name, (shape, kind) in TYPES.items():
        data = gguf.quants.quantize(random.standard_normal(shape).astype(np.float32), kind)
        writer.add_tensor(f"blk.1.ffn_{name}_exps.weight", data, raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(H, np.float32))


def write(name, **options):
    writer = gguf.GGUFWriter(OUT / name, "qwen3moe", **options)
    fill(writer)
    writer.write_header_to_file(OUT / name)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write("whole.gguf")
write("split.gguf", split_max_tensors=3)
tensors = [
    {
        "name": tensor.name,
        "dtype": tensor.tensor_type.name,
        "shape": [int(length) for length in tensor.shape][::-1],
        "offset": int(tensor.data_offset),
        "bytes": int(tensor.n_bytes),
    }
    for tensor in gguf.GGUFReader(OUT / "whole.gguf").tensors
]
values = {}
for tensor in gguf.GGUFReader(OUT / "whole.gguf").tensors:
    if "_exps" in tensor.name:
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("<f4").reshape(-1)
        values[tensor.name] = {
            "first": [float(value) for value in decoded[:4]],
            "sha256": hashlib.sha256(decoded.tobytes()).hexdigest(),
        }
(OUT / "expected.json").write_text(json.dumps({"tensors": tensors, "values": values}, indent=2) + "\n")
