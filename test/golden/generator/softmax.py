"""Softmax families with one tensor per expert and projection."""

import numpy as np

from . import codecs
from .block import glu, linear, routed_sum
from .case import NUM_LAYERS
from .numerics import sigmoid
from .registry import PROJ, W132, base_config, case, glu_block, store_experts, store_glu
from .routers import biased_topk, softmax_topk, sparsemixer


def block(c, *, family, source, config, h, i, e, k, layer, base, gate="gate.weight", names=PROJ, shared=None,
          shared_width=None, shared_gate=None, renormalize=True, codec=codecs.plain, shared_codec=codecs.plain,
          gate_dtype=None, tokens=7):
    """Scheme A; `shared_gate` names the sigmoid gate of the shared expert."""
    x = c.input(tokens, h)
    wg = c.router(base + gate, e, h, gate_dtype)
    experts = store_experts(c, base, e, h, i, names, codec)
    routing = softmax_topk(linear(x, wg), k, renormalize)
    y = glu_block(x, routing, experts)
    if shared:
        extra = glu(x, store_glu(c, base + shared, h, shared_width, codec=shared_codec))
        if shared_gate:
            extra = extra * sigmoid(linear(x, c.matrix(base + shared_gate, 1, h, std=1.5 * h**-0.5)))
        y = y + extra
    c.finish(family=family, source=source, config=config, layer=layer, x=x, routing=routing, output=y)


def _mixtral(c, layer, h, i, e, k):
    moe = ".block_sparse_moe."
    c.decoys("model.layers.", layer, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    config = base_config(c, "mixtral", "MixtralForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, router_jitter_noise=0.0)
    block(c, family="mixtral", source="HF5:mixtral", config=config, h=h, i=i, e=e, k=k, layer=layer,
          base=f"model.layers.{layer}{moe}", names=W132)


@case("mixtral", "BF16")
def _(c):
    _mixtral(c, 0, 24, 20, 8, 2)


@case("mixtral_sharded", "F16", shards=3)
def _(c):
    _mixtral(c, 1, 40, 12, 9, 3)


def _minimax(c, model_type, architecture, shared_width):
    h, i, e, k, moe = 24, 7, 8, 2, ".block_sparse_moe."
    c.decoys("model.layers.", 1, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    x = c.input(7, h)
    base = "model.layers.1" + moe
    gate = c.router(base + "gate.weight", e, h)
    experts = store_experts(c, base, e, h, i, W132)
    routing = softmax_topk(linear(x, gate), k, True)
    y = glu_block(x, routing, experts)
    config = base_config(c, model_type, architecture, h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, shared_intermediate_size=shared_width)
    if shared_width:
        config["shared_moe_mode"] = "sigmoid"
        shared = glu(x, store_glu(c, "model.layers.1.shared_mlp.", h, shared_width))
        share = sigmoid(linear(x, c.matrix("model.layers.1.coefficient.weight", 1, h, std=1.5 * h**-0.5)))
        y = y * (1.0 - share) + shared * share
        # Layer constants of the residual, which stay outside the block.
        config.update(layernorm_mlp_alpha=3.5, layernorm_mlp_beta=1.25, postnorm=True)
    else:
        config.update(mlp_alpha_factor=3.5, mlp_beta_factor=1.25)
    c.finish(family="minimax", source="HF5:minimax, hub and vLLM minimax_text_01 (shared part)", config=config, layer=1,
             x=x, routing=routing, output=y)


@case("minimax")
def _(c):
    _minimax(c, "minimax", "MiniMaxForCausalLM", 0)


@case("minimax_text_01_shared")
def _(c):
    _minimax(c, "minimax_text_01", "MiniMaxText01ForCausalLM", 28)


def qwen_fields(h, i, e, k, **more):
    return dict(intermediate_size=3, moe_intermediate_size=i, num_experts=e, num_experts_per_tok=k, **more)


@case("qwen2_moe")
def _(c):
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 3, h, num_experts=e)
    config = base_config(c, "qwen2_moe", "Qwen2MoeForCausalLM", h, **qwen_fields(
        h, i, e, k, shared_expert_intermediate_size=28, norm_topk_prob=False, decoder_sparse_step=2,
        mlp_only_layers=[1]))
    block(c, family="qwen2_moe", source="HF5:qwen2_moe", config=config, h=h, i=i, e=e, k=k, layer=3,
          base="model.layers.3.mlp.", renormalize=False, shared="shared_expert.", shared_width=28,
          shared_gate="shared_expert_gate.weight")


@case("qwen3_moe", "F16")
def _(c):
    h, i, e, k = 40, 12, 8, 4
    c.decoys("model.layers.", 0, h, num_experts=e, dense=False)
    config = base_config(c, "qwen3_moe", "Qwen3MoeForCausalLM", h, **qwen_fields(
        h, i, e, k, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]))
    block(c, family="qwen3_moe", source="HF5:qwen3_moe", config=config, h=h, i=i, e=e, k=k, layer=0,
          base="model.layers.0.mlp.")


@case("qwen3_next", "BF16", shards=2)
def _(c):
    h, i, e, k = 24, 14, 9, 4
    c.decoys("model.layers.", 1, h, num_experts=e)
    config = base_config(c, "qwen3_next", "Qwen3NextForCausalLM", h, **qwen_fields(
        h, i, e, k, shared_expert_intermediate_size=12, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]))
    block(c, family="qwen3_next", source="HF5:qwen3_next", config=config, h=h, i=i, e=e, k=k, layer=1,
          base="model.layers.1.mlp.", shared="shared_expert.", shared_width=12, shared_gate="shared_expert_gate.weight")


