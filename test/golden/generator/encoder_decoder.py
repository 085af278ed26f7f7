"""The capacity families: switch_transformers and nllb_moe."""

import math

import numpy as np

from .block import linear, routed_sum
from .numerics import gelu, relu
from .registry import TORCH_DTYPE, case
from .routers import nllb_top2, switch_top1


def _switch(c, *, lengths, capacity, activation, router_bias, h=24, i=9, e=4):
    layer = 3
    base = f"encoder.block.{layer}.layer.1.mlp."
    c.matrix("shared.weight", 5, h)
    c.put(f"encoder.block.{layer}.layer.1.layer_norm.weight", 1.0 + c.normal(h, std=0.1))
    c.matrix("encoder.block.0.layer.1.mlp.wi.weight", 6, h)
    c.matrix("encoder.block.0.layer.1.mlp.wo.weight", h, 6)
    c.matrix(f"decoder.block.{layer}.layer.2.mlp.router.classifier.weight", e + 1, h)
    x = c.input(sum(lengths), h)
    gate = c.router(base + "router.classifier.weight", e, h)
    gate_bias = c.put(base + "router.classifier.bias", c.normal(e)) if router_bias else None
    experts = [(c.matrix(f"{base}experts.expert_{n}.wi.weight", i, h),
                c.matrix(f"{base}experts.expert_{n}.wo.weight", h, i)) for n in range(e)]
    act = {"relu": relu, "gelu": gelu}[activation]
    z = linear(x, gate, gate_bias)
    routing = switch_top1(z, lengths, capacity)
    # Capacity must bind, and must bind per sequence: one run over all tokens drops other tokens.
    dropped = [ids == [-1] for ids in routing.ids]
    c.require(any(dropped) and not all(dropped), "capacity idle")
    routing.alternatives["no capacity"] = switch_top1(z, lengths, len(x)).ids
    routing.alternatives["capacity over all sequences"] = switch_top1(z, [len(x)], capacity).ids
    config = {"architectures": ["SwitchTransformersForConditionalGeneration"], "model_type": "switch_transformers",
              "torch_dtype": TORCH_DTYPE[c.dtype], "d_model": h, "d_ff": i, "d_kv": 6, "num_heads": 4, "num_layers": 6,
              "num_sparse_encoder_layers": 3, "num_decoder_layers": 6, "num_sparse_decoder_layers": 3,
              "num_experts": e, "expert_capacity": capacity, "router_bias": router_bias, "router_dtype": "float32",
              "router_jitter_noise": 0.01, "router_ignore_padding_tokens": False, "dense_act_fn": activation,
              "vocab_size": 40, "layer_norm_epsilon": 1e-6}
    c.finish(family="switch_transformers", source="HF4:switch_transformers", config=config, layer=layer, x=x,
             sequenceLengths=list(lengths), routing=routing,
             output=routed_sum(x, routing, lambda n, row: linear(act(linear(row, experts[n][0])), experts[n][1])))


@case("switch_transformers")
def _(c):
    _switch(c, lengths=(5, 4), capacity=2, activation="relu", router_bias=False)


@case("switch_transformers_bias", "BF16")
def _(c):
    _switch(c, lengths=(3, 1, 5), capacity=1, activation="gelu", router_bias=True)


def _nllb(c, *, fraction, expert_capacity, normalize_before, batch_prioritized, want_drops, h=24, i=7, e=6, tokens=9,
          dropout=0.2, activation="relu"):
    layer = 3
    base = f"model.encoder.layers.{layer}.ffn."
    c.matrix("model.shared.weight", 5, h)
    c.put(f"model.encoder.layers.{layer}.ff_layer_norm.weight", 1.0 + c.normal(h, std=0.1))
    c.matrix("model.encoder.layers.0.ffn.fc1.weight", 6, h)
    c.matrix("model.encoder.layers.0.ffn.fc2.weight", h, 6)
    c.matrix(f"model.decoder.layers.{layer}.ffn.router.classifier.weight", e + 1, h)
    x = c.input(tokens, h)
    gate = c.router(base + "router.classifier.weight", e, h)
    experts = []
    for n in range(e):
        name = f"{base}experts.expert_{n}."
        experts.append((c.matrix(name + "fc1.weight", i, h), c.put(name + "fc1.bias", c.normal(i, std=0.5)),
                        c.matrix(name + "fc2.weight", h, i), c.put(name + "fc2.bias", c.normal(h, std=0.5))))
    if fraction > 0:
        capacity = math.ceil(fraction * tokens)
    else:
        capacity = expert_capacity if expert_capacity is not None else 2 * math.ceil(tokens / e)
    z = linear(x, gate)
    rule = dict(capacity=capacity, normalize_before=normalize_before, output_factor=1.0 - dropout)
    routing, keep = nllb_top2(z, batch_prioritized=batch_prioritized, **rule)
    if want_drops:
        c.require(np.any(~keep[:, 0]) and np.any(keep[:, 0] & ~keep[:, 1]) and np.any(keep[:, 0] & keep[:, 1]), "drops")
        routing.alternatives["other queue order"] = nllb_top2(z, batch_prioritized=not batch_prioritized, **rule)[0].ids
    else:
        c.require(np.all(keep), "no drops wanted")

    def expert(n, row):
        w1, b1, w2, b2 = experts[n]
        return linear(relu(linear(row, w1, b1)), w2, b2)

    config = {"architectures": ["NllbMoeForConditionalGeneration"], "model_type": "nllb-moe",
              "torch_dtype": TORCH_DTYPE[c.dtype], "d_model": h, "encoder_ffn_dim": i, "decoder_ffn_dim": i,
              "encoder_layers": 8, "decoder_layers": 8, "encoder_sparse_step": 4, "decoder_sparse_step": 4,
              "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_experts": e, "vocab_size": 40,
              "expert_capacity": expert_capacity, "moe_eval_capacity_token_fraction": fraction,
              "normalize_router_prob_before_dropping": normalize_before,
              "batch_prioritized_routing": batch_prioritized, "second_expert_policy": "all",
              "moe_token_dropout": dropout, "router_bias": False, "router_dtype": "float32",
              "router_ignore_padding_tokens": False, "activation_function": activation}
    c.finish(family="nllb_moe", source="HF4:nllb_moe", config=config, layer=layer, x=x, routing=routing,
             output=routed_sum(x, routing, expert))


@case("nllb_moe")
def _(c):
    _nllb(c, fraction=1.0, expert_capacity=64, normalize_before=False, batch_prioritized=False, want_drops=False)


@case("nllb_moe_drop_then_normalize")
def _(c):
    _nllb(c, fraction=0.22, expert_capacity=64, normalize_before=False, batch_prioritized=False, want_drops=True)


@case("nllb_moe_normalize_then_drop", "BF16")
def _(c):
    _nllb(c, fraction=0.0, expert_capacity=2, normalize_before=True, batch_prioritized=False, want_drops=True,
          dropout=0.1)


@case("nllb_moe_batch_prioritized")
def _(c):
    _nllb(c, fraction=0.0, expert_capacity=2, normalize_before=False, batch_prioritized=True, want_drops=True)


@case("nllb_moe_default_capacity")
def _(c):
    _nllb(c, fraction=0.0, expert_capacity=None, normalize_before=True, batch_prioritized=False, want_drops=True, e=10,
          tokens=9)
