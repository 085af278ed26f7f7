"""DeepSeek V2, V3, V3.2, V4 and the Kimi models."""

import numpy as np

from . import codecs
from .block import linear, routed_sum
from .numerics import silu
from .registry import W132, base_config, case, glu_block, store_experts, store_glu
from .routers import biased_topk, hash_table

V3_SOURCE = "HF5:deepseek_v3, DS3, vLLM grouped_topk_router, hub"


def v3_block(c, *, model_type, family, source=V3_SOURCE, architecture="DeepseekV3ForCausalLM", layer=1, h=24, i=7, e=12,
             k=4, n_group=4, topk_group=2, scale=2.5, n_shared=1, norm=True, prefix="model.layers.", tokens=7,
             codec=codecs.plain, shared_codec=codecs.plain, config=None, nest=None, gate_dtype=None, root="model.",
             bias_edit=None, masked=-np.inf):
    """A layer with deepseek_v3 tensor names and scheme C; `nest` wraps the config of multimodal checkpoints."""
    base = f"{prefix}{layer}.mlp."
    c.decoys(prefix, layer, h, num_experts=e, root=root)
    x = c.input(tokens, h)
    gate = c.router(base + "gate.weight", e, h, gate_dtype)
    bias = c.bias(base + "gate.e_score_correction_bias", e, edit=bias_edit)
    experts = store_experts(c, base, e, h, i, codec=codec)
    shared = store_glu(c, base + "shared_experts.", h, n_shared * i, codec=shared_codec)
    routing = biased_topk(linear(x, gate), k, bias, n_group=n_group, topk_group=topk_group, renormalize=norm,
                          scale=scale, masked=masked)
    fields = base_config(
        c, model_type, architecture, h, intermediate_size=3, moe_intermediate_size=i, n_routed_experts=e,
        n_shared_experts=n_shared, num_experts_per_tok=k, n_group=n_group, topk_group=topk_group,
        routed_scaling_factor=scale, norm_topk_prob=norm, first_k_dense_replace=1)
    fields.update(config or {})
    for name in [n for n, v in fields.items() if v is Ellipsis]:
        del fields[name]
    c.finish(family=family, source=source, config=nest(fields) if nest else fields, layer=layer, x=x, routing=routing,
             output=glu_block(x, routing, experts, shared))


V3_FIELDS = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1, "ep_size": 1,
             "num_nextn_predict_layers": 1}


def _v2(c, method, h, i, e, k, scale, groups, n_shared):
    base = "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e)
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    experts = store_experts(c, base, e, h, i)
    shared = store_glu(c, base + "shared_experts.", h, n_shared * i)
    n_group, topk_group = groups or (1, 1)
    routing = biased_topk(linear(x, gate), k, None, score="softmax", n_group=n_group, topk_group=topk_group, mode="max",
                          renormalize=False, scale=scale)
    config = base_config(
        c, "deepseek_v2", "DeepseekV2ForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, n_routed_experts=e,
        n_shared_experts=n_shared, num_experts_per_tok=k, topk_method=method, n_group=n_group, topk_group=topk_group,
        routed_scaling_factor=scale, norm_topk_prob=False, scoring_func="softmax", first_k_dense_replace=1,
        moe_layer_freq=1)
    c.finish(family="deepseek_v2", source="HF4:deepseek_v2, DS3, hub", config=config, layer=1, x=x, routing=routing,
             output=glu_block(x, routing, experts, shared))


@case("deepseek_v2_greedy", "BF16")
def _(c):
    _v2(c, "greedy", 24, 14, 8, 3, 1.25, None, 2)


@case("deepseek_v2_group_limited")
def _(c):
    _v2(c, "group_limited_greedy", 24, 7, 12, 4, 16.0, (4, 2), 1)