@case("qwen3_next_default_norm")
def _(c):
    # Without norm_topk_prob: true by its config class, where qwen2_moe's is false.
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 1, h, num_experts=e, dense=False)
    config = base_config(c, "qwen3_next", "Qwen3NextForCausalLM", h, **qwen_fields(
        h, i, e, k, shared_expert_intermediate_size=12))
    block(c, family="qwen3_next", source="HF5:qwen3_next", config=config, h=h, i=i, e=e, k=k, layer=1,
          base="model.layers.1.mlp.", shared="shared_expert.", shared_width=12, shared_gate="shared_expert_gate.weight")


@case("mellum", "BF16")
def _(c):
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 1, h, num_experts=e, dense=False)
    config = base_config(c, "mellum", "MellumForCausalLM", h, mlp_layer_types=["sparse"] * NUM_LAYERS,
                         **qwen_fields(h, i, e, k))
    block(c, family="mellum", source="transformers mellum", config=config, h=h, i=i, e=e, k=k, layer=1,
          base="model.layers.1.mlp.")


def _omni(c, h, thinker, talker):
    """config.json of Qwen3-Omni; each model's own fields of its text model."""
    fields = {"decoder_sparse_step": 1, "mlp_only_layers": []}
    text = base_config(c, "qwen3_omni_moe_text", "Qwen3OmniMoeThinkerForConditionalGeneration", h, **fields, **thinker)
    speech = base_config(c, "qwen3_omni_moe_talker_text", "", talker.pop("hidden_size", h), **fields, **talker)
    del text["architectures"], speech["architectures"]
    return {"architectures": ["Qwen3OmniMoeForConditionalGeneration"], "model_type": "qwen3_omni_moe",
            "torch_dtype": "bfloat16",
            "thinker_config": {"model_type": "qwen3_omni_moe_thinker", "torch_dtype": "bfloat16", "text_config": text},
            "talker_config": {"model_type": "qwen3_omni_moe_talker", "text_config": speech}}


@case("qwen3_omni_moe", "BF16")
def _(c):
    h, i, e, k = 24, 14, 8, 3
    prefix = "thinker.model.layers."
    c.decoys(prefix, 1, h, num_experts=e, root="thinker.model.")
    c.matrix("talker.model.layers.1.mlp.gate.weight", e + 3, h)
    config = _omni(c, h, qwen_fields(h, i, e, k, norm_topk_prob=True),
                   {"num_hidden_layers": 3, **qwen_fields(h, i, e + 3, k + 1)})
    block(c, family="qwen3_omni_moe", source="HF5:qwen3_omni_moe", config=config, h=h, i=i, e=e, k=k, layer=1,
          base=prefix + "1.mlp.")


@case("qwen3_omni_moe_talker", "BF16")
def _(c):
    # The second language model of the checkpoint: other widths, another k, and a shared expert.
    h, i, e, k = 20, 9, 6, 2
    prefix = "talker.model.layers."
    c.decoys(prefix, 1, h, num_experts=e, root="talker.model.")
    c.matrix("thinker.model.layers.1.mlp.gate.weight", 8, 24)
    config = _omni(c, 24, qwen_fields(24, 14, 8, 3, norm_topk_prob=True), {
        "hidden_size": h, "num_hidden_layers": 3,
        **qwen_fields(h, i, e, k, norm_topk_prob=True, shared_expert_intermediate_size=13)})
    block(c, family="qwen3_omni_moe_talker", source="HF5:qwen3_omni_moe (Talker)", config=config, h=h, i=i, e=e, k=k,
          layer=1, base=prefix + "1.mlp.", shared="shared_expert.", shared_width=13,
          shared_gate="shared_expert_gate.weight")
    c.expected["module"] = "talker"


