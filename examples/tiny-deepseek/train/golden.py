"""Golden logits of a published checkpoint: `python3 golden.py STATE OUT --data DATA`.

1. The weights are rounded to bf16, as published, and the model is computed in double precision.
2. Short windows of the held-out text are taken, those whose every choice of groups and experts is decided by more than MARGIN: what is
   nearer can fall either way in single precision, and says nothing about an implementation.
3. OUT (a safetensors file) gets tokens, logits and the experts of each sparse layer.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from checkpoint import load_state, round_to_bf16, write_safetensors
from model import Moe, TinyDeepseek

LENGTH = 64
COUNT = 2
MARGIN = 1e-5


def double_model(state: Path) -> TinyDeepseek:
    """Built in double precision, so that the table of rotary angles is double as well."""
    single, _ = load_state(state)
    round_to_bf16(single)
    torch.set_default_dtype(torch.float64)
    model = TinyDeepseek(single.c)
    model.load_state_dict({name: value.double() for name, value in single.state_dict().items()})
    return model.eval()


def selection_margin(moe: Moe, x: torch.Tensor) -> float:
    """How near the nearest decision of the selection was: the last score kept against the first that was not."""
    c = moe.c
    choice = torch.sigmoid(x.flatten(0, -2) @ moe.gate_weight.t()) + moe.selection_bias
    groups = choice.view(-1, c.n_group, c.n_routed_experts // c.n_group)
    scores = groups.topk(2, dim=-1).values.sum(-1)
    ordered = scores.sort(descending=True).values
    margin = (ordered[:, c.topk_group - 1] - ordered[:, c.topk_group]).min().item()
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.topk(c.topk_group).indices, True)
    ordered = groups.masked_fill(~mask.unsqueeze(-1), -math.inf).flatten(1).sort(descending=True).values
    k = c.num_experts_per_tok
    # Also between the kept ones: their order is part of the result.
    return min(margin, (ordered[:, :k] - ordered[:, 1 : k + 1]).min().item())


def write_golden(state: Path, out: Path, data: Path) -> None:
    model = double_model(state)
    text = np.fromfile(data / 'heldout.bin', dtype=np.uint8)

    sparse = {index: layer.mlp for index, layer in enumerate(model.layers) if isinstance(layer.mlp, Moe)}
    ids: dict[int, torch.Tensor] = {}
    margins: list[float] = []

    def watch(index: int, moe: Moe):
        def hook(_, inputs):
            ids[index] = moe.route(inputs[0].flatten(0, -2))[0]
            margins.append(selection_margin(moe, inputs[0]))

        return hook

    for index, moe in sparse.items():
        moe.register_forward_pre_hook(watch(index, moe))

    tokens, logits, experts = [], [], {index: [] for index in sparse}
    for start in range(0, len(text) - LENGTH, 1009):
        window = torch.from_numpy(text[start : start + LENGTH].astype(np.int64))
        margins.clear()
        with torch.no_grad():
            result = model(window.unsqueeze(0))[0]
        if min(margins) <= MARGIN:
            continue
        print(f'bytes {start} to {start + LENGTH}: smallest margin {min(margins):.1e}')
        tokens.append(window.to(torch.uint8))
        logits.append(result.float())
        for index in sparse:
            experts[index].append(ids[index].to(torch.uint8))
        if len(tokens) == COUNT:
            break
    else:
        raise SystemExit(f'fewer than {COUNT} windows are decided by more than {MARGIN}')
    tensors = {'tokens': torch.stack(tokens), 'logits': torch.stack(logits)}
    tensors |= {f'layers.{index}.topk_ids': torch.stack(parts) for index, parts in experts.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    size = write_safetensors(out, tensors, {'arithmetic': 'PyTorch, float64, weights rounded to bf16'})
    print(f'{out}: {size} bytes')


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument('state', type=Path)
    arguments.add_argument('out', type=Path)
    arguments.add_argument('--data', type=Path, required=True, help='folder of heldout.bin, from corpus.py')
    args = arguments.parse_args()
    torch.manual_seed(1)
    write_golden(args.state, args.out, args.data)


if __name__ == '__main__':
    main()
