"""The same layer in PyTorch on the same inputs: time by CUDA events, and the distance of its output from ours.

    python3 bench/gpu/torch_baseline.py --directory DUMP --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing uniform,zipf] [--seconds N]
        [--variants eager,grouped_mm,compiled]

DUMP is what `cuda_bench --dump` left. Prints one JSON object per line. Variants:
    eager        a loop over experts with index lists, as model code writes it (reads back to the host: no graph)
    grouped_mm   rows sorted by expert, torch._grouped_mm for all experts at once, replayed as a CUDA graph
    compiled     the same through torch.compile, replayed as a CUDA graph
Exit status 3: no PyTorch, or no CUDA device for it.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = functional = None

FORWARDS = 16  # per timing, as in cuda_bench


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--tokens", default="1,8,64,512,4096")
    parser.add_argument("--routing", default="uniform,zipf")
    parser.add_argument("--replays", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--variants", default="eager,grouped_mm,compiled")
    return parser.parse_args()


def emit(row):
    print(json.dumps(row), flush=True)


def route(x, router, bias, top_k):
    logits = x.float() @ router.t()
    if bias is not None:
        logits = logits + bias
    weights, ids = torch.softmax(logits, dim=-1).topk(top_k, dim=-1)
    return weights / weights.sum(dim=-1, keepdim=True), ids


def add_shared(x, out, shared):
    if shared is None:
        return out
    gate, up, down = shared
    hidden = functional.silu(functional.linear(x, gate)) * functional.linear(x, up)
    return out + functional.linear(hidden, down)


def eager(x, weights, bias, top_k):
    router, gate, up, down, shared = weights
    routing_weights, ids = route(x, router, bias, top_k)
    out = torch.zeros_like(x)
    for expert in torch.unique(ids).tolist():
        token, slot = torch.where(ids == expert)
        rows = x[token]
        hidden = functional.silu(functional.linear(rows, gate[expert]))
        hidden = hidden * functional.linear(rows, up[expert])
        rows = functional.linear(hidden, down[expert]) * routing_weights[token, slot, None]
        out.index_add_(0, token, rows.to(out.dtype))
    return add_shared(x, out, shared)


def grouped(x, weights, bias, top_k):
    router, gate, up, down, shared = weights
    routing_weights, ids = route(x, router, bias, top_k)
    flat = ids.flatten()
    order = torch.argsort(flat, stable=True)
    counts = torch.zeros(gate.shape[0], dtype=torch.int64, device=x.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))
    offsets = torch.cumsum(counts, 0).to(torch.int32)
    rows = x[order // top_k]
    hidden = functional.silu(torch._grouped_mm(rows, gate.transpose(1, 2), offs=offsets))
    hidden = hidden * torch._grouped_mm(rows, up.transpose(1, 2), offs=offsets)
    rows = torch._grouped_mm(hidden, down.transpose(1, 2), offs=offsets)
    scattered = torch.empty_like(rows)
    scattered[order] = rows
    by_token = scattered.view(x.shape[0], top_k, x.shape[1]).float()
    out = (by_token * routing_weights[:, :, None]).sum(dim=1).to(x.dtype)
    return add_shared(x, out, shared)


def graph_of(functions):
    """One replay runs all of them in turn."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for function in functions:
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for function in functions:
            function()
    return graph


