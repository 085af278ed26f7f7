"""Quantised checkpoints of section 6, each on a family that is published that way."""

import numpy as np

from . import codecs
from .block import glu, linear
from .deepseek import INT4_GROUP, V3_FIELDS, ct_config, v3_block
from .fused import QWEN_PREFIX, halves_output_major, multimodal, qwen_text
from .llama4_gpt_oss import llama4_config, llama4_output, llama4_routing, oss_decoys, oss_layer
from .numerics import sigmoid
from .registry import W132, base_config, case, glu_block, store_experts, store_glu
from .routers import softmax_topk
from .softmax import block, qwen_fields

FP8_BLOCK = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


# -- 6.1 fp8 with block scales -----------------------------------------------------------------------------------------


@case("deepseek_v3_fp8", "BF16")
def _(c):
    # Both dims exceed 128 and are no multiples of it: ragged last blocks in every matrix.
    v3_block(c, model_type="deepseek_v3", family="deepseek_v3", h=132, i=130, e=3, k=2, n_group=1, topk_group=1,
             tokens=4, codec=codecs.fp8_block(), shared_codec=codecs.fp8_block(),
             config={**V3_FIELDS, "quantization_config": FP8_BLOCK})


def _qwen3(c, h, i, e, k, codec, quantization, layer=1, tokens=6):
    c.decoys("model.layers.", layer, h, num_experts=e)
    config = base_config(c, "qwen3_moe", "Qwen3MoeForCausalLM", h, quantization_config=quantization, **qwen_fields(
        h, i, e, k, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]))
    block(c, family="qwen3_moe", source="HF5:qwen3_moe", config=config, h=h, i=i, e=e, k=k, layer=layer,
          base=f"model.layers.{layer}.mlp.", codec=codec, tokens=tokens)


@case("qwen3_moe_fp8_bf16_scales", "BF16", shards=2)
def _(c):
    _qwen3(c, 136, 20, 4, 2, codecs.fp8_block(scale_dtype="BF16"), FP8_BLOCK)


@case("qwen3_5_moe_fp8_fused", "BF16")
def _(c):
    h, i, e, k, size = 96, 32, 4, 2, (32, 32)
    base = QWEN_PREFIX + "1.mlp."
    c.decoys(QWEN_PREFIX, 1, h, num_experts=e, dense=False, root="model.language_model.")
    x = c.input(6, h)
    gate = c.router(base + "gate.weight", e, h)

    def fused(name, rows, cols):
        parts = [codecs.fp8_block_arrays(c, c.normal(rows, cols, std=1.5 * cols**-0.5), size) for _ in range(e)]
        c.raw(base + name, "F8_E4M3", np.stack([p[0] for p in parts]))
        c.put(f"{base}{name}_scale_inv", np.stack([p[1] for p in parts]), "F32")
        return np.stack([p[2] for p in parts])

    experts = halves_output_major(fused("experts.gate_up_proj", 2 * i, h), fused("experts.down_proj", h, i))
    shared = glu(x, store_glu(c, base + "shared_expert.", h, 32, codec=codecs.fp8_block(size)))
    open_ = sigmoid(linear(x, c.matrix(base + "shared_expert_gate.weight", 1, h, std=1.5 * h**-0.5)))
    routing = softmax_topk(linear(x, gate), k, True)
    text = qwen_text(c, "qwen3_5_moe_text", h, i, e, k, shared_expert_intermediate_size=32)
    config = multimodal(c, "qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", text)
    config["quantization_config"] = {**FP8_BLOCK, "weight_block_size": list(size),
                                     "modules_to_not_convert": ["lm_head", base + "gate", base + "shared_expert_gate"]}
    c.finish(family="qwen3_5_moe", source="transformers integrations/finegrained_fp8.py", layer=1, x=x, routing=routing,
             config=config, output=glu_block(x, routing, experts) + open_ * shared)


# -- 6.2 mxfp4 ---------------------------------------------------------------------------------------------------------


