"""Families whose router is scheme C (sigmoid and selection bias) under their own names, and nemotron_h."""

import numpy as np

from .block import linear, routed_sum
from .case import NUM_LAYERS
from .deepseek import v3_block
from .numerics import relu2, sigmoid
from .registry import PROJ, W132, base_config, case, glu_block, store_experts, store_glu
from .routers import biased_topk

DENSE_THEN_SPARSE = {"mlp_layer_types": ["dense", "dense"] + ["sparse"] * (NUM_LAYERS - 2),
                     "first_k_dense_replace": ...}


@case("glm4_moe", "BF16")
def _(c):
    v3_block(c, model_type="glm4_moe", family="glm4_moe", source="HF5:glm4_moe", architecture="Glm4MoeForCausalLM",
             e=10, k=3, n_group=1, topk_group=1, config={"num_nextn_predict_layers": 1, "use_qk_norm": True})


@case("glm4_moe_lite")
def _(c):
    v3_block(c, model_type="glm4_moe_lite", family="glm4_moe_lite", source="HF5:glm4_moe_lite", layer=2, i=10, e=8, k=3,
             architecture="Glm4MoeLiteForCausalLM", n_group=1, topk_group=1, scale=1.8, config=DENSE_THEN_SPARSE)


@case("glm_moe_dsa")
def _(c):
    v3_block(c, model_type="glm_moe_dsa", family="glm_moe_dsa", source="HF5:glm_moe_dsa", layer=3, i=10, e=8, k=4,
             architecture="GlmMoeDsaForCausalLM", n_group=1, topk_group=1, config={"first_k_dense_replace": ...})


@case("glm4v_moe", "BF16")
def _(c):
    v3_block(c, model_type="glm4v_moe_text", family="glm4v_moe", source="HF5:glm4v_moe", e=8, k=3, n_group=1,
             topk_group=1, prefix="model.language_model.layers.", root="model.language_model.",
             nest=lambda text: {"architectures": ["Glm4vMoeForConditionalGeneration"], "model_type": "glm4v_moe",
                                "torch_dtype": "bfloat16", "text_config": text,
                                "vision_config": {"hidden_size": 12, "intermediate_size": 30}})


@case("dots1")
def _(c):
    v3_block(c, model_type="dots1", family="dots1", source="HF5:dots1", architecture="Dots1ForCausalLM", i=9, e=8, k=3,
             n_group=1, topk_group=1, n_shared=2, norm=False, scale=1.7, config={"scoring_func": "noaux_tc"})


@case("solar_open", "F16")
def _(c):
    v3_block(c, model_type="solar_open", family="solar_open", source="HF5:solar_open", layer=2, e=8, k=3, n_group=1,
             topk_group=1, scale=1.3, architecture="SolarOpenForCausalLM",
             config={"first_k_dense_replace": ..., "intermediate_size": ...})


def block(c, *, family, source, config, h, i, e, k, gate, bias, base, layer, names=PROJ, shared=None, n_shared=1,
          bias_dtype="F32", softcap=0.0, tokens=7, gate_dtype=None, expert_root=None, x=None, gate_edit=None, **router):
    """One layer below `base` (ends with a dot); `gate`, `bias` and `shared` are names below it."""
    x = c.input(tokens, h) if x is None else x
    drawn = c.normal(e, h, std=1.5 * h**-0.5)
    wg = c.put(base + gate, gate_edit(drawn) if gate_edit else drawn, gate_dtype)
    b = c.bias(base + bias, e, dtype=bias_dtype) if bias else None
    experts = store_experts(c, expert_root or base, e, h, i, names)
    mlp = store_glu(c, base + shared, h, n_shared * i) if shared else None
    z = linear(x, wg)
    if softcap:
        z = softcap * np.tanh(z / softcap)
    routing = biased_topk(z, k, b, **router)
    c.finish(family=family, source=source, config=config, layer=layer, x=x, routing=routing,
             output=glu_block(x, routing, experts, mlp))
    return z


@case("exaone_moe")
def _(c):
    h, i, e, k = 24, 7, 12, 4
    c.decoys("model.layers.", 2, h, num_experts=e)
    config = base_config(
        c, "exaone_moe", "ExaoneMoeForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_shared_experts=2, num_experts_per_tok=k, n_group=4, topk_group=2, routed_scaling_factor=2.5,
        norm_topk_prob=True, first_k_dense_replace=1,
        mlp_layer_types=["dense"] + ["sparse"] * (NUM_LAYERS - 1))
    block(c, family="exaone_moe", source="HF5:exaone_moe, HFmap", config=config, h=h, i=i, e=e, k=k, layer=2,
          base="model.layers.2.mlp.", gate="gate.weight", bias="e_score_correction_bias", shared="shared_experts.",
          n_shared=2, n_group=4, topk_group=2, scale=2.5)