class Runner:
    def __init__(self, arguments):
        self.directory = arguments.directory
        self.variants = arguments.variants.split(",")
        self.replays = arguments.replays
        self.deadline = time.monotonic() + arguments.seconds
        name, hidden, intermediate, experts, top_k, shared = arguments.shape.split(":")
        self.name = name
        self.hidden, self.intermediate = int(hidden), int(intermediate)
        self.experts, self.top_k, self.shared = int(experts), int(top_k), int(shared)
        self.weights = self.load_weights()
        size = sum(w.numel() * w.element_size() for w in self.weights[1:4])
        free, _ = torch.cuda.mem_get_info()
        copies = max(1, min(FORWARDS, int(free * 0.6) // max(size, 1)))
        self.copies = [self.weights] + [self.clone() for _ in range(copies - 1)]

    def clone(self):
        return tuple(
            tuple(part.clone() for part in w) if isinstance(w, tuple) else None if w is None else w.clone()
            for w in self.weights
        )

    def load(self, file, shape, dtype):
        count = 1
        for size in shape:
            count *= size
        flat = torch.from_file(f"{self.directory}/{file}.bin", shared=False, size=count, dtype=dtype)
        return flat.view(*shape).cuda()

    def load_weights(self):
        h, i, e = self.hidden, self.intermediate, self.experts
        bf16 = torch.bfloat16
        shared = None
        if self.shared:
            shared = (
                self.load("shared_gate", (self.shared, h), bf16),
                self.load("shared_up", (self.shared, h), bf16),
                self.load("shared_down", (h, self.shared), bf16),
            )
        return (
            self.load("router", (e, h), torch.float32),
            self.load("gate", (e, i, h), bf16),
            self.load("up", (e, i, h), bf16),
            self.load("down", (e, h, i), bf16),
            shared,
        )

    def time(self, functions, replay, replays=None):
        """Median microseconds per forward; `functions` are run in turn."""
        times = []
        for attempt in range((replays or self.replays) + 2):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            replay()
            end.record()
            end.synchronize()
            if attempt >= 2:
                times.append(begin.elapsed_time(end) * 1e3 / len(functions))
        return statistics.median(times)

    def time_eager(self, functions):
        def run():
            for function in functions:
                function()

        return self.time(functions, run, min(3, self.replays))  # milliseconds each, and the host's at that

    def time_graph(self, functions):
        return self.time(functions, graph_of(functions).replay)

    def run(self, num_tokens, routing):
        suffix = f"-{num_tokens}-{routing}"
        x = self.load(f"hidden{suffix}", (num_tokens, self.hidden), torch.bfloat16)
        ours = self.load(f"output{suffix}", (num_tokens, self.hidden), torch.bfloat16).float()
        our_ids = self.load(f"ids{suffix}", (num_tokens, self.top_k), torch.int32)
        bias = self.load("bias", (self.experts,), torch.float32) if routing == "zipf" else None
        turn = [self.copies[i % len(self.copies)] for i in range(FORWARDS)]
        compiled = torch.compile(grouped, dynamic=False)
        variants = {
            "eager": (eager, self.time_eager),
            "grouped_mm": (grouped, self.time_graph),
            "compiled": (compiled, self.time_graph),
        }
        _, ids = route(x, self.weights[0], bias, self.top_k)
        same = (ids.sort(dim=1).values == our_ids.long().sort(dim=1).values).all(dim=1)

        def bound(layer, weights):
            return lambda: layer(x, weights, bias, self.top_k)

        for variant in self.variants:
            layer, timer = variants[variant]
            row = {"shape": self.name, "tokens": num_tokens, "routing": routing, "variant": variant}
            if time.monotonic() > self.deadline:
                emit({**row, "skipped": "out of time"})
                continue
            try:
                with torch.no_grad():
                    out = bound(layer, self.weights)().float()
                    # Rows whose selection differs by a tie of rounded logits are another computation.
                    distance = (out - ours)[same].norm() / out[same].norm() if same.any() else float("nan")
                    row["relativeDistance"] = float(distance)
                    row["rowsWithOurExperts"] = int(same.sum())
                    row["graph"] = timer != self.time_eager
                    row["copies"] = len(self.copies)
                    row["coldUs"] = timer([bound(layer, weights) for weights in turn])
                    row["warmUs"] = timer([bound(layer, self.weights)] * FORWARDS)
            except Exception as error:  # what this GPU or this PyTorch does not have
                row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            emit(row)


def matrix_rate():
    """TFLOP/s of a large bf16 product of random values."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for attempt in range(10):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        end.synchronize()
        if attempt >= 3:
            times.append(begin.elapsed_time(end) * 1e-3)
    return 2 * size**3 / statistics.median(times) / 1e12


def main():
    arguments = parse_arguments()
    if torch is None:
        print("torch_baseline: no PyTorch here", file=sys.stderr)
        return 3
    if not torch.cuda.is_available():
        print("torch_baseline: PyTorch sees no CUDA device", file=sys.stderr)
        return 3
    # Sums of bf16 products in f32 throughout, as in our kernels.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_tf32 = False
    emit({"torch": torch.__version__, "matrixTflops": matrix_rate()})
    runner = Runner(arguments)
    for routing in arguments.routing.split(","):
        for num_tokens in arguments.tokens.split(","):
            runner.run(int(num_tokens), routing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