@case("gpt_oss_mxfp4", "BF16")
def _(c):
    h, i, e, k, base = 96, 64, 4, 2, "model.layers.1.mlp."
    oss_decoys(c, 1, h, e)
    x = c.input(6, h)

    def packed(name, rows, cols, std):
        parts = [codecs.mxfp4_arrays(c, c.normal(rows, cols, std=std)) for _ in range(e)]
        c.raw(f"{base}experts.{name}_blocks", "U8", np.stack([p[0] for p in parts]))
        c.raw(f"{base}experts.{name}_scales", "U8", np.stack([p[1] for p in parts]))
        return [p[2] for p in parts]

    w1, w2 = packed("gate_up_proj", 2 * i, h, 4.0 * h**-0.5), packed("down_proj", h, i, i**-0.5)
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    oss_layer(c, base, 1, h, i, e, k, [{"w1": a, "w2": b} for a, b in zip(w1, w2)], x,
              {"quantization_config": quantization})


# -- 6.4 compressed-tensors (kimi_k2_int4 and kimi_k25_int4 stand with their family) -----------------------------------

IGNORE = ["lm_head", "re:.*mlp.gate$", "re:.*self_attn.*"]


def _ct_int(bits=4, **changes):
    return ct_config("pack-quantized", {**INT4_GROUP, "num_bits": bits, **changes}, IGNORE)


@case("qwen3_moe_int4_asym", "BF16")
def _(c):
    _qwen3(c, 64, 32, 6, 2, codecs.ct_packed(group=32, symmetric=False), _ct_int(symmetric=False))


@case("qwen3_moe_int4_channel", "BF16")
def _(c):
    # in = 36 and 20: the last word of a row is partly padding.
    _qwen3(c, 36, 20, 7, 3, codecs.ct_packed(), _ct_int(strategy="channel", group_size=None))


@case("qwen3_moe_int8_channel", "BF16")
def _(c):
    _qwen3(c, 38, 21, 6, 2, codecs.ct_packed(bits=8), _ct_int(bits=8, strategy="channel", group_size=None))


def _ct_byte(**changes):
    return ct_config("int-quantized", {**INT4_GROUP, "num_bits": 8, "strategy": "channel", "group_size": None, **changes}, IGNORE)


@case("qwen3_moe_int8_bytes", "BF16")
def _(c):
    _qwen3(c, 38, 21, 6, 2, codecs.ct_int8(), _ct_byte())


@case("qwen3_moe_int8_bytes_asym", "BF16")
def _(c):
    # in = 40 and 24: the last group of a row is shorter.
    _qwen3(c, 40, 24, 5, 2, codecs.ct_int8(group=16, symmetric=False),
           _ct_byte(strategy="group", group_size=16, symmetric=False))


@case("qwen3_moe_int4_actorder", "BF16")
def _(c):
    _qwen3(c, 64, 48, 4, 2, codecs.ct_packed(group=16, act_order=True), _ct_int(group_size=16, actorder="group"))


@case("qwen3_moe_fp8_channel", "BF16")
def _(c):
    weights = {**INT4_GROUP, "num_bits": 8, "type": "float", "strategy": "channel", "group_size": None}
    act = {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True, "group_size": None}
    _qwen3(c, 40, 20, 6, 2, codecs.fp8_channel, ct_config("float-quantized", weights, IGNORE, act))


@case("qwen3_moe_nvfp4", "BF16")
def _(c):
    weights = {**INT4_GROUP, "type": "float", "strategy": "tensor_group", "group_size": 16}
    act = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "symmetric": True, "dynamic": "local",
           "group_size": 16}
    _qwen3(c, 96, 32, 5, 2, codecs.nvfp4_pack, ct_config("nvfp4-pack-quantized", weights, IGNORE, act))