@case("deepseek_vl2", "BF16")
def _(c):
    # The language model of DeepSeek-VL2 (27B): V2's model type and names, V3's selection.
    v3_block(c, model_type="deepseek_v2", family="deepseek_v2", source="deepseek-ai/DeepSeek-VL2 modeling_deepseek.py",
             architecture="DeepseekV2ForCausalLM", e=8, k=3, n_group=1, topk_group=1, scale=2.0, n_shared=2,
             prefix="language.model.layers.", root="language.model.",
             config={"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1},
             nest=lambda text: {"architectures": ["DeepseekVLV2ForCausalLM"], "model_type": "deepseek_vl_v2",
                                "torch_dtype": "bfloat16", "language_config": text,
                                "vision_config": {"model_type": "vision", "width": 12}})


@case("axk1", "BF16")
def _(c):
    # An expert of a group that was left out, which ranks with 0, goes before one whose biased score is negative.
    v3_block(c, model_type="axk1", family="axk1", source="HF5:axk1", architecture="AXK1ForCausalLM", e=8, k=4, n_group=4,
             topk_group=3, masked=0.0, config={"topk_method": "noaux_tc", "moe_layer_freq": 1})


@case("axk2", "BF16")
def _(c):
    v3_block(c, model_type="axk2", family="axk2", source="HF5:axk2", architecture="AXK2ForCausalLM", e=8, k=3, n_group=1,
             topk_group=1, config={"n_group": None, "topk_group": None, "norm_topk_prob": True})


@case("deepseek_v3", shards=3)
def _(c):
    v3_block(c, model_type="deepseek_v3", family="deepseek_v3", layer=1, config=V3_FIELDS)


@case("deepseek_v3_bf16", "BF16")
def _(c):
    v3_block(c, model_type="deepseek_v3", family="deepseek_v3", layer=2, h=40, i=12, e=8, k=3, n_shared=2,
             config=V3_FIELDS)


@case("deepseek_v32", "BF16")
def _(c):
    v3_block(c, model_type="deepseek_v32", family="deepseek_v32", architecture="DeepseekV32ForCausalLM", i=9,
             config=V3_FIELDS)


KIMI = dict(n_group=1, topk_group=1, scale=2.827, e=10, k=3)


@case("kimi_k2", "BF16")
def _(c):
    v3_block(c, model_type="kimi_k2", family="kimi_k2", i=14, config=V3_FIELDS, **KIMI)


def ct_config(fmt, weights, ignore, act=None):
    return {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed",
            "kv_cache_scheme": None, "ignore": ignore,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": act,
                                          "output_activations": None}}}


INT4_GROUP = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, "dynamic": False,
              "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {}}
KIMI_IGNORE = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]


@case("kimi_k2_int4", "BF16")
def _(c):
    config = {**V3_FIELDS, "quantization_config": ct_config("pack-quantized", INT4_GROUP, KIMI_IGNORE)}
    v3_block(c, model_type="kimi_k2", family="kimi_k2", h=96, i=32, n_group=1, topk_group=1, scale=2.827, e=4, k=2,
             n_shared=1, codec=codecs.ct_packed(group=32), config=config)


@case("kimi_k25_int4", "BF16", shards=2)
def _(c):
    config = {**V3_FIELDS, "quantization_config": ct_config("pack-quantized", INT4_GROUP, KIMI_IGNORE)}
    v3_block(c, model_type="kimi_k2", family="kimi_k2", h=32, i=64, n_group=1, topk_group=1, scale=2.827, e=6, k=3,
             codec=codecs.ct_packed(group=32), config=config, prefix="language_model.model.layers.",
             root="language_model.model.",
             nest=lambda text: {"architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25",
                                "torch_dtype": "bfloat16", "text_config": text,
                                "vision_config": {"hidden_size": 32, "num_hidden_layers": 2}})


@case("kimi_linear")
def _(c):
    h, i, e, k, scale = 24, 6, 12, 4, 2.446
    base = "model.layers.2.block_sparse_moe."
    c.decoys("model.layers.", 2, h, moe=".block_sparse_moe.", num_experts=e, expert="experts.0.w1.weight")
    x = c.input(7, h)
    gate = c.router(base + "gate.weight", e, h)
    bias = c.bias(base + "gate.e_score_correction_bias", e)
    experts = store_experts(c, base, e, h, i, W132)
    shared = store_glu(c, base + "shared_experts.", h, i)
    routing = biased_topk(linear(x, gate), k, bias, n_group=4, topk_group=2, scale=scale)
    config = base_config(
        c, "kimi_linear", "KimiLinearForCausalLM", h, intermediate_size=3, moe_intermediate_size=i, num_experts=e,
        num_experts_per_token=k, num_expert_group=4, topk_group=2, moe_renormalize=True, use_grouped_topk=True,
        moe_router_activation_func="sigmoid", routed_scaling_factor=scale, num_shared_experts=1,
        first_k_dense_replace=1, moe_layer_freq=1)
    c.finish(family="kimi_linear", source="hub (modeling_kimi.py)", config=config, layer=2, x=x, routing=routing,
             output=glu_block(x, routing, experts, shared))


# -- DeepSeek-V4 ---------------------------------------------------------------------------------------------------

V4_SOURCE = "transformers 5.18 deepseek_v4 (router, experts, clamped shared expert), hub inference/model.py"
VOCAB = 40


def _limited(limit):
    """g = min(w1 x, limit) without a lower clamp, u clamped on both sides; the shared expert has the same limits."""
    def expert(row, w):
        g = np.minimum(linear(row, w["gate"]), limit)
        u = np.clip(linear(row, w["up"]), -limit, limit)
        return linear(silu(g) * u, w["down"])
    return expert


