"""The loop over experts that models in PyTorch run (as Mixtral's block does), timed on request.

    python3 torch_loop.py DIRECTORY

Reads config.json and the raw files of DIRECTORY, then one JSON request per line from standard input, and answers each with one line:
{"tokens": T, "first": N, "calls": C} -> {"ms": [...]};  {"tokens": T, "output": FILE} -> {"ms": []} after writing the output as f32.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

directory = Path(sys.argv[1])
config = json.loads((directory / "config.json").read_text())
H, I, E, K = (config[name] for name in ("hiddenSize", "intermediateSize", "numExperts", "topK"))
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[config["dtype"]]
torch.set_num_threads(config["threads"])
torch.set_grad_enabled(False)


def read(name, file_dtype, *shape):
    size = 1
    for length in shape:
        size *= length
    stored = torch.int16 if file_dtype == torch.bfloat16 else file_dtype
    tensor = torch.from_file(str(directory / name), shared=False, size=size, dtype=stored)
    return (tensor.view(torch.bfloat16) if file_dtype == torch.bfloat16 else tensor).reshape(shape)


suffix = config["dtype"]
fc1 = read(f"fc1.{suffix}", dtype, E, I, 2, H)
w1 = [fc1[e, :, 0].clone() for e in range(E)]
w3 = [fc1[e, :, 1].clone() for e in range(E)]
w2 = [matrix.clone() for matrix in read(f"fc2.{suffix}", dtype, E, H, I)]
router = read("router.f32", torch.float32, E, H).clone()
hidden = read("hidden.f32", torch.float32, config["numRows"], H).clone()
shared = []
if config["sharedSize"]:
    S = config["sharedSize"]
    flat = read(f"shared.{suffix}", dtype, 3 * S * H)
    shared = [part.clone() for part in (flat[: S * H].view(S, H), flat[S * H : 2 * S * H].view(S, H), flat[2 * S * H :].view(H, S))]


def swiglu(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def forward(x):
    scores = torch.softmax(F.linear(x, router), dim=-1)
    weights, ids = torch.topk(scores, K, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    x = x.to(dtype)
    out = torch.zeros_like(x)
    mask = F.one_hot(ids, E).permute(2, 1, 0)
    for e in torch.nonzero(mask.sum(dim=(1, 2))).flatten().tolist():
        slot, token = torch.where(mask[e])
        y = swiglu(x[token], w1[e], w3[e], w2[e])
        out.index_add_(0, token, y * weights[token, slot, None].to(dtype))
    return out + swiglu(x, *shared) if shared else out


def window(tokens, call):
    first = call * tokens % (config["numRows"] - tokens + 1)
    return hidden[first : first + tokens]


print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    tokens, times = request["tokens"], []
    for call in range(request.get("calls", 0)):
        x = window(tokens, request["first"] + call)
        began = time.perf_counter()
        forward(x)
        times.append(1000 * (time.perf_counter() - began))
    if "output" in request:
        # numpy need not be installed: a storage writes itself.
        out = forward(window(tokens, 0)).to(torch.float32).contiguous()
        target = torch.from_file(request["output"], shared=True, size=out.numel(), dtype=torch.float32)
        target.copy_(out.flatten())
    print(json.dumps({"ms": times}), flush=True)
