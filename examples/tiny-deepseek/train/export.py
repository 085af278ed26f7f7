"""Writes a training state as a published checkpoint: `python3 export.py STATE OUT --data DATA`.

OUT gets config.json and model.safetensors (bf16, DeepSeek-V3's tensor names), a dense twin's state the same with no sparse layer. The
held-out loss is computed before and after the rounding to bf16 and printed; the second is that of the published files.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from checkpoint import load_state, published_config, published_tensors, round_to_bf16, write_safetensors
from evaluate import held_out_loss

FEW_WINDOWS = 4


def export(state: Path, out: Path, data: Path) -> dict:
    """Returns what training.json records of a model."""
    model, step = load_state(state)
    heldout = np.fromfile(data / 'heldout.bin', dtype=np.uint8)
    trained = held_out_loss(model, heldout)
    round_to_bf16(model)
    rounded = held_out_loss(model, heldout)
    # Quick to compute anywhere: what the tests compare.
    few = held_out_loss(model, heldout, FEW_WINDOWS)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value if name.endswith('e_score_correction_bias') else value.bfloat16()
        for name, value in published_tensors(model).items()
    }
    size = write_safetensors(out / 'model.safetensors', tensors, {'format': 'pt'})
    (out / 'config.json').write_text(json.dumps(published_config(model.c), indent=2) + '\n')
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f'{out}: step {step}, {parameters} parameters, {size} bytes')
    print(f'held-out loss {trained:.4f} nats per byte as trained, {rounded:.4f} after rounding to bf16')
    return {'step': step, 'parameters': parameters, 'heldOutF32': round(trained, 4), 'heldOutBf16': round(rounded, 4),
            f'heldOutBf16Of{FEW_WINDOWS}Windows': few}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument('state', type=Path)
    arguments.add_argument('out', type=Path)
    arguments.add_argument('--data', type=Path, required=True, help='folder of heldout.bin, from corpus.py')
    args = arguments.parse_args()
    torch.manual_seed(1)
    export(args.state, args.out, args.data)


if __name__ == '__main__':
    main()
