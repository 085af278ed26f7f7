"""How fast is it and what does it take: every configuration of the matmuls, layers beside PyTorch, energy."""

import sys
import tempfile
import time

from .machine import NO_DEVICE, OUT_OF_TIME, REHEARSAL, REHEARSAL_TOKENS, ROOT, gpu_state, say, shapes

# The energy counter moves every few tens of milliseconds.
ENERGY_SECONDS = 3
ENERGY_TOKENS = "1,64,4096"
ENERGY_SHAPES = ("OLMoE", "Qwen3-30B")
TUNE_SECONDS = 150
NO_COUNTER = 4  # exit status


def wanted_shapes(check):
    """A tiny one on the emulator, the published ones on a GPU; --shapes takes words of names."""
    if check.options.emulated:
        return REHEARSAL
    words = [word for word in (check.options.shapes or "").split(",") if word]
    return {name: text for name, text in shapes().items() if not words or any(word in name for word in words)}


def tune(check):
    """Each configuration of each matmul; bench/gpu/fit-choice.ts reads OUT/tune.jsonl afterwards, anywhere."""
    began = time.monotonic()
    emulated = check.options.emulated
    before = gpu_state()
    budget = check.left() if emulated else check.left(TUNE_SECONDS)
    ended = {}
    for name, shape in wanted_shapes(check).items():
        left = budget - (time.monotonic() - began)
        if left < 2:
            ended[name] = "no time left"
            continue
        command = [check.program("cuda_tune"), "--shape", shape, "--seconds", str(round(left, 1))]
        if emulated:
            command += ["--tokens", REHEARSAL_TOKENS, "--replays", "1", "--launches", "1"]
        status = check.run("tune", command, left + 10, results="tune.jsonl")
        ended[name] = {0: "ok", OUT_OF_TIME: "out of time"}.get(status, f"status {status}")
    rows = check.objects("tune.jsonl")
    ok = len(rows) > 0 and not any(word.startswith("status") for word in ended.values())
    chosen = sum(row["chosen"] for row in rows)
    check.record("tune", began, ok=ok, summary=f"{len(rows)} configurations timed, {chosen} of them chosen ones", shapes=ended,
                 gpuBefore=before, gpuAfter=gpu_state())


def bench(check):
    began = time.monotonic()
    before = gpu_state()
    command = ["node", ROOT / "node_modules/tsx/dist/cli.mjs", "bench/gpu/measure-gpu.ts", "--program", check.program("cuda_bench"),
               "--python", sys.executable, "--json", check.out / "bench.json"]
    if check.options.emulated:
        command += ["--shapes", "small", "--tokens", "1", "--routing", "uniform", "--replays", "1", "--forwards", "2", "--no-torch"]
    # Of a window, a part stays for what comes after.
    share = 0.7 if "energy" in check.options.phase.split(",") else 1
    seconds = max(10, (check.left() - 15) * share)
    command += [*check.options.bench, "--seconds", str(int(seconds))]
    status = check.run("bench", command, seconds + 15)
    print((check.out / "bench.log").read_text(errors="replace"), flush=True)
    check.record("bench", began, ok=status == 0, gpuBefore=before, gpuAfter=gpu_state())


def energy(check):
    """Joules per token by the card's own counter: our layer, the same in PyTorch compiled, and a dense layer of all experts' size."""
    began = time.monotonic()
    options = check.options
    before = gpu_state()
    seconds = "0.05" if options.emulated else str(ENERGY_SECONDS)
    tokens = "1" if options.emulated else ENERGY_TOKENS
    replays = ["--forwards", "2"] if options.emulated else []
    nvml = ["--nvml", options.nvml] if options.nvml else []
    ended = {}
    for name, shape in wanted_shapes(check).items():
        if not options.emulated and not options.shapes and not name.startswith(ENERGY_SHAPES):
            continue
        if check.left() < 20:
            ended[name] = "no time left"
            continue
        with tempfile.TemporaryDirectory() as directory:
            common = ["--shape", shape, "--tokens", tokens, "--routing", "uniform", *nvml]
            command = [check.program("cuda_bench"), *common, *replays, "--energy", seconds, "--dump", directory]
            status = check.run("energy", command, 90, results="energy.jsonl")
            if status == NO_COUNTER:
                check.not_run("energy", "no energy counter: OUT/energy.log says why")
                return
            ended[name] = {0: "ours", OUT_OF_TIME: "out of time"}.get(status, f"status {status}")
            if status != 0 or options.emulated:
                continue
            script = ROOT / "bench/gpu/torch_energy.py"
            theirs = check.run("energy", [sys.executable, script, *common, "--window", seconds, "--directory", directory], 120,
                               results="energy.jsonl")
            ended[name] += {0: ", torch", NO_DEVICE: ", no torch here", OUT_OF_TIME: ", torch out of time"}.get(theirs, f", torch status {theirs}")
    rows = check.objects("energy.jsonl")
    for row in rows:
        if "joulesPerToken" in row:
            say(f"energy: {row['shape']} T={row['tokens']} {row['layer']}: {row['joulesPerToken']:.3g} J per token over {row['seconds']:.1f} s")
    ok = any("joulesPerToken" in row for row in rows) and not any(word.startswith("status") for word in ended.values())
    check.record("energy", began, ok=ok, summary=f"{len(rows)} windows", shapes=ended, gpuBefore=before, gpuAfter=gpu_state())
