"""One golden case: draws weights, keeps the tensors as stored bytes, checks itself and writes its directory."""

import json
import os
import zlib

import numpy as np

from . import numerics
from .safetensors_file import write_checkpoint

# Layers of every case's config; the decoy of layer 1L (two digits) catches loaders that match names by prefix.
NUM_LAYERS = 14
MIN_MARGIN = 1e-3
MIN_ORDER_GAP = 1e-4


class Rejected(Exception):
    """This seed does not make a sharp case; the next one is tried."""


class Case:
    def __init__(self, name, attempt):
        self.name = name
        self.rng = np.random.RandomState((zlib.crc32(name.encode()) + 7919 * attempt) % (2**32))
        self.tensors = {}
        self.extra_files = {}
        self.shards = 1
        self.dtype = "F32"
        self.expected = None

    # -- drawing and storing -------------------------------------------------------------------------------------

    def normal(self, *shape, std=1.0):
        return self.rng.standard_normal(shape) * std

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, shape)

    def put(self, name, values, dtype=None):
        """Store `values` in `dtype` (default: the case's) and return what was stored, as float64."""
        dtype = dtype or self.dtype
        values = np.asarray(values, dtype=np.float64)
        if dtype == "F32":
            stored = values.astype("<f4")
            decoded = stored.astype(np.float64)
        elif dtype == "F16":
            stored = values.astype("<f2")
            decoded = stored.astype(np.float64)
        elif dtype == "BF16":
            stored = numerics.bf16_bits(values)
            decoded = numerics.decode_bf16(stored)
        else:
            raise ValueError(dtype)
        self.raw(name, dtype, stored)
        return decoded

    def raw(self, name, dtype, array):
        """Store integers as they are; the array's shape is the tensor's shape."""
        assert name not in self.tensors, name
        array = np.asarray(array)
        self.tensors[name] = (dtype, list(array.shape), array.astype(array.dtype.newbyteorder("<")).tobytes())

    def matrix(self, name, rows, cols, dtype=None, std=None):
        """A random linear weight [out=rows, in=cols] under its full name."""
        return self.put(name, self.normal(rows, cols, std=cols**-0.5 if std is None else std), dtype)

    def router(self, name, num_experts, hidden_size, dtype=None, spread=1.5):
        """Router weight [E, H] whose logits have a standard deviation of about `spread`."""
        return self.put(name, self.normal(num_experts, hidden_size, std=spread * hidden_size**-0.5), dtype)

    def bias(self, name, num_experts, low=-1.4, high=0.5, dtype="F32", shape=None, edit=None):
        """Selection bias [E]: wide and mostly negative, so that a mask value of 0 selects wrongly."""
        values = self.uniform(low, high, num_experts)
        values = edit(values) if edit else values
        return self.put(name, values.reshape(shape or values.shape), dtype).reshape(-1)

    def input(self, num_tokens, hidden_size, std=1.0):
        return numerics.round_bf16(self.normal(num_tokens, hidden_size, std=std))

    def decoys(self, layers="model.layers.", layer=1, hidden_size=24, moe=".mlp.", router="gate.weight", num_experts=8,
               dense=True, expert="experts.0.up_proj.weight", root="model."):
        """Tensors a loader must not take: embeddings, norms, a dense layer, and a MoE layer numbered 1L."""
        h = hidden_size
        self.matrix(f"{root}embed_tokens.weight", 2, h)
        self.put(f"{root}norm.weight", 1.0 + self.normal(h, std=0.1))
        self.put(f"{layers}{layer}.input_layernorm.weight", 1.0 + self.normal(h, std=0.1))
        self.matrix(f"{layers}{layer}.self_attn.o_proj.weight", h, 2)
        if dense:
            for part, shape in (("gate_proj", (3, h)), ("up_proj", (3, h)), ("down_proj", (h, 3))):
                self.matrix(f"{layers}0.{moe.strip('.')}.{part}.weight", *shape)
        self.matrix(f"{layers}1{layer}{moe}{router}", num_experts + 1, h)
        self.matrix(f"{layers}1{layer}{moe}{expert}", 2, h)

    # -- results -------------------------------------------------------------------------------------------------

    def finish(self, *, family, source, config, layer, x, routing, output, **more):
        num_tokens, hidden_size = x.shape
        self.config = config
        self.routing = routing
        self.expected = {
            "name": self.name, "family": family, "source": source, "layer": layer, "numTokens": num_tokens,
            "hiddenSize": hidden_size, "topK": len(routing.ids[0]), "input": x, **more,
            "topkIds": routing.ids, "topkWeights": routing.weights, "output": output, "margins": routing.margins,
        }

    def require(self, condition, what):
        if not condition:
            raise Rejected(what)

    def check(self):
        """Every decision is sharp, and every rule that has an alternative reading decides at least one token."""
        routing = self.routing
        margins = np.asarray(routing.margins)
        self.require(np.all(np.isfinite(margins)) and np.all(margins > MIN_MARGIN), "margin")
        self.require(np.min(routing.order_gaps) > MIN_ORDER_GAP, "order gap")
        for rule, other in routing.alternatives.items():
            self.require(any(set(a) != set(b) for a, b in zip(routing.ids, other)), rule)
        output = np.asarray(self.expected["output"])
        assert np.all(np.isfinite(output)) and np.all(np.isfinite(routing.weights)), self.name
        assert np.all(np.asarray(self.expected["input"]) == numerics.round_bf16(self.expected["input"])), self.name
        self.require(len({e for row in routing.ids for e in row}) > 1, "one expert only")

    def write(self, root):
        directory = os.path.join(root, self.name)
        os.makedirs(directory)
        _write_json(os.path.join(directory, "config.json"), self.config, indent=2)
        for file, content in self.extra_files.items():
            _write_json(os.path.join(directory, file), content, indent=2)
        write_checkpoint(directory, self.tensors, self.shards)
        _write_json(os.path.join(directory, "expected.json"), {k: _plain(v) for k, v in self.expected.items()})


def _plain(value):
    if isinstance(value, np.ndarray) or (isinstance(value, list) and isinstance(value[0], (list, np.ndarray))):
        value = np.asarray(value).reshape(-1).tolist()
    if isinstance(value, list):
        # -0.0 and 0.0 are one value; 3.0 is written as 3 to keep the files small.
        return [int(v) if isinstance(v, float) and v == int(v) else v for v in value]
    return value


def _write_json(path, content, indent=None):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=indent, separators=None if indent else (",", ":"), allow_nan=False)
        file.write("\n")
