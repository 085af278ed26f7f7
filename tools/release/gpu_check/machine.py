"""What every part of gpu-check stands on: where things lie, what is said, and what the machine says of itself."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CARRIED = ROOT / ".gpu-check"
RUNTIME = ROOT / "build/gpu-runtime"
NO_DEVICE = 3  # exit status of this script and of its programs
OUT_OF_TIME = 124

QUERY = "name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,power.limit,temperature.gpu"


def say(text):
    print(f"gpu-check: {text}", flush=True)


def fail(text, status=1):
    say(text)
    sys.exit(status)


def output_of(command, **options):
    """What a command prints, stripped; None where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, **options)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def gpu_state():
    """nvidia-smi's words about the first GPU, or None."""
    text = output_of(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"])
    if not text:
        return None
    return dict(zip(QUERY.split(","), (field.strip() for field in text.splitlines()[0].split(","))))


def objects_in(text):
    """The JSON objects of a text, one a line; whatever else stands there is passed over, half a last line too."""
    found = []
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


# Those that a bar or a claim names come first: a window that is cut short has them.
FIRST_SHAPES = ("OLMoE", "Mixtral", "Qwen3-30B", "DeepSeek-V2-Lite")


def shapes():
    """The published shapes as the programs take them (NAME:H:I:E:K:SHARED), from the table that the benchmarks read."""
    models = json.loads((ROOT / "test/cases/layers.json").read_text())["models"]
    arguments = {}
    for name, config in models.items():
        shared = config.get("sharedIntermediateSize") or config.get("numSharedExperts", 0) * config["intermediateSize"]
        sizes = [config[key] for key in ("hiddenSize", "intermediateSize", "numExperts", "topK")]
        arguments[name] = ":".join(str(part) for part in [name, *sizes, shared if config.get("numSharedExperts") else 0])
    arguments.pop("small")
    first = [name for word in FIRST_SHAPES for name in arguments if name.startswith(word)]
    return {name: arguments[name] for name in [*first, *(n for n in arguments if n not in first)]}


# What the emulator computes in seconds: of every kind of matmul, and with a shared expert.
REHEARSAL = {"rehearsal": "rehearsal:256:128:4:2:64"}
REHEARSAL_TOKENS = "1,64"
