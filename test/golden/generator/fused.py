"""Families that store all experts of a layer in one tensor."""

import numpy as np

from .block import glu, linear
from .case import NUM_LAYERS
from .numerics import ACTIVATIONS, gelu_tanh, sigmoid
from .registry import TORCH_DTYPE, base_config, case, glu_block, store_experts, store_glu
from .routers import biased_topk, softmax_topk, topk_softmax


def halves_output_major(gate_up, down):
    """[E,2I,H], [E,H,I]: first I rows gate, last I rows up."""
    i = down.shape[2]
    return [{"gate": g[:i], "up": g[i:], "down": d} for g, d in zip(gate_up, down)]


def halves_input_major(gate_up, down):
    """[E,H,2I], [E,I,H]: y = x @ W; first I columns gate, last I columns up."""
    i = down.shape[1]
    return [{"gate": g[:, :i].T, "up": g[:, i:].T, "down": d.T} for g, d in zip(gate_up, down)]


def store_output_major(c, gate_up_name, down_name, e, h, i):
    return halves_output_major(c.put(gate_up_name, c.normal(e, 2 * i, h, std=1.5 * h**-0.5)),
                               c.put(down_name, c.normal(e, h, i, std=1.5 * i**-0.5)))


def store_input_major(c, gate_up_name, down_name, e, h, i):
    return halves_input_major(c.put(gate_up_name, c.normal(e, h, 2 * i, std=1.5 * h**-0.5)),
                              c.put(down_name, c.normal(e, i, h, std=1.5 * i**-0.5)))


def multimodal(c, model_type, architecture, text):
    return {"architectures": [architecture], "model_type": model_type, "torch_dtype": TORCH_DTYPE[c.dtype],
            "text_config": {k: v for k, v in text.items() if k != "architectures"},
            "vision_config": {"hidden_size": 12, "intermediate_size": 30, "num_hidden_layers": 2}}


def qwen_text(c, model_type, h, i, e, k, **more):
    return base_config(c, model_type, "", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
                       num_experts_per_tok=k, **more)


QWEN_PREFIX = "model.language_model.layers."


def _qwen3_5(c, h, i, e, k, fused, layer=0):
    base = f"{QWEN_PREFIX}{layer}.mlp."
    c.decoys(QWEN_PREFIX, layer, h, num_experts=e, dense=False, root="model.language_model.")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    if fused:
        experts = store_output_major(c, base + "experts.gate_up_proj", base + "experts.down_proj", e, h, i)
    else:
        experts = store_experts(c, base, e, h, i)
    shared = glu(x, store_glu(c, base + "shared_expert.", h, 28))
    open_ = sigmoid(linear(x, c.matrix(base + "shared_expert_gate.weight", 1, h, std=1.5 * h**-0.5)))
    routing = softmax_topk(linear(x, gate), k, True)
    text = qwen_text(c, "qwen3_5_moe_text", h, i, e, k, shared_expert_intermediate_size=28)
    c.finish(family="qwen3_5_moe", source="HF5:qwen3_5_moe, HFmap", layer=layer, x=x, routing=routing,
             config=multimodal(c, "qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", text),
             output=glu_block(x, routing, experts) + open_ * shared)


@case("qwen3_5_moe_fused")
def _(c):
    _qwen3_5(c, 24, 7, 8, 3, True)


@case("qwen3_5_moe_fused_square", "BF16")
def _(c):
    _qwen3_5(c, 24, 12, 8, 4, True, layer=1)


@case("qwen3_5_moe_per_expert", "BF16")
def _(c):
    _qwen3_5(c, 24, 9, 8, 3, False)


def _qwen3_vl(c, h, i, layer, **more):
    e, k, base = 8, 3, f"{QWEN_PREFIX}{layer}.mlp."
    c.decoys(QWEN_PREFIX, layer, h, num_experts=e, dense=False, root="model.language_model.")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    experts = store_input_major(c, base + "experts.gate_up_proj", base + "experts.down_proj", e, h, i)
    routing = softmax_topk(linear(x, gate), k, True)
    text = qwen_text(c, "qwen3_vl_moe_text", h, i, e, k, decoder_sparse_step=1, mlp_only_layers=[], **more)
    c.finish(family="qwen3_vl_moe", source="HF5:qwen3_vl_moe, HFmap", layer=layer, x=x, routing=routing,
             config=multimodal(c, "qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", text),
             output=glu_block(x, routing, experts))


@case("qwen3_vl_moe", "BF16")
def _(c):
    _qwen3_vl(c, 24, 9, 1, norm_topk_prob=True)


@case("qwen3_vl_moe_square")
def _(c):
    # norm_topk_prob is not read by this family: it always renormalises.
    _qwen3_vl(c, 24, 12, 0, norm_topk_prob=False)


