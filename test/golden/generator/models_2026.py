"""Models of 2026 with arithmetic of their own: Kimi-K3, Klear, Command A+, Step-3.5."""

import numpy as np

from . import codecs
from .block import glu, linear, routed_sum
from .case import NUM_LAYERS
from .fused import halves_output_major
from .numerics import sigmoid, silu, softmax
from .registry import W132, base_config, case, glu_block, store_experts, store_glu
from .routers import biased_topk, topk_softmax


def situ(beta, linear_beta):
    def expert(x, w):
        g, u = linear(x, w["gate"]), linear(x, w["up"])
        if linear_beta:
            u = linear_beta * np.tanh(u / linear_beta)
        return linear(beta * np.tanh(g / beta) * sigmoid(g) * u, w["down"])
    return expert


def _kimi_k3(c, h, latent, i, e, k, norm, linear_beta):
    prefix, layer, beta, eps, scale = "language_model.model.layers.", 2, 0.75, 1e-5, 2.446
    base = f"{prefix}{layer}.block_sparse_moe."
    c.decoys(prefix, layer, h, moe=".block_sparse_moe.", num_experts=e, expert="experts.0.w1.weight",
             root="language_model.model.")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "gate.e_score_correction_bias", e)
    down = c.matrix(base + "routed_expert_down_proj.weight", latent, h)
    up = c.matrix(base + "routed_expert_up_proj.weight", h, latent)
    experts = store_experts(c, base, e, latent, i, W132)
    shared = store_glu(c, base + "shared_experts.", h, 2 * i)
    routing = biased_topk(linear(x, gate), k, bias, scale=scale)
    expert = situ(beta, linear_beta)
    rows = routed_sum(linear(x, down), routing, lambda id, row: expert(row, experts[id]))
    if norm:
        weight = c.put(base + "routed_expert_norm.weight", 1.0 + c.normal(latent, std=0.3))
        rows = rows / np.sqrt(np.mean(rows**2, axis=-1, keepdims=True) + eps) * weight
    y = linear(rows, up) + expert(x, shared)
    text = base_config(
        c, "kimi_linear", "KimiLinearForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_experts_per_token=k, num_expert_group=1, topk_group=1, moe_renormalize=True, use_grouped_topk=True,
        moe_router_activation_func="sigmoid", topk_method="noaux_tc", routed_scaling_factor=scale, num_shared_experts=2,
        first_k_dense_replace=1, moe_layer_freq=1, routed_expert_hidden_size=latent, latent_moe_use_norm=norm,
        rms_norm_eps=eps, hidden_act="situ", activation_situ_beta=beta, activation_situ_linear_beta=linear_beta)
    config = {"architectures": ["KimiK3ForConditionalGeneration"], "model_type": "kimi_k3", "text_config": text,
              "torch_dtype": text["torch_dtype"], "vision_config": {"model_type": "vision", "hidden_size": 12}}
    c.finish(family="kimi_k3", source="moonshotai/Kimi-K3 modeling_kimi_linear.py, vLLM kimi_k3", config=config,
             layer=layer, x=x, routing=routing, output=y)


@case("kimi_k3", "BF16")
def _(c):
    _kimi_k3(c, 24, 16, 9, 12, 4, True, 1.5)


@case("kimi_k3_plain")
def _(c):
    # Without the norm, and with `up` as it is.
    _kimi_k3(c, 24, 12, 7, 8, 3, False, None)


