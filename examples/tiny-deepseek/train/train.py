"""Trains the model or one of its twins, resumable: `python3 train.py DATA OUT [--ffn moe] [--steps N] [--threads N]`.

AdamW, warm-up, constant rate, then a linear decay over the last fifth of --steps, so that a longer run can go on from any checkpoint that
was written before its decay. OUT/state.pt is written every 50 steps; OUT/log.jsonl has loss, held-out loss and expert balance, and what a
run that was interrupted had logged behind its state is logged again.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from evaluate import BATCH, LENGTH, held_out_loss
from model import Config, Moe, TinyDeepseek

BALANCE_STEP = 0.002
WARMUP = 200


def rate_at(step: int, steps: int, peak: float) -> float:
    decay = steps // 5
    return peak * min(1, (step + 1) / WARMUP, max(0.02, (steps - step) / decay))


def drop_lines_after(log_file: Path, step: int) -> None:
    if log_file.exists():
        lines = log_file.read_text().splitlines(keepends=True)
        log_file.write_text(''.join(line for line in lines if json.loads(line)['step'] <= step))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument('data', type=Path)
    arguments.add_argument('out', type=Path)
    arguments.add_argument('--ffn', choices=('moe', 'dense_total', 'dense_active'), default='moe')
    arguments.add_argument('--steps', type=int, default=8000)
    arguments.add_argument('--rate', type=float, default=2e-3)
    arguments.add_argument('--threads', type=int, default=os.cpu_count())
    arguments.add_argument('--seed', type=int, default=1)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    train = np.fromfile(args.data / 'train.bin', dtype=np.uint8)
    heldout = np.fromfile(args.data / 'heldout.bin', dtype=np.uint8)

    model = TinyDeepseek(Config(ffn=args.ffn))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{'params': matrices, 'weight_decay': 0.1}, {'params': vectors, 'weight_decay': 0.0}], betas=(0.9, 0.95)
    )
    step = 0
    state_file = args.out / 'state.pt'
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        step = state['step']
    print(f'{sum(p.numel() for p in model.parameters())} parameters, from step {step}', flush=True)

    log_file = args.out / 'log.jsonl'
    drop_lines_after(log_file, step)
    log = log_file.open('a')
    began, began_at, losses = time.time(), step, []
    while step < args.steps:
        for group in optimizer.param_groups:
            group['lr'] = rate_at(step, args.steps, args.rate)
        # Windows follow from the step alone: a resumed run sees what an uninterrupted one would have seen.
        starts = np.random.default_rng((args.seed, step)).integers(0, len(train) - LENGTH - 1, BATCH)
        text = torch.from_numpy(np.stack([train[s : s + LENGTH + 1] for s in starts]).astype(np.int64))
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        moes = [layer.mlp for layer in model.layers if isinstance(layer.mlp, Moe)]
        balance = min((m.load.mean() / m.load.max()).item() for m in moes) if moes else None
        for moe in moes:
            moe.balance(BALANCE_STEP)
        step += 1
        if step % 50 == 0:
            speed = (step - began_at) * BATCH * LENGTH / (time.time() - began)
            record = {'step': step, 'loss': round(sum(losses) / len(losses), 4), 'balance': balance}
            losses = []
            if step % 500 == 0 or step == args.steps:
                record['heldOut'] = round(held_out_loss(model, heldout), 4)
            log.write(json.dumps(record) + '\n')
            log.flush()
            done = step * 40 // args.steps
            left = (args.steps - step) * BATCH * LENGTH / speed / 60
            print(f'[{"#" * done}{"." * (40 - done)}] {record} {speed:.0f} tokens/s, {left:.0f} min left', flush=True)
        if step % 50 == 0 or step == args.steps:
            part = state_file.with_suffix('.part')
            torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step,
                        'config': model.c.as_dict()}, part)
            part.replace(state_file)


if __name__ == '__main__':
    main()