def dbrx_layer(c, h, i, e, k, p, activation, layer, stacked=None, **more):
    """`stacked(name, parts)` stores experts below each other and returns what it stored."""
    stacked = stacked or (lambda name, parts: c.put(name, np.concatenate(parts)))
    base = f"transformer.blocks.{layer}.ffn."
    c.matrix("transformer.wte.weight", 5, h)
    c.put(f"transformer.blocks.{layer}.norm_attn_norm.norm_2.weight", 1.0 + c.normal(h, std=0.1))
    c.matrix(f"transformer.blocks.1{layer}.ffn.router.layer.weight", e + 1, h)
    c.matrix(f"transformer.blocks.1{layer}.ffn.experts.mlp.w1", 6, h)
    x = c.input(7, h)
    gate = c.router(base + "router.layer.weight", e, h)
    w1, v1, w2 = (stacked(f"{base}experts.mlp.{n}", np.split(c.normal(e * i, h, std=1.5 * fan**-0.5), e))
                  for n, fan in (("w1", h), ("v1", h), ("w2", i)))
    experts = [{"gate": w1[n * i:(n + 1) * i], "up": v1[n * i:(n + 1) * i], "down": w2[n * i:(n + 1) * i].T}
               for n in range(e)]
    norm = None if p is None else lambda w: w / np.sum(np.abs(w) ** p) ** (1.0 / p)
    routing = softmax_topk(linear(x, gate), k, False, norm=norm)
    config = {"architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "torch_dtype": TORCH_DTYPE[c.dtype],
              "d_model": h, "n_heads": 4, "n_layers": NUM_LAYERS, "vocab_size": 40, "max_seq_len": 64,
              "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 500000},
              "ffn_config": {"ffn_hidden_size": i, "moe_num_experts": e, "moe_top_k": k,
                             "moe_normalize_expert_weights": p, "ffn_act_fn": {"name": activation},
                             "moe_jitter_eps": 0, "moe_loss_weight": 0.05}, **more}
    c.finish(family="dbrx", source="HF4:dbrx", config=config, layer=layer, x=x, routing=routing,
             output=glu_block(x, routing, experts, act=ACTIVATIONS[activation]))


@case("dbrx", "BF16")
def _(c):
    dbrx_layer(c, 24, 9, 8, 3, 1.0, "silu", 1)


@case("dbrx_square")
def _(c):
    dbrx_layer(c, 16, 16, 8, 3, 2.0, "gelu", 0)


@case("dbrx_no_norm")
def _(c):
    dbrx_layer(c, 24, 7, 6, 2, None, "silu", 0)


def granite_layer(c, model_type, architecture, shared_width, layer, h=24, i=7, e=8, k=3, codec=None, **more):
    """`codec`: experts one by one."""
    moe = ".block_sparse_moe."
    base = f"model.layers.{layer}{moe}"
    c.decoys("model.layers.", layer, h, moe=moe, num_experts=e, dense=False, router="router.layer.weight",
             expert="input_linear.weight")
    x = c.input(7, h)
    gate = c.router(base + "router.layer.weight", e, h)
    experts = (store_experts(c, base, e, h, i, codec=codec) if codec else
               store_output_major(c, base + "input_linear.weight", base + "output_linear.weight", e, h, i))
    routing = topk_softmax(linear(x, gate), k)
    y = glu_block(x, routing, experts)
    config = base_config(c, model_type, architecture, h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, residual_multiplier=0.22, **more)
    if shared_width:
        s = shared_width
        config["shared_intermediate_size"] = s
        fused = c.matrix(f"model.layers.{layer}.shared_mlp.input_linear.weight", 2 * s, h)
        down = c.matrix(f"model.layers.{layer}.shared_mlp.output_linear.weight", h, s)
        y = y + glu(x, {"gate": fused[:s], "up": fused[s:], "down": down})
    c.finish(family=model_type, source=f"HF5:{model_type}", config=config, layer=layer, x=x, routing=routing, output=y)


@case("granitemoe", "BF16")
def _(c):
    granite_layer(c, "granitemoe", "GraniteMoeForCausalLM", 0, 0, i=14)


@case("granitemoeshared")
def _(c):
    granite_layer(c, "granitemoeshared", "GraniteMoeSharedForCausalLM", 14, 1)


@case("granitemoehybrid", "BF16")
def _(c):
    granite_layer(c, "granitemoehybrid", "GraniteMoeHybridForCausalLM", 28, 2,
                  layer_types=(["mamba", "mamba", "attention"] * 5)[:NUM_LAYERS])