@case("klear", "BF16")
def _(c):
    h, i, e, k, base = 24, 7, 10, 3, "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e, dense=False)
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "expert_bias", e)
    experts = store_experts(c, base, e, h, i)
    shared = store_glu(c, base + "shared_experts.", h, i)
    weight = c.matrix(base + "coefficient.weight", 2, h, std=1.5 * h**-0.5)
    both = c.put(base + "coefficient.bias", c.normal(2))
    routing = biased_topk(linear(x, gate), k, bias, eps=0.0)
    share = softmax(linear(x, weight, both))
    y = share[:, :1] * glu_block(x, routing, experts) + share[:, 1:] * glu(x, shared)
    config = base_config(
        c, "Klear", "KlearMoeForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        n_shared_experts=1, num_experts_per_tok=k, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        routed_scaling_factor=2.5)
    c.finish(family="Klear", source="Kwai-Klear/Klear-46B-A2.5B-Instruct, mlx-lm Klear", config=config, layer=1, x=x,
             routing=routing, output=y)


def _cohere(c, select, strategy, renormalize=True):
    h, i, e, k, n_shared, base = 24, 7, 10, 3, 2, "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e)
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    experts = store_experts(c, base, e, h, i)
    shared = store_glu(c, base + "shared_experts.", h, n_shared * i)
    z = linear(x, gate)
    routing = topk_softmax(z, k) if select == "softmax" else biased_topk(z, k, None, renormalize=renormalize, eps=0.0)
    y = glu_block(x, routing, experts, shared)
    if strategy == "average":
        y = y / 2
    text = base_config(
        c, "cohere2_moe", "Cohere2MoeForCausalLM", h, intermediate_size=i, num_experts=e, num_experts_per_tok=k,
        num_shared_experts=n_shared, shared_expert_combination_strategy=strategy, expert_selection_fn=select,
        norm_topk_prob=renormalize, first_k_dense_replace=1,
        mlp_layer_types=["dense"] + ["sparse"] * (NUM_LAYERS - 1))
    c.finish(family="cohere2_moe", source="transformers cohere2_moe (Cohere2MoeTopKRouter, Cohere2MoeSparseMoeBlock)",
             config=text, layer=1, x=x, routing=routing, output=y)


@case("cohere2_moe", "BF16")
def _(c):
    _cohere(c, "sigmoid", "average")


@case("cohere2_moe_softmax_sum")
def _(c):
    _cohere(c, "softmax", "sum")


@case("cohere2_moe_unnormalised")
def _(c):
    _cohere(c, "sigmoid", "average", renormalize=False)


def _capped(limit):
    """The gate is capped after silu."""
    def expert(x, w):
        g, u = silu(linear(x, w["gate"])), linear(x, w["up"])
        if limit:
            g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
        return linear(g * u, w["down"])
    return expert


def _step(c, layer, limit, shared_limit, biased):
    h, i, e, k, scale = 24, 9, 10, 3, 3.0
    base = f"model.layers.{layer}.moe."
    c.decoys("model.layers.", layer, h, moe=".moe.", num_experts=e, expert="gate_proj.weight")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "router_bias", e) if biased else None
    parts = {part: c.put(f"{base}{part}_proj.weight", c.normal(e, *shape, std=2.5 * shape[1] ** -0.5))
             for part, shape in (("gate", (i, h)), ("up", (i, h)), ("down", (h, i)))}
    experts = [{part: stack[n] for part, stack in parts.items()} for n in range(e)]
    shared = store_glu(c, f"model.layers.{layer}.share_expert.", h, 11)
    routing = biased_topk(linear(x, gate), k, bias, scale=scale, eps=1e-20 if biased else 0.0)
    expert, other = _capped(limit), _capped(shared_limit)
    y = routed_sum(x, routing, lambda id, row: expert(row, experts[id])) + other(x, shared)
    if limit:
        g = np.concatenate([linear(x[t], experts[n]["gate"]) for t in range(len(x)) for n in routing.ids[t]])
        # A cap before silu and one after it differ where the gate is not far above.
        c.require(np.any(silu(g) > limit) and np.any((g > limit) & (silu(g) < limit)), "cap unused")
    limits = [0.0] * NUM_LAYERS
    shared_limits = list(limits)
    limits[layer], shared_limits[layer] = limit, shared_limit
    text = base_config(
        c, "step3p5", "Step3p5ForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, moe_num_experts=e,
        moe_top_k=k, moe_router_activation="sigmoid", moe_router_scaling_factor=scale, use_moe_router_bias=biased,
        need_fp32_gate=True, norm_expert_weight=True, share_expert_dim=11,
        moe_layers_enum=",".join(str(n) for n in range(1, NUM_LAYERS)), swiglu_limits=limits,
        swiglu_limits_shared=shared_limits)
    del text["hidden_act"]
    c.finish(family="step3p5", source="stepfun-ai/Step-3.5-Flash modeling_step3p5.py", config=text, layer=layer, x=x,
             routing=routing, output=y)


@case("step3p5", "BF16")
def _(c):
    _step(c, 2, 1.0, 0.75, True)


@case("step3p5_no_limit")
def _(c):
    _step(c, 1, 0.0, 1.25, False)


