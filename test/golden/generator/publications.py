"""Forms in which tools that quantise publish models, beside the first one of each format."""

import numpy as np

from . import codecs
from .block import glu, linear
from .deepseek import ct_config
from .fused import (QWEN_PREFIX, gemma4_layer, granite_layer, halves_input_major, halves_output_major, multimodal,
                    qwen_text)
from .llama4_gpt_oss import llama4_config, llama4_output, llama4_routing
from .numerics import sigmoid
from .quantized import _gptq, _modelopt, _qwen3
from .registry import base_config, case, glu_block, store_experts, store_glu
from .routers import softmax_topk
from .softmax import qwen_fields


def by_projection(gate, up, down):
    return codecs.by_module(lambda module: gate if "gate_proj" in module else up if "up_proj" in module else down)


@case("qwen3_moe_gptq_sym", "F16")
def _(c):
    # What exporters store in the place of a zero point that is the middle: 7, 8, nothing of its shape, nothing at all.
    kinds = ["minus one", "plain", "empty", "absent"]
    codec = codecs.by_module(lambda module: codecs.gptq(32, symmetric=kinds[int(module.split(".")[-2])]))
    _qwen3(c, 96, 32, 4, 2, codec, _gptq(32, sym=True))


@case("qwen3_moe_gptq_mixed", "F16")
def _(c):
    # 8 bits in general, 4 and 2 by rules of `dynamic`; the router is quantised too.
    dynamic = {"+:.*gate_proj": {"bits": 4, "group_size": 16}, "+:.*down_proj": {"bits": 2}, "-:.*lm_head": {}}
    codec = by_projection(codecs.gptq(16, bits=4), codecs.gptq(32, bits=8), codecs.gptq(32, bits=2))
    h, i, e, k, base = 64, 32, 8, 2, "model.layers.1.mlp."
    c.decoys("model.layers.", 1, h, num_experts=e)
    config = base_config(c, "qwen3_moe", "Qwen3MoeForCausalLM", h, quantization_config={
        **_gptq(32, dynamic=dynamic), "bits": 8}, **qwen_fields(h, i, e, k, norm_topk_prob=True))
    x = c.input(6, h)
    gate = codecs.gptq(32, bits=8)(c, base + "gate", c.normal(e, h, std=1.5 * h**-0.5))
    experts = store_experts(c, base, e, h, i, codec=codec)
    routing = softmax_topk(linear(x, gate), k, True)
    c.finish(family="qwen3_moe", source="HF5:qwen3_moe, GPTQModel", config=config, layer=1, x=x, routing=routing,
             output=glu_block(x, routing, experts))


@case("qwen3_moe_ct_mixed", "BF16")
def _(c):
    # mxfp4-pack-quantized, 2 bits with an index that was never set, fp8 with the block size as a string.
    config = ct_config("mixed-precision", {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32,
                                           "scale_dtype": "torch.uint8", "symmetric": True}, ["lm_head"])
    two = {"num_bits": 2, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True, "actorder": None}
    block = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "64x32", "symmetric": True}
    for name, weights in (("group_1", two), ("group_2", block)):
        config["config_groups"][name] = {"targets": ["re:.*"], "weights": weights}
    codec = by_projection(codecs.mxfp4_pack, codecs.ct_packed(bits=2, group=32, act_order="unset"),
                          codecs.fp8_grid((64, 32)))
    _qwen3(c, 96, 40, 4, 2, codec, config)


@case("qwen3_moe_mxfp8", "BF16")
def _(c):
    codec = by_projection(codecs.mxfp8(), codecs.mxfp8("weight_scale"), codecs.mxfp4_quark)
    quantization = {"quant_method": "mxfp8", "weight_block_size": [1, 32], "scale_fmt": "ue8m0"}
    _qwen3(c, 72, 32, 4, 2, codec, quantization)


@case("gemma4_nvfp4_modelopt", "BF16")
def _(c):
    # One by one, under a place of ModelOpt's own; its config names no quant_method.
    h, i, e, k = 48, 32, 6, 2
    quantization = _modelopt(c, "NVFP4", ["lm_head", "*router*"])
    del quantization["quant_method"]
    gemma4_layer(c, h, i, e, k, lambda base: store_experts(
        c, base + "moe.", e, h, i, codec=codecs.nvfp4_modelopt), quantization)