@case("llama4_int4", "BF16")
def _(c):
    h, i, e, k, layer = 32, 64, 5, 1, 1
    layers, moe = "language_model.model.layers.", ".feed_forward."
    base = f"{layers}{layer}{moe}"
    c.decoys(layers, layer, h, moe=moe, num_experts=e, router="router.weight", root="language_model.model.")
    x = c.input(6, h)
    gate = c.router(base + "router.weight", e, h)
    codec = codecs.ct_packed(group=32)
    experts = store_experts(c, base, e, h, i, codec=codec)
    shared = store_glu(c, base + "shared_expert.", h, i, codec=codec)
    routing = llama4_routing(linear(x, gate), k)
    config = llama4_config(c, h, i, e, k, interleave_moe_layer_step=1)
    config["quantization_config"] = ct_config("pack-quantized", INT4_GROUP, [
        "re:.*lm_head", "re:.*self_attn", "re:.*router", "re:.*vision_model", "re:.*multi_modal_projector"])
    c.finish(family="llama4", source="HF5:llama4, compressed-tensors", config=config, layer=layer, x=x, routing=routing,
             output=llama4_output(x, routing, experts, shared))


# -- 6.5 ModelOpt ------------------------------------------------------------------------------------------------------


def _modelopt(c, algorithm, exclude):
    producer = {"name": "modelopt", "version": "0.33.0"}
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": None, "exclude_modules": exclude}
    if algorithm == "NVFP4":
        quantization["group_size"] = 16
    c.extra_files["hf_quant_config.json"] = {"producer": producer, "quantization": quantization}
    return {"quant_method": "modelopt", "quant_algo": algorithm, "producer": producer, "ignore": exclude}


@case("deepseek_v3_nvfp4_modelopt", "BF16")
def _(c):
    quantization = _modelopt(c, "NVFP4", ["lm_head", "*self_attn*", "*mlp.gate"])
    v3_block(c, model_type="deepseek_v3", family="deepseek_v3", h=64, i=48, e=5, k=2, n_group=1, topk_group=1, tokens=6,
             codec=codecs.nvfp4_modelopt, shared_codec=codecs.nvfp4_modelopt,
             config={**V3_FIELDS, "quantization_config": quantization})


@case("mixtral_fp8_modelopt", "BF16")
def _(c):
    h, i, e, k, moe = 40, 20, 6, 2, ".block_sparse_moe."
    quantization = _modelopt(c, "FP8", ["lm_head", "*block_sparse_moe.gate"])
    c.decoys("model.layers.", 1, h, moe=moe, num_experts=e, dense=False, expert="experts.0.w1.weight")
    config = base_config(c, "mixtral", "MixtralForCausalLM", h, intermediate_size=i, num_local_experts=e,
                         num_experts_per_tok=k, quantization_config=quantization)
    block(c, family="mixtral", source="HF5:mixtral", config=config, h=h, i=i, e=e, k=k, layer=1, names=W132,
          base="model.layers.1" + moe, codec=codecs.fp8_tensor, tokens=6)


# -- 6.6 AWQ, 6.7 GPTQ -------------------------------------------------------------------------------------------------


def _awq(group):
    return {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True,
            "modules_to_not_convert": ["gate"]}


@case("qwen3_moe_awq", "F16")
def _(c):
    _qwen3(c, 96, 32, 4, 2, codecs.awq(32), _awq(32))


@case("qwen3_moe_awq_column", "F16")
def _(c):
    _qwen3(c, 40, 24, 6, 2, codecs.awq(-1), _awq(-1))


def _gptq(group, **more):
    return {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": False,
            "true_sequential": True, "damp_percent": 0.01, **more}


@case("qwen3_moe_gptq", "F16")
def _(c):
    _qwen3(c, 96, 32, 4, 2, codecs.gptq(32, symmetric="minus one"), _gptq(32, sym=True, checkpoint_format="gptq"))


@case("qwen3_moe_gptq_desc_act", "F16")
def _(c):
    _qwen3(c, 64, 48, 4, 2, codecs.gptq(16, order="permuted"), _gptq(16, desc_act=True))


@case("qwen3_moe_gptq_v2", "F16")
def _(c):
    _qwen3(c, 96, 32, 4, 2, codecs.gptq(32, version=2, order="absent"), _gptq(32, checkpoint_format="gptq_v2"))


@case("qwen3_moe_gptq_v2_desc_act", "F16")
def _(c):
    _qwen3(c, 32, 48, 4, 2, codecs.gptq(16, version=2, order="permuted"),
           _gptq(16, desc_act=True, checkpoint_format="gptq_v2"))