def _inkling(c, h, i, e, shared, k, layers, bias_name, put_routed, put_shared, **more):
    """`put_*(name of the group, number of experts)` store experts and return them."""
    scale, base = 2.5, layers + "2.mlp."
    c.decoys(layers, 2, h, num_experts=e, root=layers.removesuffix("layers."), expert="experts.w2_weight")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e + shared, h)
    bias = c.bias(base + bias_name, e)
    common = c.put(base + "gate.global_scale", [1.375], "F32")[0]
    experts = put_routed(base + "experts.", e) + put_shared(base + "shared_experts.", shared)
    z = linear(x, gate)
    routing = biased_topk(z[:, :e], k, bias, renormalize=False)
    constant = list(range(e, e + shared))
    for t, row in enumerate(sigmoid(z)):
        # The shared experts first: a bias selects them before all others.
        routing.ids[t] = constant + routing.ids[t]
        routing.weights[t] = row[routing.ids[t]] / np.sum(row[routing.ids[t]]) * scale * common
    text = base_config(
        c, "inkling_text", "InklingForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, n_routed_experts=e,
        n_shared_experts=shared, num_experts_per_tok=k, route_scale=scale, norm_after_topk=True, use_gate_bias=True,
        use_global_scale=True, shared_expert_sink=True, dense_mlp_idx=2)
    config = {"architectures": ["InklingForConditionalGeneration"], "model_type": "inkling_mm_model",
              "text_config": text, "torch_dtype": text["torch_dtype"], **more}
    c.finish(family="inkling_mm_model", source="transformers inkling (InklingTopkRouter, InklingSharedExperts)",
             config=config, layer=2, x=x, routing=routing, output=glu_block(x, routing, experts))


def _alternating(w13, w2):
    """Rows of gate and up alternate."""
    return [{"gate": w13[j, 0::2], "up": w13[j, 1::2], "down": w2[j]} for j in range(len(w2))]


def _inkling_stack(c, h, i, first, second):
    def put(group, n):
        w13 = c.put(group + first, c.normal(n, 2 * i, h, std=1.5 * h**-0.5))
        return _alternating(w13, c.put(group + second, c.normal(n, h, i, std=1.5 * i**-0.5)))
    return put


@case("inkling", "BF16")
def _(c):
    h, i = 24, 7
    _inkling(c, h, i, 10, 2, 3, "model.llm.layers.", "gate.bias", _inkling_stack(c, h, i, "w13_weight", "w2_weight"),
             _inkling_stack(c, h, i, "shared_w13_weight", "shared_w2_weight"))


@case("inkling_hf", "BF16")
def _(c):
    # As transformers has it in memory: halves of the routed experts after one another, shared experts in three tensors.
    h, i = 24, 7

    def routed(group, n):
        both = c.put(group + "gate_up_proj", c.normal(n, 2 * i, h, std=1.5 * h**-0.5))
        return halves_output_major(both, c.put(group + "down_proj", c.normal(n, h, i, std=1.5 * i**-0.5)))

    def shared(group, n):
        parts = {part: c.put(f"{group}{part}_proj", c.normal(n, *shape, std=1.5 * shape[1] ** -0.5))
                 for part, shape in (("gate", (i, h)), ("up", (i, h)), ("down", (h, i)))}
        return [{part: values[j] for part, values in parts.items()} for j in range(n)]

    _inkling(c, h, i, 10, 2, 3, "model.language_model.layers.", "gate.e_score_correction_bias", routed, shared)


@case("inkling_nvfp4", "BF16")
def _(c):
    # As published: `.scale` and `.scale2` stand below the tensor with all experts, beside metadata that nothing needs.
    h, i = 48, 16

    def routed(group, n):
        def stack(name, rows, cols):
            parts = [codecs.nvfp4_arrays(c, c.normal(rows, cols, std=1.5 * cols**-0.5)) for _ in range(n)]
            c.raw(group + name, "U8", np.stack([part[0] for part in parts]))
            c.raw(f"{group}{name}.scale", "F8_E4M3", np.stack([part[1] for part in parts]))
            c.put(f"{group}{name}.scale2", [part[2] for part in parts], "F32")
            c.put(f"{group}{name}.input_amax", [3.5], "F32")
            c.raw(f"{group}{name}.original_shape", "I64", np.array([n, rows, cols]))
            return np.stack([part[3] for part in parts])
        return _alternating(stack("w13_weight", 2 * i, h), stack("w2_weight", h, i))

    _inkling(c, h, i, 6, 2, 3, "model.llm.layers.", "gate.bias", routed,
             _inkling_stack(c, h, i, "shared_w13_weight", "shared_w2_weight"),
             quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]})
