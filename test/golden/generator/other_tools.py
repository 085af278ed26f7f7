"""Formats that Quark, ModelOpt's AWQ and three-bit GPTQ write, and fp8 with five bits of exponent."""

import numpy as np

from . import codecs
from . import numerics as nf
from .fused import dbrx_layer
from .quantized import FP8_BLOCK, _gptq, _modelopt, _qwen3
from .registry import case


def _stream(codes, bits):
    """[rows, n] unsigned codes -> [rows, n*bits/32] words without gaps: the bits of a row as one long number, lowest first."""
    rows, n = codes.shape
    words = np.zeros((rows, n * bits // 32), dtype=np.uint32)
    for row in range(rows):
        number = sum(int(code) << (bits * at) for at, code in enumerate(codes[row]))
        words[row] = [number >> (32 * word) & 0xFFFFFFFF for word in range(words.shape[1])]
    return words.view(np.int32)


def gptq3(group, *, symmetric, permuted=False):
    """Three bits along the input, 32 inputs in three words. Zero points less one, each for itself, as AutoGPTQ stores them."""
    def store(c, module, values):
        inn = values.shape[1]
        index = np.arange(inn) // group
        if permuted:
            index = index[c.rng.permutation(inn)]
        low, high = (4, 4) if symmetric else (1, 7)
        q, zero, scale, decoded = codecs._zero_point_quantise(c, values, index, inn // group, low, high, 3)
        c.raw(f"{module}.qweight", "I32", _stream(q.T, 3).T.copy())
        c.raw(f"{module}.qzeros", "I32", _stream(zero - 1, 3))
        c.put(f"{module}.scales", scale, "F16")
        c.raw(f"{module}.g_idx", "I32", index.astype(np.int32))
        return decoded
    return store


@case("qwen3_moe_gptq3", "F16")
def _(c):
    _qwen3(c, 96, 64, 4, 2, gptq3(32, symmetric=False), {**_gptq(32), "bits": 3})


@case("qwen3_moe_gptq3_sym", "F16")
def _(c):
    # GPTQModel's own zero points, which differ from those above, are not read where all is symmetric.
    _qwen3(c, 64, 32, 4, 2, gptq3(16, symmetric=True, permuted=True),
           {**_gptq(16, desc_act=True, sym=True, meta={"quantizer": ["gptqmodel:2.2.0"]}), "bits": 3})


# Quark's order_map: nibble i of a word holds output 8c + order_map[i].
_QUARK_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def _quark_pack(codes):
    """[rows, out] codes -> [rows, out/8] words."""
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), dtype=np.uint32)
    for nibble, output in enumerate(_QUARK_ORDER):
        words |= (codes[:, output::8].astype(np.int64) & 15).astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


def quark_int4(group, signed):
    """`weight` I32 [in, out/8], `weight_scale` [groups, out]; unsigned ones with `weight_zero_point` [groups, out/8]."""
    def store(c, module, values):
        inn = values.shape[1]
        index = np.arange(inn) // group
        low, high = (8, 8) if signed else (0, 15)
        q, zero, scale, decoded = codecs._zero_point_quantise(c, values, index, inn // group, low, high)
        c.raw(f"{module}.weight", "I32", _quark_pack(q - 8 if signed else q))
        c.put(f"{module}.weight_scale", scale, "F32")
        if not signed:
            c.raw(f"{module}.weight_zero_point", "I32", _quark_pack(zero))
        return decoded
    return store


def _quark(dtype, group):
    weight = {"dtype": dtype, "qscheme": "per_group", "group_size": group, "ch_axis": -1, "is_dynamic": False,
              "symmetric": dtype == "int4"}
    return {"quant_method": "quark", "global_quant_config": {"weight": weight, "input_tensors": None},
            "layer_quant_config": {}, "layer_type_quant_config": {}, "exclude": ["lm_head", "*gate"],
            "export": {"pack_method": "reorder", "weight_format": "real_quantized"}}


@case("qwen3_moe_quark_int4", "BF16")
def _(c):
    _qwen3(c, 96, 32, 4, 2, quark_int4(32, True), _quark("int4", 32))


@case("qwen3_moe_quark_uint4", "BF16")
def _(c):
    _qwen3(c, 64, 40, 4, 2, quark_int4(8, False), _quark("uint4", 8))


# e5m2: the upper byte of an f16. Codes of finite numbers.
E5M2 = (np.arange(256).astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float64)
_E5M2_CODES = np.array([code for code in range(256) if np.isfinite(E5M2[code]) and code != 0x80])


def fp8_e5m2(block):
    def store(c, module, values):
        grid = codecs._block_amax(values, block) / 57344.0
        scale = nf.short_f32(grid * codecs._jitter(c, grid.shape))
        spread = codecs._grid(scale, block, values.shape)
        bits = nf._nearest(E5M2, _E5M2_CODES, values / spread)
        c.raw(f"{module}.weight", "F8_E5M2", bits)
        c.put(f"{module}.weight_scale_inv", scale, "F32")
        return E5M2[bits] * spread
    return store


@case("qwen3_moe_fp8_e5m2", "BF16")
def _(c):
    _qwen3(c, 72, 40, 4, 2, fp8_e5m2((32, 48)), {**FP8_BLOCK, "fmt": "e5m2", "weight_block_size": [32, 48]})


def smoothed(store):
    """What `store` stores, for an input that is multiplied by `pre_quant_scale` [in] first."""
    def smoothing(c, module, values):
        scale = nf.round_bf16(c.uniform(0.25, 4.0, values.shape[1]))
        c.put(f"{module}.pre_quant_scale", scale, "BF16")
        # W (x * s) = (W * s) x
        return store(c, module, values / scale) * scale
    return smoothing


@case("qwen3_moe_nvfp4_awq", "BF16")
def _(c):
    _qwen3(c, 64, 48, 4, 2, smoothed(codecs.nvfp4_modelopt), _modelopt(c, "NVFP4_AWQ", ["lm_head", "*mlp.gate"]))


def int4_modelopt(group):
    """`weight` U8 [out/2, in]: two outputs to a byte, the even one lowest; `weight_scale` [out, groups]."""
    def store(c, module, values):
        out, inn = values.shape
        index = np.arange(inn) // group
        amax = np.stack([np.max(np.abs(values[:, index == g]), axis=1) for g in range(inn // group)], axis=1)
        scale = nf.short_f32(amax / 7.0 * codecs._jitter(c, amax.shape))
        q = np.clip(np.round(values / scale[:, index]), -8, 7).astype(np.int64)
        nibbles = (q & 15).astype(np.uint8)
        c.raw(f"{module}.weight", "U8", nibbles[0::2] | nibbles[1::2] << np.uint8(4))
        c.put(f"{module}.weight_scale", scale, "F32")
        return q * scale[:, index]
    return store


@case("qwen3_moe_int4_awq_modelopt", "BF16")
def _(c):
    _qwen3(c, 64, 48, 4, 2, smoothed(int4_modelopt(16)), _modelopt(c, "W4A16_AWQ", ["lm_head", "*mlp.gate"]))


@case("dbrx_fp8_quark", "BF16")
def _(c):
    # Experts below each other in one tensor, a factor for each.
    def stacked(name, parts):
        factors = [nf.short_f32(np.max(np.abs(part)) / 448.0 * float(codecs._jitter(c, (1,))[0])) for part in parts]
        bits = [nf.e4m3_bits(part / factor) for part, factor in zip(parts, factors)]
        c.raw(f"{name}_weight", "F8_E4M3", np.concatenate(bits))
        c.put(f"{name}_weight_scale", factors, "F32")
        return np.concatenate([nf.decode_e4m3(part) * factor for part, factor in zip(bits, factors)])

    dbrx_layer(c, 24, 9, 8, 3, 1.0, "silu", 1, stacked=stacked, quantization_config={
        "quant_method": "quark", "export": {"pack_method": "reorder"}, "global_quant_config": {
            "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False}}})