def _check_clamps(c, x, routing, experts, shared, limit):
    g = np.concatenate([linear(x[t], experts[e]["gate"]) for t in range(len(x)) for e in routing.ids[t]])
    u = np.concatenate([linear(x[t], experts[e]["up"]) for t in range(len(x)) for e in routing.ids[t]])
    c.require(np.any(g > limit) and np.any(g < -limit) and np.any(u > limit) and np.any(u < -limit), "clamps unused")
    shared_up = np.abs(linear(x, shared["up"]))
    c.require(np.any(linear(x, shared["gate"]) > limit) and np.any(shared_up > limit), "shared clamp unused")


def _v4(c, *, layer, hashed, limit, h=24, i=9, e=10, k=3, hf_names=False, codec=codecs.plain, shared_codec=codecs.plain,
        table_dtype=np.int64, config=None, tokens=8):
    prefix = "model.layers." if hf_names else "layers."
    moe = ".mlp." if hf_names else ".ffn."
    base = f"{prefix}{layer}{moe}"
    c.matrix("model.embed_tokens.weight" if hf_names else "embed.weight", 5, h)
    c.put(f"{prefix}{layer}.ffn_norm.weight", 1.0 + c.normal(h, std=0.1))
    c.matrix(f"{prefix}1{layer}{moe}gate.weight", e + 1, h)
    x = c.input(tokens, h)
    gate = c.router(base + "gate.weight", e, h, spread=2.0)
    scale, more = 1.5, {}
    if hashed:
        table = np.stack([c.rng.permutation(e)[:k] for _ in range(VOCAB)])
        c.raw(base + "gate.tid2eid", "I64" if table_dtype is np.int64 else "I32", table.astype(table_dtype))
        token_ids = c.rng.randint(0, VOCAB, len(x))
        token_ids[-1] = token_ids[0]
        routing = hash_table(linear(x, gate), table[token_ids], score="sqrtsoftplus", scale=scale)
        more["tokenIds"] = [int(v) for v in token_ids]
    else:
        bias = c.bias(base + ("gate.e_score_correction_bias" if hf_names else "gate.bias"), e)
        routing = biased_topk(linear(x, gate), k, bias, score="sqrtsoftplus", scale=scale)
    if hf_names:
        gate_up = c.put(base + "experts.gate_up_proj", c.normal(e, 2 * i, h, std=1.5 * h**-0.5))
        down = c.put(base + "experts.down_proj", c.normal(e, h, i, std=1.5 * i**-0.5))
        experts = [{"gate": gate_up[n, :i], "up": gate_up[n, i:], "down": down[n]} for n in range(e)]
        shared = store_glu(c, base + "shared_experts.", h, i)
    else:
        experts = store_experts(c, base, e, h, i, W132, codec)
        shared = store_glu(c, base + "shared_experts.", h, i, W132, shared_codec)
    _check_clamps(c, x, routing, experts, shared, limit)
    fields = base_config(
        c, "deepseek_v4", "DeepseekV4ForCausalLM", h, moe_intermediate_size=i, n_routed_experts=e, n_shared_experts=1,
        num_experts_per_tok=k, scoring_func="sqrtsoftplus", topk_method="noaux_tc", norm_topk_prob=True,
        routed_scaling_factor=scale, swiglu_limit=limit)
    fields.update(config or {"num_hash_layers": 3})
    expert = _limited(limit)
    c.finish(family="deepseek_v4", source=V4_SOURCE, config=fields, layer=layer, x=x, routing=routing, **more,
             output=routed_sum(x, routing, lambda n, row: expert(row, experts[n])) + expert(x, shared))


@case("deepseek_v4")
def _(c):
    _v4(c, layer=3, hashed=False, limit=1.25)


@case("deepseek_v4_hash", "BF16")
def _(c):
    _v4(c, layer=1, hashed=True, limit=1.25)


@case("deepseek_v4_hf", "BF16")
def _(c):
    types = ["hash_moe", "moe"] + ["hash_moe"] + ["moe"] * 11
    _v4(c, layer=1, hashed=False, limit=1.5, hf_names=True, config={"mlp_layer_types": types})


@case("deepseek_v4_hf_hash")
def _(c):
    types = ["hash_moe", "moe"] + ["hash_moe"] + ["moe"] * 11
    _v4(c, layer=2, hashed=True, limit=1.5, h=24, i=7, hf_names=True, config={"mlp_layer_types": types})


@case("deepseek_v4_fp4", "BF16")
def _(c):
    config = {"num_hash_layers": 1, "expert_dtype": "fp4",
              "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                      "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}}
    _v4(c, layer=1, hashed=False, limit=1.25, h=160, i=64, e=4, k=2, tokens=5, codec=codecs.v4_fp4,
        shared_codec=codecs.v4_fp8, config=config)


@case("deepseek_v4_fp4_hash", "BF16")
def _(c):
    config = {"num_hash_layers": 3, "expert_dtype": "fp4",
              "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                      "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}}
    _v4(c, layer=2, hashed=True, limit=1.25, h=64, i=32, e=6, k=2, codec=codecs.v4_fp4, shared_codec=codecs.v4_fp8,
        table_dtype=np.int32, config=config)
