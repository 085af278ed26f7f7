"""The list of cases, and helpers that several family modules share."""

from .block import glu, routed_sum
from .case import NUM_LAYERS
from .codecs import plain
from .numerics import silu

CASES = {}
TORCH_DTYPE = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def case(name, dtype="F32", shards=1):
    """Register a builder `build(c)`; `dtype` is the checkpoint's main weight dtype."""
    def wrap(build):
        assert name not in CASES, name
        CASES[name] = (build, dtype, shards)
        return build
    return wrap


def base_config(c, model_type, architecture, hidden_size, **fields):
    return {
        "architectures": [architecture], "model_type": model_type, "torch_dtype": TORCH_DTYPE[c.dtype],
        "hidden_size": hidden_size, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 40, "rms_norm_eps": 1e-6, "hidden_act": "silu", **fields,
    }


PROJ = ("gate_proj", "up_proj", "down_proj")
W132 = ("w1", "w3", "w2")


def store_glu(c, prefix, hidden_size, intermediate_size, names=PROJ, codec=plain):
    """Store gate, up, down of one MLP below `prefix` (ends with a dot); the names are in that order."""
    h, i = hidden_size, intermediate_size
    shapes = {"gate": (i, h), "up": (i, h), "down": (h, i)}
    return {part: codec(c, prefix + name, c.normal(*shape, std=1.5 * shape[1] ** -0.5))
            for (part, shape), name in zip(shapes.items(), names)}


def store_experts(c, prefix, num_experts, hidden_size, intermediate_size, names=PROJ, codec=plain):
    return [store_glu(c, f"{prefix}experts.{e}.", hidden_size, intermediate_size, names, codec)
            for e in range(num_experts)]


def glu_block(x, routing, experts, shared=None, act=silu):
    """sum_j w_j E_j(x) + shared(x)"""
    y = routed_sum(x, routing, lambda e, row: glu(row, experts[e], act))
    return y if shared is None else y + glu(x, shared, act)
