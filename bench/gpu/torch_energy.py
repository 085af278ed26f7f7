"""Joules per token in PyTorch, by the card's own counter: the layer compiled, and a dense layer of the size of all experts together.

    python3 bench/gpu/torch_energy.py --directory DUMP --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing uniform] [--window SECONDS]
        [--nvml FILE]

DUMP is what `cuda_bench --energy … --dump` left: the same weights and inputs. Both layers are replayed as CUDA graphs over the window. Prints one
JSON object per line. Exit status 3: no PyTorch, no CUDA device for it, or no counter.
"""

import argparse
import sys

from energy_counter import EnergyCounter, window
from torch_baseline import Runner, emit, functional, graph_of, grouped, torch


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--tokens", default="1,64,4096")
    parser.add_argument("--routing", default="uniform")
    parser.add_argument("--window", type=float, default=3)
    parser.add_argument("--nvml", default="libnvidia-ml.so.1")
    # What Runner asks for.
    parser.set_defaults(variants="compiled", replays=1, seconds=1e9)
    return parser.parse_args()


def bus_id():
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.pci_domain_id:04X}:{properties.pci_bus_id:02X}:{properties.pci_device_id:02X}.0"


def dense(x, gate, up, down):
    return functional.linear(functional.silu(functional.linear(x, gate)) * functional.linear(x, up), down)


def measure(counter, row, seconds, functions, num_tokens):
    try:
        with torch.no_grad():
            graph = graph_of(functions)
            calls, passed, joules = window(counter, graph.replay, torch.cuda.synchronize, seconds)
        forwards = calls * len(functions)
        row.update(
            forwards=forwards, seconds=passed, joules=joules, watts=joules / passed, joulesPerToken=joules / (forwards * num_tokens),
            source="nvmlDeviceGetTotalEnergyConsumption",
        )
    except Exception as error:  # what this GPU or this PyTorch does not have
        row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    emit(row)


def main():
    arguments = parse_arguments()
    if torch is None or not torch.cuda.is_available():
        print("torch_energy: no PyTorch with a CUDA device here", file=sys.stderr)
        return 3
    try:
        counter = EnergyCounter(bus_id(), arguments.nvml)
    except OSError as error:
        print(f"torch_energy: no energy counter: {error}", file=sys.stderr)
        return 3
    runner = Runner(arguments)
    _, gate, up, down, shared = runner.weights
    # All experts as one: rows of gate and up below each other, columns of down beside each other. The shared expert is one more.
    whole = [gate.reshape(-1, runner.hidden), up.reshape(-1, runner.hidden), down.permute(1, 0, 2).reshape(runner.hidden, -1)]
    if shared is not None:
        whole = [torch.cat([routed, own], dim=axis) for routed, own, axis in zip(whole, shared, (0, 0, 1))]
    compiled_dense = torch.compile(dense, dynamic=False)
    for routing in arguments.routing.split(","):
        bias = runner.load("bias", (runner.experts,), torch.float32) if routing == "zipf" else None
        for num_tokens in map(int, arguments.tokens.split(",")):
            x = runner.load(f"hidden-{num_tokens}-{routing}", (num_tokens, runner.hidden), torch.bfloat16)
            row = {"shape": runner.name, "tokens": num_tokens, "routing": routing, "dtype": "bf16"}
            compiled = torch.compile(grouped, dynamic=False)
            layers = [
                (lambda weights=weights: compiled(x, weights, bias, runner.top_k)) for weights in runner.copies
            ]
            measure(counter, {"layer": "torch compiled", "copies": len(layers), **row}, arguments.window, layers, num_tokens)
            measure(counter, {"layer": "dense", "copies": 1, **row}, arguments.window, [lambda: compiled_dense(x, *whole)], num_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())
