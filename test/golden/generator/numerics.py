"""Scalar functions and number formats, in float64.

Every `*_bits` function returns the stored integers, every `decode_*` the exact float64 value of a stored integer, so
that a case is always evaluated on the weights as they lie in the file.
"""

import math

import numpy as np


def sigmoid(v):
    v = np.asarray(v, dtype=np.float64)
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def softplus(v):
    return np.maximum(v, 0.0) + np.log1p(np.exp(-np.abs(v)))


def softmax(v):
    e = np.exp(v - np.max(v, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def silu(v):
    return v * sigmoid(v)


def relu(v):
    return np.maximum(v, 0.0)


def relu2(v):
    return np.maximum(v, 0.0) ** 2


_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(v):
    return 0.5 * v * (1.0 + _erf(v / math.sqrt(2.0)))


def gelu_tanh(v):
    return 0.5 * v * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * v**3)))


ACTIVATIONS = {"silu": silu, "relu": relu, "relu2": relu2, "gelu": gelu, "gelu_pytorch_tanh": gelu_tanh}


def bf16_bits(values):
    """Round to nearest even, [..] float -> [..] uint16."""
    u = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def decode_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def round_bf16(values):
    return decode_bf16(bf16_bits(np.asarray(values, dtype=np.float64)))


def short_f32(values, bits=16):
    """Round to `bits` significant bits: such a scale times an fp8 or fp4 code is exact in float32 too."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent)


def _e4m3_table():
    table = np.zeros(256)
    for byte in range(256):
        sign = -1.0 if byte & 0x80 else 1.0
        exponent, mantissa = (byte >> 3) & 15, byte & 7
        if exponent == 15 and mantissa == 7:
            table[byte] = np.nan
        elif exponent == 0:
            table[byte] = sign * mantissa * 2.0**-9
        else:
            table[byte] = sign * (8 + mantissa) * 2.0 ** (exponent - 10)
    return table


E4M3 = _e4m3_table()
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float64)


def _nearest(table, codes, values):
    """The code whose table value is nearest; `codes` lists the admissible ones."""
    order = codes[np.argsort(table[codes], kind="stable")]
    points = table[order]
    right = np.clip(np.searchsorted(points, values), 1, len(points) - 1)
    left = right - 1
    take_left = np.abs(values - points[left]) <= np.abs(points[right] - values)
    return order[np.where(take_left, left, right)].astype(np.uint8)


_E4M3_CODES = np.array([b for b in range(256) if not np.isnan(E4M3[b]) and b != 0x80])
_E2M1_CODES = np.array([b for b in range(16) if b != 8])


def e4m3_bits(values):
    return _nearest(E4M3, _E4M3_CODES, np.asarray(values, dtype=np.float64))


def decode_e4m3(bits):
    return E4M3[bits]


def e2m1_codes(values):
    return _nearest(E2M1, _E2M1_CODES, np.asarray(values, dtype=np.float64))


def decode_e2m1(codes):
    return E2M1[codes]


def decode_e8m0(bits):
    return np.ldexp(1.0, bits.astype(np.int64) - 127)


def pack_nibbles_u8(codes):
    """[.., n] codes 0..15 -> [.., n/2] bytes, even element in the low nibble."""
    return (codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8)


def pack_words(codes, bits):
    """[rows, n] unsigned codes -> [rows, ceil(n*bits/32)] int32, element 0 in the lowest bits, zero padding."""
    per_word = 32 // bits
    rows, n = codes.shape
    padded = np.zeros((rows, -(-n // per_word) * per_word), dtype=np.uint64)
    padded[:, :n] = codes
    words = np.zeros((rows, padded.shape[1] // per_word), dtype=np.uint64)
    for j in range(per_word):
        words |= padded[:, j::per_word] << np.uint64(bits * j)
    return words.astype(np.uint32).view(np.int32)