@case("jetmoe")
def _(c):
    h, i, e, k, base = 24, 7, 8, 2, "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e, dense=False, router="router.layer.weight",
             expert="input_linear.weight")
    c.matrix("model.layers.1.self_attention.experts.router.layer.weight", e, h)
    x = c.input(7, h)
    gate = c.router(base + "router.layer.weight", e, h)
    experts = store_output_major(c, base + "input_linear.weight", base + "output_linear.weight", e, h, i)
    bias = c.put(base + "bias", c.normal(h))
    routing = topk_softmax(linear(x, gate), k)
    config = base_config(c, "jetmoe", "JetMoeForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, activation_function="silu", kv_channels=6)
    del config["hidden_act"]
    c.finish(family="jetmoe", source="HF5:jetmoe", config=config, layer=1, x=x, routing=routing,
             output=glu_block(x, routing, experts) + bias)


def gemma4_layer(c, h, i, e, k, store, quantization=None):
    """`store(base)` stores the experts below the layer."""
    eps = 1e-6
    layers, root = "model.language_model.layers.", "model.language_model."
    base = layers + "1."
    c.matrix(root + "embed_tokens.weight", 5, h)
    c.put(base + "pre_feedforward_layernorm_2.weight", 1.0 + c.normal(h, std=0.1))
    for name, shape in (("gate_proj", (6, h)), ("up_proj", (6, h)), ("down_proj", (h, 6))):
        c.matrix(f"{base}mlp.{name}.weight", *shape)
    c.matrix(layers + "11.router.proj.weight", e + 1, h)
    x, residual = c.input(7, h), c.input(7, h, std=3.0)
    proj = c.matrix(base + "router.proj.weight", e, h, std=1.5)
    scale = c.put(base + "router.scale", 1.0 + c.normal(h, std=0.3))
    per_expert = c.put(base + "router.per_expert_scale", c.uniform(0.4, 1.8, e))
    experts = store(base)

    def logits(r):
        q = r / np.sqrt(np.mean(r**2, axis=1, keepdims=True) + eps)
        return linear(q * scale * h**-0.5, proj)

    routing = softmax_topk(logits(residual), k, True)
    routing.weights = [w * per_expert[ids] for ids, w in zip(routing.ids, routing.weights)]
    routing.alternatives["routed on the expert input"] = softmax_topk(logits(x), k, True).ids
    text = base_config(c, "gemma4_text", "", h, intermediate_size=3, enable_moe_block=True, num_experts=e,
                       top_k_experts=k, moe_intermediate_size=i, hidden_activation="gelu_pytorch_tanh")
    del text["hidden_act"]
    config = multimodal(c, "gemma4", "Gemma4ForConditionalGeneration", text)
    if quantization:
        config["quantization_config"] = quantization
    c.finish(family="gemma4", source="HF5:gemma4", layer=1, x=x, routerInput=residual, routing=routing, config=config,
             output=glu_block(x, routing, experts, act=gelu_tanh))


@case("gemma4", "BF16")
def _(c):
    h, i, e, k = 24, 9, 8, 3
    gemma4_layer(c, h, i, e, k, lambda base: store_output_major(
        c, base + "experts.gate_up_proj", base + "experts.down_proj", e, h, i))


@case("mistral4")
def _(c):
    h, i, e, k, base = 24, 7, 12, 4, "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e)
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    experts = store_output_major(c, base + "experts.gate_up_proj", base + "experts.down_proj", e, h, i)
    shared = store_glu(c, base + "shared_experts.", h, i)
    routing = biased_topk(linear(x, gate), k, None, score="softmax", n_group=4, topk_group=2, scale=1.5)
    config = base_config(
        c, "mistral4", "Mistral4ForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, n_routed_experts=e,
        n_shared_experts=1, num_experts_per_tok=k, n_group=4, topk_group=2, routed_scaling_factor=1.5,
        norm_topk_prob=True, first_k_dense_replace=1)
    c.finish(family="mistral4", source="HF5:mistral4", config=config, layer=1, x=x, routing=routing,
             output=glu_block(x, routing, experts, shared))


def _aria(c, h, i, layer):
    e, k, n_shared = 8, 3, 2
    layers, root = "language_model.model.layers.", "language_model.model."
    base = f"{layers}{layer}.mlp."
    c.decoys(layers, layer, h, num_experts=e, dense=False, router="router.weight", expert="experts.fc1.weight",
             root=root)
    x = c.input(7, h)
    gate = c.router(base + "router.weight", e, h)
    experts = store_input_major(c, base + "experts.fc1.weight", base + "experts.fc2.weight", e, h, i)
    shared = store_glu(c, base + "shared_experts.", h, n_shared * i)
    routing = topk_softmax(linear(x, gate), k)
    text = base_config(c, "aria_text", "", h, intermediate_size=i, moe_num_experts=e, moe_topk=k,
                       moe_num_shared_experts=n_shared)
    c.finish(family="aria", source="HF5:aria", layer=layer, x=x, routing=routing,
             config=multimodal(c, "aria", "AriaForConditionalGeneration", text),
             output=glu_block(x, routing, experts, shared))


@case("aria", "BF16")
def _(c):
    _aria(c, 24, 7, 1)


@case("aria_square")
def _(c):
    _aria(c, 24, 12, 0)
