"""llama4 and gpt_oss: fused experts stored input-major, with arithmetic of their own."""

import numpy as np

from .block import glu, linear, routed_sum
from .fused import multimodal, store_input_major
from .numerics import sigmoid
from .registry import base_config, case, store_glu
from .routers import topk_softmax


def llama4_routing(z, k):
    """Top-k of the logits; weights sigmoid(z), not renormalised."""
    routing = topk_softmax(z, k)
    routing.weights = [sigmoid(z[t][ids]) for t, ids in enumerate(routing.ids)]
    return routing


def llama4_output(x, routing, experts, shared):
    """The score multiplies the expert's INPUT."""
    y = glu(x, shared)
    for t in range(len(x)):
        for e, a in zip(routing.ids[t], routing.weights[t]):
            y[t] += glu(a * x[t], experts[e])
    return y


def llama4_config(c, h, i, e, k, **more):
    text = base_config(c, "llama4_text", "", h, intermediate_size=i, intermediate_size_mlp=3, num_local_experts=e,
                       num_experts_per_tok=k, router_jitter_noise=0.0, **more)
    return multimodal(c, "llama4", "Llama4ForConditionalGeneration", text)


def _llama4(c, h, i, e, k, layer, **more):
    layers, moe = "language_model.model.layers.", ".feed_forward."
    base = f"{layers}{layer}{moe}"
    c.decoys(layers, layer, h, moe=moe, num_experts=e, router="router.weight", root="language_model.model.",
             expert="shared_expert.up_proj.weight")
    x = c.input(8, h)
    gate = c.router(base + "router.weight", e, h)
    experts = store_input_major(c, base + "experts.gate_up_proj", base + "experts.down_proj", e, h, i)
    shared = store_glu(c, base + "shared_expert.", h, i)
    routing = llama4_routing(linear(x, gate), k)
    c.finish(family="llama4", source="HF5:llama4", config=llama4_config(c, h, i, e, k, **more), layer=layer, x=x,
             routing=routing, output=llama4_output(x, routing, experts, shared))


@case("llama4", "BF16")
def _(c):
    _llama4(c, 24, 9, 8, 1, 3, interleave_moe_layer_step=2, moe_layers=[1, 3, 5, 7, 9, 11, 13])


@case("llama4_square")
def _(c):
    _llama4(c, 24, 12, 8, 2, 1, interleave_moe_layer_step=2)


# -- gpt_oss -----------------------------------------------------------------------------------------------------------

OSS_LIMIT, OSS_ALPHA = 7.0, 1.702


def oss_expert(row, w, record=None):
    """Interleaved gate and up rows, one-sided gate clamp, up + 1, weighted down bias (it is inside)."""
    hidden = linear(row, w["w1"], w["b1"])
    g, u = hidden[0::2], hidden[1::2]
    if record is not None:
        record.append((g, u))
    g = np.minimum(g, OSS_LIMIT)
    u = np.clip(u, -OSS_LIMIT, OSS_LIMIT)
    return linear((u + 1.0) * g * sigmoid(OSS_ALPHA * g), w["w2"], w["b2"])


def oss_layer(c, base, layer, h, i, e, k, experts, x, config_extra):
    gate = c.router(base + "router.weight", e, h)
    gate_bias = c.put(base + "router.bias", c.normal(e, std=1.5))
    b1 = c.put(base + "experts.gate_up_proj_bias", c.normal(e, 2 * i))
    b2 = c.put(base + "experts.down_proj_bias", c.normal(e, h))
    for n, w in enumerate(experts):
        w.update(b1=b1[n], b2=b2[n])
    z = linear(x, gate, gate_bias)
    routing = topk_softmax(z, k)
    routing.alternatives["router bias ignored"] = topk_softmax(linear(x, gate), k).ids
    record = []
    y = routed_sum(x, routing, lambda n, row: oss_expert(row, experts[n], record))
    g, u = np.concatenate([r[0] for r in record]), np.concatenate([r[1] for r in record])
    c.require(np.any(g > 7) and np.any(g < -7.5) and np.any(u > 7) and np.any(u < -7), "clamps unused")
    config = base_config(c, "gpt_oss", "GptOssForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, swiglu_limit=OSS_LIMIT, **config_extra)
    c.finish(family="gpt_oss", source="HF5:gpt_oss, OSS", config=config, layer=layer, x=x, routing=routing, output=y)


def oss_decoys(c, layer, h, e):
    c.decoys("model.layers.", layer, h, num_experts=e, dense=False, router="router.weight",
             expert="experts.down_proj_bias")


def _oss_dense(c, h, i, layer):
    e, k, base = 8, 3, f"model.layers.{layer}.mlp."
    oss_decoys(c, layer, h, e)
    x = c.input(7, h)
    w1 = c.put(base + "experts.gate_up_proj", c.normal(e, h, 2 * i, std=4.0 * h**-0.5))
    w2 = c.put(base + "experts.down_proj", c.normal(e, i, h, std=i**-0.5))
    oss_layer(c, base, layer, h, i, e, k, [{"w1": w1[n].T, "w2": w2[n].T} for n in range(e)], x, {})


@case("gpt_oss", "BF16")
def _(c):
    _oss_dense(c, 24, 9, 1)


@case("gpt_oss_square")
def _(c):
    _oss_dense(c, 24, 12, 0)