def _olmo(c, model_type, architecture, h, i, e, k):
    c.decoys("model.layers.", 0, h, num_experts=e, dense=False)
    config = base_config(c, model_type, architecture, h, intermediate_size=i, num_experts=e, num_experts_per_tok=k,
                         norm_topk_prob=False)
    block(c, family=model_type, source=f"HF5:{model_type}", config=config, h=h, i=i, e=e, k=k, layer=0,
          base="model.layers.0.mlp.", renormalize=False)


@case("olmoe")
def _(c):
    _olmo(c, "olmoe", "OlmoeForCausalLM", 24, 7, 8, 3)


@case("flex_olmo", "BF16")
def _(c):
    _olmo(c, "flex_olmo", "FlexOlmoForCausalLM", 24, 14, 7, 4)


def _ernie(c, use_bias, n_shared):
    h, i, e, k, floor = 24, 7, 8, 3, 0.3
    base = "model.layers.3.mlp."
    c.decoys("model.layers.", 3, h, num_experts=e)
    x = c.input(8, h)
    gate = c.router(base + "gate.weight", e, h, "F32")
    bias = c.bias(base + "moe_statics.e_score_correction_bias", e, -1.0, 0.5, shape=(1, e))

    def mlp(prefix, width):
        w = store_glu(c, prefix, h, width)
        if use_bias:
            for part, name, size in (("gate", "gate_proj", width), ("up", "up_proj", width), ("down", "down_proj", h)):
                w[part + "_bias"] = c.put(f"{prefix}{name}.bias", c.normal(size, std=0.5))
        return w

    experts = [mlp(f"{base}experts.{n}.", i) for n in range(e)]
    shared = mlp(base + "shared_experts.", n_shared * i) if n_shared else None
    z = linear(x, gate)
    routing = biased_topk(z, k, bias, score="softmax", floor=floor)
    sums = np.array([np.sum(w) for w in routing.weights])
    c.require(np.any(sums < 0.9) and np.any(sums > 0.9), "floor idle")
    config = base_config(
        c, "ernie4_5_moe", "Ernie4_5_MoeForCausalLM", h, intermediate_size=3, moe_num_experts=e, moe_k=k,
        moe_intermediate_size=i, moe_num_shared_experts=n_shared, moe_norm_min=floor, use_bias=use_bias,
        moe_layer_start_index=1, moe_layer_end_index=-1, moe_layer_interval=2)
    c.finish(family="ernie4_5_moe", source="HF5:ernie4_5_moe, HF4:ernie4_5_moe", config=config, layer=3, x=x,
             routing=routing, output=glu_block(x, routing, experts, shared))


@case("ernie4_5_moe", "BF16")
def _(c):
    _ernie(c, False, 2)


@case("ernie4_5_moe_bias")
def _(c):
    _ernie(c, True, 1)


@case("hunyuan_v1_moe", "BF16")
def _(c):
    h, i, layer = 24, 9, 2
    experts, topk, shared = [8] * NUM_LAYERS, [2] * NUM_LAYERS, [1] * NUM_LAYERS
    experts[layer], topk[layer], shared[layer] = 9, 3, 2
    c.decoys("model.layers.", layer, h, num_experts=8, dense=False, router="gate.wg.weight")
    config = base_config(c, "hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM", h, intermediate_size=i,
                         moe_intermediate_size=[i] * NUM_LAYERS, num_experts=experts, moe_topk=topk,
                         num_shared_expert=shared, use_mixed_mlp_moe=True)
    block(c, family="hunyuan_v1_moe", source="HF5:hunyuan_v1_moe", config=config, h=h, i=i, e=9, k=3, layer=layer,
          base=f"model.layers.{layer}.mlp.", gate="gate.wg.weight", gate_dtype="F32", shared="shared_mlp.",
          shared_width=2 * i)


@case("jamba")
def _(c):
    h, i, e, k, moe = 24, 7, 8, 2, ".feed_forward."
    c.decoys("model.layers.", 3, h, moe=moe, num_experts=e, router="router.weight")
    config = base_config(c, "jamba", "JambaForCausalLM", h, intermediate_size=i, num_experts=e, num_experts_per_tok=k,
                         expert_layer_period=2, expert_layer_offset=1)
    block(c, family="jamba", source="HF5:jamba", config=config, h=h, i=i, e=e, k=k, layer=3,
          base="model.layers.3" + moe, gate="router.weight", renormalize=False)


