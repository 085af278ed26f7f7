"""Writes test/golden/cases: one small checkpoint directory per model family and weight format, with expected values.

Usage: python3 test/golden/generate.py [case ...]     (no argument: all, and cases/ holds nothing else afterwards)
"""

import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from generator import deepseek, encoder_decoder, fused, llama4_gpt_oss, models_2026, other_tools, publications, quantized, scheme_c, softmax  # noqa: E402,F401
from generator.case import Case, Rejected  # noqa: E402
from generator.registry import CASES  # noqa: E402

MAX_SEEDS = 4000


def build(name):
    """The first seed whose every decision is sharp."""
    builder, dtype, shards = CASES[name]
    reasons = {}
    for attempt in range(MAX_SEEDS):
        case = Case(name, attempt)
        case.dtype, case.shards = dtype, shards
        try:
            builder(case)
            case.check()
            return case, attempt
        except Rejected as reason:
            reasons[str(reason)] = reasons.get(str(reason), 0) + 1
    raise SystemExit(f"{name}: no seed qualifies: {reasons}")


def main(names):
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
    built = [build(name) for name in names or CASES]
    if not names:
        shutil.rmtree(root, ignore_errors=True)
    for case, attempt in built:
        shutil.rmtree(os.path.join(root, case.name), ignore_errors=True)
        case.write(root)
        print(f"{case.name}: seed {attempt}, smallest margin {min(case.routing.margins):.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
