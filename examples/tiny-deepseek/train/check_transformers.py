"""The published files in Hugging Face's own class: `python3 check_transformers.py MODEL GOLDEN` (needs transformers and PyTorch 2).

1. Loads MODEL with DeepseekV3ForCausalLM in f32 and compares its logits with those of golden.py, within BOUND.
2. Loads it as stored, writes it again with save_pretrained, and compares names, shapes and bytes of all tensors.

Exits 1 where either differs.
"""

import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import DeepseekV3ForCausalLM

BOUND = 1e-5
# Of bf16 the bits: numpy has no such type.
NUMPY = {'F32': np.float32, 'BF16': np.uint16, 'U8': np.uint8}


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    data = file.read_bytes()
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == '__metadata__':
            continue
        begin, end = (8 + length + offset for offset in entry['data_offsets'])
        tensors[name] = np.frombuffer(data[begin:end], NUMPY[entry['dtype']]).reshape(entry['shape'])
    return tensors


def round_trip(model: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        DeepseekV3ForCausalLM.from_pretrained(model, torch_dtype='auto').save_pretrained(folder)
        before, after = (read_safetensors(Path(at) / 'model.safetensors') for at in (model, folder))
    if before.keys() != after.keys():
        raise SystemExit(f'written again, it has other tensors: {sorted(before.keys() ^ after.keys())[:5]} …')
    for name, tensor in before.items():
        if tensor.dtype != after[name].dtype or not np.array_equal(tensor, after[name]):
            raise SystemExit(f'written again, {name} is another tensor')
    print(f'written again, all {len(before)} tensors are the same')


def main() -> None:
    model = DeepseekV3ForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()
    golden = read_safetensors(Path(sys.argv[2]))
    tokens = torch.from_numpy(golden['tokens'].astype(np.int64))
    with torch.no_grad():
        logits = model(tokens).logits.double().numpy()
    expected = golden['logits'].astype(np.float64)
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    print(f'relative error {error:.1e} over {tokens.numel()} tokens (bound {BOUND:.0e})')
    # Written so that a NaN fails.
    if not error <= BOUND:
        raise SystemExit(1)
    round_trip(Path(sys.argv[1]))


if __name__ == '__main__':
    main()