@case("bailing_moe", "BF16")
def _(c):
    h, i, e, k = 24, 14, 8, 3
    c.decoys("model.layers.", 1, h, num_experts=e)
    config = base_config(c, "bailing_moe", "BailingMoeForCausalLM", h, intermediate_size=3, moe_intermediate_size=i,
                         num_experts=e, num_shared_experts=2, num_experts_per_tok=k, norm_topk_prob=True,
                         first_k_dense_replace=0)
    block(c, family="bailing_moe", source="hub", config=config, h=h, i=i, e=e, k=k, layer=1, base="model.layers.1.mlp.",
          shared="shared_experts.", shared_width=2 * i)


@case("phimoe")
def _(c):
    h, i, e, eps, moe = 24, 7, 8, 0.1, ".block_sparse_moe."
    c.decoys("model.layers.", 0, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    base = "model.layers.0" + moe
    x = c.input(8, h)
    gate = c.router(base + "gate.weight", e, h)
    experts = store_experts(c, base, e, h, i, W132)
    routing, kept = sparsemixer(linear(x, gate), eps)
    c.require(max(kept) > 1 and min(kept) == 1 and sum(n > 1 for n in kept) >= 4, "threshold idle")
    config = base_config(c, "phimoe", "PhimoeForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=2, router_jitter_noise=eps, input_jitter_noise=0.0)
    c.finish(family="phimoe", source="HF5:phimoe", config=config, layer=0, x=x, routing=routing,
             output=routed_sum(x, routing, lambda n, row: glu(row, experts[n])))


@case("phimoe_negative", "BF16")
def _(c):
    h, i, e, eps, moe = 24, 9, 6, 0.05, ".block_sparse_moe."
    c.decoys("model.layers.", 1, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    base = "model.layers.1" + moe
    x = c.input(6, h)
    x[:, 0] = 2.0
    drawn = c.normal(e, h, std=h**-0.5)
    drawn[:, 0] = -2.0
    gate = c.put(base + "gate.weight", drawn)
    experts = store_experts(c, base, e, h, i, W132)
    z = linear(x, gate)
    routing, kept = sparsemixer(z, eps)
    c.require(np.any(np.max(z, axis=1) < 0) and sum(n > 1 for n in kept) >= 3, "no all-negative row")
    config = base_config(c, "phimoe", "PhimoeForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=2, router_jitter_noise=eps, input_jitter_noise=0.0)
    c.finish(family="phimoe", source="HF5:phimoe", config=config, layer=1, x=x, routing=routing,
             output=routed_sum(x, routing, lambda n, row: glu(row, experts[n])))


@case("longcat_flash")
def _(c):
    h, i, n, zero, k, scale = 24, 7, 8, 4, 3, 6.0
    base = "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=n + zero, dense=False, router="router.classifier.weight")
    c.matrix("model.layers.1.mlps.0.gate_proj.weight", 6, h)
    c.matrix("model.layers.1.mlps.1.gate_proj.weight", 6, h)
    x = c.input(8, h)
    gate = c.router(base + "router.classifier.weight", n + zero, h)
    # Stored by some checkpoints, never applied.
    c.put(base + "router.classifier.bias", c.normal(n + zero, std=2.0))
    bias = c.bias(base + "router.e_score_correction_bias", n + zero, -0.5, 0.5)
    experts = store_experts(c, base, n, h, i)
    routing = biased_topk(linear(x, gate), k, bias, score="softmax", renormalize=False, scale=scale)
    chosen = [e for ids in routing.ids for e in ids]
    c.require(sum(e >= n for e in chosen) >= 4 and sum(e < n for e in chosen) >= 4, "identity experts unused")
    y = routed_sum(x, routing, lambda e, row: row if e >= n else glu(row, experts[e]))
    config = base_config(
        c, "longcat_flash", "LongcatFlashForCausalLM", h, ffn_hidden_size=6, n_routed_experts=n, zero_expert_num=zero,
        zero_expert_type="identity", moe_topk=k, expert_ffn_hidden_size=i, routed_scaling_factor=scale,
        router_bias=False, num_layers=NUM_LAYERS)
    del config["num_hidden_layers"]
    c.finish(family="longcat_flash", source="HF5:longcat_flash", config=config, layer=1, x=x, routing=routing, output=y)
