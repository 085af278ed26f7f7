"""Weight formats of section 6: each codec stores one linear [out, in] under the module name and returns the exact
float64 value of what it stored, decoded again from the stored integers."""

import numpy as np

from . import numerics as nf


def plain(case, module, values):
    return case.put(f"{module}.weight", values)


def _grid(scale, block, shape):
    """[ceil(out/b0), ceil(in/b1)] block scales spread over [out, in]; edge tiles are partial."""
    rows, cols = np.arange(shape[0]) // block[0], np.arange(shape[1]) // block[1]
    return scale[..., rows[:, None], cols[None, :]]


def _block_amax(values, block):
    out, inn = values.shape
    grid = np.zeros((-(-out // block[0]), -(-inn // block[1])))
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            grid[i, j] = np.max(np.abs(values[i * block[0]:(i + 1) * block[0], j * block[1]:(j + 1) * block[1]]))
    return grid


def _jitter(case, shape):
    """Scales differ from block to block by more than their data asks for: a wrong block index shows."""
    return case.uniform(1.0, 1.9, *shape)


def fp8_block_arrays(case, values, block, scale_dtype="F32"):
    grid = _block_amax(values, block) / 448.0
    scale = nf.short_f32(grid * _jitter(case, grid.shape))
    if scale_dtype == "BF16":
        scale = nf.round_bf16(scale)
    bits = nf.e4m3_bits(values / _grid(scale, block, values.shape))
    return bits, scale, nf.decode_e4m3(bits) * _grid(scale, block, values.shape)


def fp8_block(block=(128, 128), scale_dtype="F32"):
    """6.1: `weight` F8_E4M3, `weight_scale_inv` multiplied per block."""
    def store(case, module, values):
        bits, scale, decoded = fp8_block_arrays(case, values, block, scale_dtype)
        case.raw(f"{module}.weight", "F8_E4M3", bits)
        case.put(f"{module}.weight_scale_inv", scale, scale_dtype)
        return decoded
    return store


def _e8m0(case, amax, largest):
    """A power-of-two scale of at least amax/largest, sometimes one step more."""
    exponent = np.ceil(np.log2(np.maximum(amax, 1e-6) / largest)) + case.rng.randint(0, 2, amax.shape)
    return (exponent + 127).astype(np.uint8)


def mxfp4_arrays(case, values):
    """Blocks u8 [rows, G, 16], scales u8 [rows, G] for rows of 32 * G values."""
    rows, cols = values.shape
    blocks = values.reshape(rows, cols // 32, 32)
    scales = _e8m0(case, np.max(np.abs(blocks), axis=2), 6.0)
    factor = nf.decode_e8m0(scales)[..., None]
    codes = nf.e2m1_codes(blocks / factor)
    return nf.pack_nibbles_u8(codes), scales, (nf.decode_e2m1(codes) * factor).reshape(rows, cols)


def v4_fp4(case, module, values):
    """6.3 experts: `weight` I8 [out, in/2], `scale` F8_E8M0 [out, in/32]."""
    packed, scales, decoded = mxfp4_arrays(case, values)
    case.raw(f"{module}.weight", "I8", packed.reshape(values.shape[0], -1).view(np.int8))
    case.raw(f"{module}.scale", "F8_E8M0", scales)
    return decoded


def v4_fp8(case, module, values):
    """6.3 shared expert: `weight` F8_E4M3, `scale` F8_E8M0 per 128 x 128 block."""
    scales = _e8m0(case, _block_amax(values, (128, 128)), 448.0)
    factor = _grid(nf.decode_e8m0(scales), (128, 128), values.shape)
    bits = nf.e4m3_bits(values / factor)
    case.raw(f"{module}.weight", "F8_E4M3", bits)
    case.raw(f"{module}.scale", "F8_E8M0", scales)
    return nf.decode_e4m3(bits) * factor


def ct_packed(*, bits=4, group=None, symmetric=True, act_order=False):
    """6.4 pack-quantized; `group` None = one scale per output channel. `act_order` "unset": an index of -1, columns in order."""
    half = 1 << (bits - 1)

    def store(case, module, values):
        out, inn = values.shape
        size = group or inn
        groups = -(-inn // size)
        index = np.arange(inn) // size
        if act_order is True:
            index = index[case.rng.permutation(inn)]
        scale, zero = np.zeros((out, groups)), np.zeros((out, groups), dtype=np.int64)
        for g in range(groups):
            part = values[:, index == g]
            low, high = np.min(part, axis=1), np.max(part, axis=1)
            if symmetric:
                scale[:, g] = np.maximum(np.abs(low), np.abs(high)) / (half - 0.5)
            else:
                scale[:, g] = (high - low) / (2 * half - 1)
        scale = nf.round_bf16(scale * _jitter(case, scale.shape))
        if not symmetric:
            zero = case.rng.randint(-half, half, (out, groups))
        q = np.clip(np.round(values / scale[:, index]) + zero[:, index], -half, half - 1).astype(np.int64)
        case.raw(f"{module}.weight_packed", "I32", nf.pack_words((q + half).astype(np.uint64), bits))
        case.put(f"{module}.weight_scale", scale, "BF16")
        case.raw(f"{module}.weight_shape", "I64", np.array([out, inn], dtype=np.int64))
        if not symmetric:
            packed = nf.pack_words((zero.T + half).astype(np.uint64), bits).T.copy()
            case.raw(f"{module}.weight_zero_point", "I32", packed)
        if act_order:
            stored_index = index if act_order is True else np.full(inn, -1)
            case.raw(f"{module}.weight_g_idx", "I32", stored_index.astype(np.int32))
        return (q - zero[:, index]) * scale[:, index]
    return store


def ct_int8(*, group=None, symmetric=True):
    """6.4 int-quantized: `weight` I8, `weight_scale` and `weight_zero_point` [out, groups]; `group` None = one per output channel."""
    def store(case, module, values):
        out, inn = values.shape
        index = np.arange(inn) // (group or inn)
        groups = int(index[-1]) + 1
        scale = np.stack([np.max(np.abs(values[:, index == g]), axis=1) / 100.0 for g in range(groups)], axis=1)
        scale = nf.round_bf16(scale * _jitter(case, scale.shape))
        zero = np.zeros((out, groups), np.int64) if symmetric else case.rng.randint(-20, 21, (out, groups))
        q = np.clip(np.round(values / scale[:, index]) + zero[:, index], -128, 127).astype(np.int64)
        case.raw(f"{module}.weight", "I8", q.astype(np.int8))
        case.put(f"{module}.weight_scale", scale, "BF16")
        if not symmetric:
            case.raw(f"{module}.weight_zero_point", "I8", zero.astype(np.int8))
        return (q - zero[:, index]) * scale[:, index]
    return store


def fp8_channel(case, module, values):
    """6.4 float-quantized: `weight` F8_E4M3, `weight_scale` [out, 1]."""
    scale = np.max(np.abs(values), axis=1, keepdims=True) / 448.0
    scale = nf.round_bf16(scale * _jitter(case, scale.shape))
    bits = nf.e4m3_bits(values / scale)
    case.raw(f"{module}.weight", "F8_E4M3", bits)
    case.put(f"{module}.weight_scale", scale, "BF16")
    return nf.decode_e4m3(bits) * scale


def fp8_tensor(case, module, values):
    """6.5 ModelOpt FP8: one scalar `weight_scale`; `input_scale` is there and concerns activations only."""
    scale = nf.short_f32(np.max(np.abs(values)) / 448.0 * float(_jitter(case, (1,))[0]))
    bits = nf.e4m3_bits(values / scale)
    case.raw(f"{module}.weight", "F8_E4M3", bits)
    case.put(f"{module}.weight_scale", scale, "F32")
    case.put(f"{module}.input_scale", np.float64(0.03125), "F32")
    return nf.decode_e4m3(bits) * scale


def _nvfp4(case, values, global_multiplier):
    rows, cols = values.shape
    blocks = values.reshape(rows, cols // 16, 16)
    want = np.max(np.abs(blocks), axis=2) / 6.0 * _jitter(case, (rows, cols // 16))
    scale_bits = nf.e4m3_bits(want / global_multiplier)
    scale = nf.decode_e4m3(scale_bits)[..., None] * global_multiplier
    codes = nf.e2m1_codes(blocks / np.where(scale == 0, 1.0, scale))
    return nf.pack_nibbles_u8(codes), scale_bits, codes, blocks.shape


def nvfp4_pack(case, module, values):
    """6.4 nvfp4-pack-quantized: the global scale DIVIDES."""
    stored = np.float64(np.float32(448.0 * 6.0 / np.max(np.abs(values)) / float(case.uniform(1.1, 2.0, 1)[0])))
    packed, scale_bits, codes, shape = _nvfp4(case, values, 1.0 / stored)
    case.raw(f"{module}.weight_packed", "U8", packed.reshape(values.shape[0], -1))
    case.raw(f"{module}.weight_scale", "F8_E4M3", scale_bits)
    case.put(f"{module}.weight_global_scale", np.array([stored]), "F32")
    case.put(f"{module}.input_global_scale", np.array([96.0]), "F32")
    decoded = nf.decode_e2m1(codes) * nf.decode_e4m3(scale_bits)[..., None] / stored
    return decoded.reshape(values.shape)


def nvfp4_modelopt(case, module, values):
    """6.5 NVFP4: `weight_scale_2` MULTIPLIES."""
    stored = nf.short_f32(np.max(np.abs(values)) / (448.0 * 6.0) * float(case.uniform(1.1, 2.0, 1)[0]))
    packed, scale_bits, codes, shape = _nvfp4(case, values, stored)
    case.raw(f"{module}.weight", "U8", packed.reshape(values.shape[0], -1))
    case.raw(f"{module}.weight_scale", "F8_E4M3", scale_bits)
    case.put(f"{module}.weight_scale_2", stored, "F32")
    case.put(f"{module}.input_scale", np.float64(0.0078125), "F32")
    decoded = nf.decode_e2m1(codes) * nf.decode_e4m3(scale_bits)[..., None] * stored
    return decoded.reshape(values.shape)


def _zero_point_quantise(case, values, index, groups, low_zero, high_zero, bits=4):
    """Input-major codes: (q [in, out], zeros [groups, out], scales [groups, out], decoded [out, in])."""
    wt = values.T
    inn, out = wt.shape
    scale = np.zeros((groups, out))
    for g in range(groups):
        scale[g] = (np.max(wt[index == g], axis=0) - np.min(wt[index == g], axis=0)) / (2**bits - 1)
    scale = (scale * _jitter(case, scale.shape)).astype(np.float16).astype(np.float64)
    zero = case.rng.randint(low_zero, high_zero + 1, (groups, out))
    q = np.clip(np.round(wt / scale[index]) + zero[index], 0, 2**bits - 1).astype(np.int64)
    return q, zero, scale, ((q - zero[index]) * scale[index]).T


# Nibble of the word that holds logical column 8c + j.
_AWQ_NIBBLE = [0, 4, 1, 5, 2, 6, 3, 7]


def awq(group):
    """6.6: packed along the output with AutoAWQ's interleaved nibble order; `group` -1 = whole column."""
    def pack(codes):
        rows, out = codes.shape
        words = np.zeros((rows, out // 8), dtype=np.uint64)
        for j, nibble in enumerate(_AWQ_NIBBLE):
            words |= codes[:, j::8].astype(np.uint64) << np.uint64(4 * nibble)
        return words.astype(np.uint32).view(np.int32)

    def store(case, module, values):
        inn = values.shape[1]
        size = inn if group == -1 else group
        q, zero, scale, decoded = _zero_point_quantise(case, values, np.arange(inn) // size, inn // size, 0, 15)
        case.raw(f"{module}.qweight", "I32", pack(q))
        case.raw(f"{module}.qzeros", "I32", pack(zero))
        case.put(f"{module}.scales", scale, "F16")
        return decoded
    return store


def gptq(group, *, bits=4, version=1, order="natural", symmetric=None):
    """6.7: packed along the input. v1 takes 0x11...1 from every 32-bit word of zero points, as its writer does: a zero of 0
    borrows from its neighbour. `order`: "natural" stores i/g as g_idx, "permuted" a permutation, "absent" none.
    `symmetric` is what an exporter stores where the zero point is the middle: "minus one", "plain", "empty" or "absent"."""
    def store(case, module, values):
        inn = values.shape[1]
        index = np.arange(inn) // group
        if order == "permuted":
            index = index[case.rng.permutation(inn)]
        middle = 1 << (bits - 1)
        low, high = (middle, middle) if symmetric else (0, 2 * middle - 1)
        q, zero, scale, decoded = _zero_point_quantise(case, values, index, inn // group, low, high, bits)
        words = nf.pack_words(zero.astype(np.uint64), bits).view(np.uint32)
        if version == 1 and symmetric in (None, "minus one"):
            words = words - np.uint32(0xFFFFFFFF // (2 * middle - 1))
        case.raw(f"{module}.qweight", "I32", nf.pack_words(q.T.astype(np.uint64), bits).T.copy())
        if symmetric == "empty":
            case.raw(f"{module}.qzeros", "I32", np.zeros((inn // group, 0), dtype=np.int32))
        elif symmetric != "absent":
            case.raw(f"{module}.qzeros", "I32", words.view(np.int32))
        case.put(f"{module}.scales", scale, "F16")
        if order != "absent":
            case.raw(f"{module}.g_idx", "I32", index.astype(np.int32))
        return decoded
    return store


def mxfp4_pack(case, module, values):
    """6.4 mxfp4-pack-quantized: bytes of two e2m1, an e8m0 byte per 32, no scale of the whole matrix."""
    packed, scales, decoded = mxfp4_arrays(case, values)
    case.raw(f"{module}.weight_packed", "U8", packed.reshape(values.shape[0], -1))
    case.raw(f"{module}.weight_scale", "U8", scales)
    return decoded


def mxfp4_quark(case, module, values):
    """Quark: as mxfp4-pack-quantized, the bytes under `weight`."""
    packed, scales, decoded = mxfp4_arrays(case, values)
    case.raw(f"{module}.weight", "U8", packed.reshape(values.shape[0], -1))
    case.raw(f"{module}.weight_scale", "U8", scales)
    return decoded


def mxfp8(scale_name="weight_scale_inv"):
    """F8_E4M3 with an e8m0 byte per 32 columns; the last block of a row may be short."""
    def store(case, module, values):
        scales = _e8m0(case, _block_amax(values, (1, 32)), 448.0)
        factor = _grid(nf.decode_e8m0(scales), (1, 32), values.shape)
        bits = nf.e4m3_bits(values / factor)
        case.raw(f"{module}.weight", "F8_E4M3", bits)
        case.raw(f"{module}.{scale_name}", "U8", scales)
        return nf.decode_e4m3(bits) * factor
    return store


def fp8_grid(block, scale_dtype="F32"):
    """6.4 float-quantized with strategy block: `weight_scale` per block."""
    def store(case, module, values):
        bits, scale, decoded = fp8_block_arrays(case, values, block, scale_dtype)
        case.raw(f"{module}.weight", "F8_E4M3", bits)
        case.put(f"{module}.weight_scale", scale, scale_dtype)
        return decoded
    return store


def by_module(choose):
    """Another codec for every module; `choose` gets the module's name."""
    def store(case, module, values):
        return choose(module)(case, module, values)
    return store


def nvfp4_arrays(case, values):
    """(bytes [rows, cols/2], e4m3 scales [rows, cols/16], the factor that multiplies them, decoded)."""
    stored = nf.short_f32(np.max(np.abs(values)) / (448.0 * 6.0) * float(case.uniform(1.1, 2.0, 1)[0]))
    packed, scale_bits, codes, _ = _nvfp4(case, values, stored)
    decoded = nf.decode_e2m1(codes) * nf.decode_e4m3(scale_bits)[..., None] * stored
    return packed.reshape(values.shape[0], -1), scale_bits, stored, decoded.reshape(values.shape)
