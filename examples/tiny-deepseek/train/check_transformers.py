"""The published files in Hugging Face's own class: `python3 check_transformers.py MODEL GOLDEN` (needs transformers and PyTorch 2).

Loads MODEL with DeepseekV3ForCausalLM in f32 and compares its logits with those of golden.py. Exits 1 beyond BOUND.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import DeepseekV3ForCausalLM

BOUND = 1e-5
NUMPY = {'F32': np.float32, 'U8': np.uint8}


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


if __name__ == '__main__':
    main()