@case("granitemoe_fp8", "BF16")
def _(c):
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
    granite_layer(c, "granitemoe", "GraniteMoeForCausalLM", 0, 1, codec=codecs.fp8_channel,
                  quantization_config=ct_config("float-quantized", weights, ["lm_head", "re:.*router"]))


@case("qwen3_5_moe_nvfp4_fused", "BF16")
def _(c):
    # All experts in one tensor; gate and up have a factor each.
    h, i, e, k, base = 64, 32, 4, 2, QWEN_PREFIX + "1.mlp."
    c.decoys(QWEN_PREFIX, 1, h, num_experts=e, dense=False, root="model.language_model.")
    x = c.input(6, h)
    gate = c.router(base + "gate.weight", e, h)

    def fused(name, halves, rows, cols):
        parts = [[codecs.nvfp4_arrays(c, c.normal(rows, cols, std=1.5 * cols**-0.5)) for _ in range(halves)]
                 for _ in range(e)]
        stack = lambda n: np.stack([np.concatenate([half[n] for half in expert]) for expert in parts])  # noqa: E731
        c.raw(base + name, "U8", stack(0))
        c.raw(f"{base}{name}_weight_scale", "F8_E4M3", stack(1))
        factors = np.array([[half[2] for half in expert] for expert in parts])
        c.put(f"{base}{name}_weight_scale_2", factors if halves == 2 else factors[:, 0], "F32")
        return stack(3)

    experts = halves_output_major(fused("experts.gate_up_proj", 2, i, h), fused("experts.down_proj", 1, h, i))
    shared = glu(x, store_glu(c, base + "shared_expert.", h, 20))
    open_ = sigmoid(linear(x, c.matrix(base + "shared_expert_gate.weight", 1, h, std=1.5 * h**-0.5)))
    routing = softmax_topk(linear(x, gate), k, True)
    text = qwen_text(c, "qwen3_5_moe_text", h, i, e, k, shared_expert_intermediate_size=20)
    config = multimodal(c, "qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", text)
    config["quantization_config"] = _modelopt(c, "NVFP4", ["lm_head", "*shared_expert*"])
    c.finish(family="qwen3_5_moe", source="NVIDIA/Model-Optimizer unified_export_hf.py", layer=1, x=x, routing=routing,
             config=config, output=glu_block(x, routing, experts) + open_ * shared)


@case("llama4_nvfp4_fused", "BF16")
def _(c):
    # ModelOpt quantises Llama 4's experts along the input and stores them input-major again: bytes of two inputs, one factor for all.
    h, i, e, k, layers = 64, 32, 4, 1, "language_model.model.layers."
    base = layers + "1.feed_forward."
    c.decoys(layers, 1, h, moe=".feed_forward.", num_experts=e, router="router.weight", root="language_model.model.",
             expert="shared_expert.up_proj.weight")
    x = c.input(6, h)
    gate = c.router(base + "router.weight", e, h)

    def fused(name, rows, cols):
        packed, scale, factor, decoded = codecs.nvfp4_arrays(c, c.normal(e * rows, cols, std=1.5 * cols**-0.5))
        inputs_first = lambda array: np.swapaxes(array.reshape(e, rows, -1), 1, 2).copy()  # noqa: E731
        c.raw(base + name, "U8", inputs_first(packed))
        c.raw(f"{base}{name}_weight_scale", "F8_E4M3", inputs_first(scale))
        c.put(f"{base}{name}_weight_scale_2", np.float64(factor), "F32")
        return inputs_first(decoded)

    experts = halves_input_major(fused("experts.gate_up_proj", 2 * i, h), fused("experts.down_proj", h, i))
    shared = store_glu(c, base + "shared_expert.", h, i)
    routing = llama4_routing(linear(x, gate), k)
    config = llama4_config(c, h, i, e, k, interleave_moe_layer_step=1)
    config["quantization_config"] = _modelopt(c, "NVFP4", ["lm_head", "*router*", "*shared_expert*"])
    c.finish(family="llama4", source="HF5:llama4, NVIDIA/Model-Optimizer unified_export_hf.py", config=config, layer=1,
             x=x, routing=routing, output=llama4_output(x, routing, experts, shared))