@case("afmoe", "BF16")
def _(c):
    h, i, e, k = 24, 14, 8, 3
    c.decoys("model.layers.", 2, h, num_experts=e, router="router.gate.weight")
    config = base_config(
        c, "afmoe", "AfmoeForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_shared_experts=1, num_experts_per_tok=k, num_dense_layers=2, route_scale=2.826, route_norm=True,
        score_func="sigmoid", n_group=1, topk_group=1)
    block(c, family="afmoe", source="HF5:afmoe", config=config, h=h, i=i, e=e, k=k, layer=2, base="model.layers.2.mlp.",
          gate="router.gate.weight", bias="expert_bias", shared="shared_experts.", scale=2.826)


@case("hy_v3")
def _(c):
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 1, h, num_experts=e, router="router.gate.weight")
    config = base_config(
        c, "hy_v3", "HYV3ForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_shared_experts=2, num_experts_per_tok=k, router_scaling_factor=2.826, enable_moe_fp32_combine=True)
    block(c, family="hy_v3", source="HF5:hy_v3, HFmap", config=config, h=h, i=i, e=e, k=k, layer=1,
          base="model.layers.1.mlp.", gate="router.gate.weight", bias="expert_bias", shared="shared_mlp.", n_shared=2,
          scale=2.826)


@case("laguna", "BF16")
def _(c):
    h, i, e, k, cap = 24, 14, 8, 3, 2.0
    c.decoys("model.layers.", 1, h, num_experts=e)
    config = base_config(
        c, "laguna", "LagunaForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        shared_expert_intermediate_size=i, num_experts_per_tok=k, moe_routed_scaling_factor=2.5,
        moe_router_logit_softcapping=cap, moe_apply_router_weight_on_input=False,
        mlp_layer_types=["dense"] + ["sparse"] * (NUM_LAYERS - 1))
    z = block(c, family="laguna", source="HF5:laguna, HFmap", config=config, h=h, i=i, e=e, k=k, layer=1,
              base="model.layers.1.mlp.", gate="gate.weight", bias="experts.e_score_correction_bias",
              shared="shared_expert.", softcap=cap, scale=2.5, eps=0.0)
    c.require(np.max(np.abs(z)) > 0.8 * cap, "soft cap idle")


@case("minimax_m2", "BF16")
def _(c):
    h, i, e, k = 24, 14, 10, 4
    moe = ".block_sparse_moe."
    c.decoys("model.layers.", 0, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    config = base_config(
        c, "minimax_m2", "MiniMaxM2ForCausalLM", h, intermediate_size=i, num_local_experts=e, num_experts_per_tok=k,
        scoring_func="sigmoid", use_routing_bias=True, shared_intermediate_size=0)
    block(c, family="minimax_m2", source="HF5:minimax_m2, HFmap", config=config, h=h, i=i, e=e, k=k, layer=0,
          base="model.layers.0" + moe, gate="gate.weight", bias="e_score_correction_bias", names=W132, eps=0.0)


@case("minimax_m3", "BF16")
def _(c):
    # Published with the model type of M2 on the inside; dense layers in a list; the shared expert has the same activation.
    h, i, e, k, limit, alpha = 24, 14, 8, 3, 1.5, 1.702
    layers, moe = "language_model.model.layers.", ".block_sparse_moe."
    base = f"{layers}2{moe}"
    c.decoys(layers, 2, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight", root="language_model.model.")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "e_score_correction_bias", e)
    experts = store_experts(c, base, e, h, i, W132)
    shared = store_glu(c, base + "shared_experts.", h, 20)
    routing = biased_topk(linear(x, gate), k, bias, eps=0.0, scale=2.0)

    def mlp(row, w):
        g = np.minimum(linear(row, w["gate"]), limit)
        u = np.clip(linear(row, w["up"]), -limit, limit)
        return linear((u + 1.0) * g * sigmoid(alpha * g), w["down"])

    for w in [shared] + experts:
        c.require(np.any(linear(x, w["gate"]) > limit) and np.any(np.abs(linear(x, w["up"])) > limit), "clamps unused")
    text = base_config(
        c, "minimax_m2", "", h, intermediate_size=i, dense_intermediate_size=3, shared_intermediate_size=20,
        num_local_experts=e, num_experts_per_tok=k, n_shared_experts=1, use_routing_bias=True, scoring_func="sigmoid",
        swiglu_alpha=alpha, swiglu_limit=limit, moe_layer_freq=[0, 0] + [1] * (NUM_LAYERS - 2))
    text["hidden_act"] = "swigluoai"
    del text["architectures"]
    config = {"architectures": ["MiniMaxM3SparseForConditionalGeneration"], "model_type": "minimax_m3_vl",
              "torch_dtype": "bfloat16", "text_config": text, "vision_config": {"model_type": "clip_vision_model"}}
    c.finish(family="minimax_m3_vl", source="transformers minimax_m3_vl", config=config, layer=2, x=x, routing=routing,
             output=routed_sum(x, routing, lambda n, row: mlp(row, experts[n])) + mlp(x, shared))


@case("mimo_v2_flash")
def _(c):
    # DeepSeek-V3's routing without a shared expert; a factor of null is 1.
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 3, h, num_experts=e)
    config = base_config(
        c, "mimo_v2_flash", "MiMoV2FlashForCausalLM", h, intermediate_size=3, moe_intermediate_size=i,
        n_routed_experts=e, n_shared_experts=None, num_experts_per_tok=k, n_group=1, topk_group=1,
        routed_scaling_factor=None, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc",
        moe_layer_freq=[0, 1, 0] + [1] * (NUM_LAYERS - 3))
    block(c, family="mimo_v2_flash", source="transformers mimo_v2_flash", config=config, h=h, i=i, e=e, k=k, layer=3,
          base="model.layers.3.mlp.", gate="gate.weight", bias="gate.e_score_correction_bias")


def _lfm2(c, use_bias):
    h, i, e, k = 24, 7, 8, 3
    moe = ".feed_forward."
    c.decoys("model.layers.", 2, h, moe=moe, num_experts=e, expert="experts.0.w1.weight", dense=False)
    config = base_config(
        c, "lfm2_moe", "Lfm2MoeForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_experts_per_tok=k, num_dense_layers=2, norm_topk_prob=True, use_expert_bias=use_bias,
        layer_types=(["conv", "conv", "full_attention"] * 5)[:NUM_LAYERS],
        routed_scaling_factor=1.5)
    x = c.input(7, h)
    # Tokens 4.. have logits near -8: their scores sum to about 1e-3, where the epsilon of 1e-6 is visible.
    x[:, 0] = np.where(np.arange(7) >= 4, 4.0, 0.0)

    def sink(gate):
        gate[:, 0] = -2.0
        return gate

    z = block(c, family="lfm2_moe", source="HF5:lfm2_moe", config=config, h=h, i=i, e=e, k=k, layer=2, x=x,
              gate_edit=sink if use_bias else None, base="model.layers.2" + moe, gate="gate.weight",
              bias="expert_bias" if use_bias else None, names=W132, eps=1e-6, scale=1.5)
    c.require(not use_bias or np.max(sigmoid(z)[4:]) < 0.02, "epsilon invisible")


@case("lfm2_moe")
def _(c):
    _lfm2(c, True)


@case("lfm2_moe_no_bias", "BF16")
def _(c):
    _lfm2(c, False)


def _ling2(c, model_type, *, e=12, n_group=4, topk_group=2, architecture="BailingMoeV2ForCausalLM", family="bailing_moe_v2",
           without=()):
    """`without`: fields that config.json lacks, whose values are those of the config class."""
    h, i, k = 24, 7, 4
    c.decoys("model.layers.", 1, h, num_experts=e)
    config = base_config(
        c, model_type, architecture, h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_shared_experts=1, num_experts_per_tok=k, n_group=n_group, topk_group=topk_group, routed_scaling_factor=2.5,
        norm_topk_prob=True, moe_router_enable_expert_bias=True, score_function="sigmoid", first_k_dense_replace=1)
    for field in without:
        del config[field]
    block(c, family=family, source="hub", config=config, h=h, i=i, e=e, k=k, layer=1,
          base="model.layers.1.mlp.", gate="gate.weight", bias="gate.expert_bias", shared="shared_experts.",
          n_group=n_group, topk_group=topk_group, scale=2.5)


@case("k2_horizon", "BF16")
def _(c):
    # The gate's bias is that of the selection, whatever its name says.
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 4, h, num_experts=e)
    c.matrix("model.layers.4.self_attn.v_router.weight", 4, h)
    c.matrix("model.layers.4.self_attn.v_experts.0.weight", 5, h)
    config = base_config(
        c, "k2_horizon", "K2HorizonForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_experts_per_tok=k, num_shared_experts=1, norm_topk_prob=True, router_score_func="sigmoid",
        router_scaling_factor=2.5, moe_gate_bias=True, mlp_only_layers=[0, 1, 2], decoder_sparse_step=1,
        mova_num_experts=4, mova_num_experts_per_tok=2, attention_gate_func="softplus", layernorm_num_groups=2)
    block(c, family="k2_horizon", source="hub", config=config, h=h, i=i, e=e, k=k, layer=4,
          base="model.layers.4.mlp.", gate="gate.weight", bias="gate.bias", shared="shared_experts.", eps=0.0, scale=2.5)


@case("llada2_moe")
def _(c):
    _ling2(c, "llada2_moe", e=16, n_group=8, topk_group=4, architecture="LLaDA2MoeModelLM", family="llada2_moe",
           without=("n_group", "topk_group", "routed_scaling_factor", "norm_topk_prob", "first_k_dense_replace"))


@case("sarvam_moe", "BF16")
def _(c):
    _ling2(c, "sarvam_moe", e=8, n_group=1, topk_group=1, architecture="SarvamMoEForCausalLM", family="sarvam_moe",
           without=("n_group", "topk_group", "routed_scaling_factor", "num_shared_experts"))


@case("bailing_moe_v2")
def _(c):
    _ling2(c, "bailing_moe_v2")


@case("bailing_moe_as_v2")
def _(c):
    # Ling 2.0 as it is published: the model type of the older, softmax-routed models.
    _ling2(c, "bailing_moe")


@case("glm4_moe_masked")
def _(c):
    # Experts masked out by a bias of -inf.
    def mask(bias):
        bias[[1, 4, 5]] = -np.inf
        return bias

    v3_block(c, model_type="glm4_moe", family="glm4_moe", source="HF5:glm4_moe", architecture="Glm4MoeForCausalLM",
             e=10, k=3, n_group=1, topk_group=1, bias_edit=mask)


@case("hy_v3_mtp", "BF16")
def _(c):
    # The layer for multi-token prediction, behind the last one; dense layers counted, as Tencent's own config does.
    h, i, e, k, layer = 24, 7, 8, 3, NUM_LAYERS
    c.decoys("model.layers.", 1, h, num_experts=e, router="router.gate.weight")
    config = base_config(
        c, "hy_v3", "HYV3ForCausalLM", h, intermediate_size=3, expert_hidden_dim=i, num_experts=e, num_shared_experts=1,
        num_experts_per_tok=k, router_scaling_factor=2.826, first_k_dense_replace=1, route_norm=True,
        moe_router_use_sigmoid=True, moe_router_enable_expert_bias=True, num_nextn_predict_layers=1)
    block(c, family="hy_v3", source="HF5:hy_v3, HFmap, vLLM hy_v3", config=config, h=h, i=i, e=e, k=k, layer=layer,
          base=f"model.layers.{layer}.mlp.", gate="router.gate.weight", bias="expert_bias", shared="shared_mlp.",
          scale=2.826)


@case("laguna_mlp_only_layers")
def _(c):
    # The larger Lagunas name their dense layers, have no soft cap and no factor.
    h, i, e, k = 24, 7, 8, 3
    c.decoys("model.layers.", 2, h, num_experts=e)
    config = base_config(
        c, "laguna", "LagunaForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        shared_expert_intermediate_size=i, num_experts_per_tok=k, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[0, 1, 5])
    block(c, family="laguna", source="HF5:laguna, vLLM laguna", config=config, h=h, i=i, e=e, k=k, layer=2,
          base="model.layers.2.mlp.", gate="gate.weight", bias="experts.e_score_correction_bias",
          shared="shared_expert.", eps=0.0)


# -- nemotron_h: ungated experts --------------------------------------------------------------------------------------


def _nemotron(c, *, latent, layer, layout, h=24, i=9, e=12, k=4, shared_width=28, root="backbone.", nest=None, groups=(4, 2),
              model_type="nemotron_h"):
    d = latent or h
    base = f"{root}layers.{layer}.mixer."
    c.matrix(root + "embeddings.weight", 5, h)
    c.put(f"{root}layers.{layer}.norm.weight", 1.0 + c.normal(h, std=0.1))
    c.matrix(f"{root}layers.1{layer}.mixer.gate.weight", e + 1, h)
    c.matrix(root + "layers.0.mixer.up_proj.weight", 6, h)
    c.matrix(root + "layers.0.mixer.down_proj.weight", h, 6)
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "gate.e_score_correction_bias", e)
    experts = [(c.matrix(f"{base}experts.{n}.up_proj.weight", i, d),
                c.matrix(f"{base}experts.{n}.down_proj.weight", d, i)) for n in range(e)]
    up = c.matrix(base + "shared_experts.up_proj.weight", shared_width, h)
    down = c.matrix(base + "shared_experts.down_proj.weight", h, shared_width)
    inner, fc2 = x, None
    if latent:
        inner = linear(x, c.matrix(base + "fc1_latent_proj.weight", d, h))
        fc2 = c.matrix(base + "fc2_latent_proj.weight", h, d)
    routing = biased_topk(linear(x, gate), k, bias, n_group=groups[0], topk_group=groups[1], scale=2.5)
    routed = routed_sum(inner, routing, lambda n, row: linear(relu2(linear(row, experts[n][0])), experts[n][1]))
    if latent:
        routed = linear(routed, fc2)
    config = base_config(
        c, model_type, "NemotronHForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, n_routed_experts=e,
        n_shared_experts=1, moe_shared_expert_intermediate_size=shared_width, num_experts_per_tok=k, n_group=groups[0],
        topk_group=groups[1], routed_scaling_factor=2.5, norm_topk_prob=True, mlp_hidden_act="relu2", mlp_bias=False,
        layer_norm_epsilon=1e-5)
    config.update(layout)
    del config["hidden_act"]
    if latent:
        config["moe_latent_size"] = latent
    for name in [name for name, value in config.items() if value is Ellipsis]:
        del config[name]
    c.finish(family=model_type, source="HF5:nemotron_h", config=nest(config) if nest else config, layer=layer, x=x, routing=routing,
             output=routed + linear(relu2(linear(x, up)), down))


@case("nemotron_h", "BF16")
def _(c):
    _nemotron(c, latent=None, layer=3, layout={"hybrid_override_pattern": "-M*EMEM*EMEMEE"})


@case("nemotron_h_latent")
def _(c):
    blocks = ["mlp", "moe", "mamba", "attention"] + ["mamba", "moe"] * 5
    _nemotron(c, latent=10, layer=1, i=14, layout={"layers_block_type": blocks})


@case("nemotron_h_omni", "BF16")
def _(c):
    # Wrapped in a multimodal model that no row knows: the section with a known model type is its language model.
    _nemotron(c, latent=None, layer=3, e=8, k=3, layout={"hybrid_override_pattern": "-M*EMEM*EMEMEE"},
              root="language_model.backbone.",
              nest=lambda text: {"architectures": ["NemotronH_Nano_Omni_Reasoning_V3"],
                                 "model_type": "NemotronH_Nano_Omni_Reasoning_V3", "torch_dtype": "bfloat16",
                                 "llm_config": text, "vision_config": {"model_type": "radio", "hidden_size": 12}})


@case("nemotron_h_puzzle", "BF16")
def _(c):
    # Widths and k of each layer stand in block_configs, and nowhere else.
    blocks = [{"block_type": "mlp"}, {"block_type": "moe", "moe_intermediate_size": 5, "num_experts_per_tok": 2},
              {"block_type": "mamba"}, {"block_type": "moe", "moe_intermediate_size": 9, "num_experts_per_tok": 3}]
    blocks += [{"block_type": "attention"}] * (NUM_LAYERS - len(blocks))
    _nemotron(c, latent=12, layer=3, e=8, k=3, groups=(1, 1), root="model.", model_type="nemotron_h_puzzle",
              layout={"block_configs": blocks, "moe_intermediate_size": ..., "num_experts_per_tok": ...})


@case("param2moe", "BF16")
def _(c):
    _ling2(c, "param2moe", e=8, n_group=1, topk_group=1, architecture="Param2MoEForCausalLM", family="param2moe",
           without=("n_group", "topk_group", "routed_scaling_factor"))
