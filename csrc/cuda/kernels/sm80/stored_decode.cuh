// Codes to 16-bit elements, in registers: exact, and in the order of the A operand (stored_layout.h).
//
//   nibbles, affine  the code becomes the last bits of a constant (128 in bf16, 1024 in f16, whose last
//                    place is 1), from which that constant and the bias are taken away again
//   nibbles, e2m1    exponent and mantissa go where the element has its own; a product corrects the bias
//   nibbles, table   two tables of 8 signed bytes are looked up by a byte permutation, bit 3 chooses
//   integers         f16: 1024 + (code + 128), less 1152. bf16 has 7 bits of mantissa: 128 + the lower 7
//                    bits of the code, less 128 or, where it is negative, 256
//   e4m3             as e2m1; the two codes of NaN, which would become 480, are looked for
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/layouts/stored_layout.h"

namespace sparse_experts::cuda {

// How the codes of 64 columns lie for a lane.
struct Nibbles {
  static constexpr int32_t kCode = SE_CODE_U4;
  static constexpr int kLaneWords = 2;
};
struct Integers {
  static constexpr int32_t kCode = SE_CODE_I8;
  static constexpr int kLaneWords = 4;
};
struct Floats8 {
  static constexpr int32_t kCode = SE_CODE_E4M3;
  static constexpr int kLaneWords = 4;
};

// Two elements of each type in a word.
template <typename Element>
struct Pair;
template <>
struct Pair<Bf16> {
  static constexpr uint32_t kOne = 0x3f803f80u;
  static constexpr uint32_t kMinusOne = 0xbf80bf80u;
  static constexpr uint32_t kCount = 0x43004300u;  // 128: the last place is 1
  static constexpr float kCountValue = 128.0f;
  static constexpr int kE2m1Shift = 6;  // from bits 14 … 12 to the exponent's end
  static constexpr uint32_t kE2m1Mask = 0x01c001c0u;
  static constexpr uint32_t kE2m1Factor = 0x7e807e80u;  // 2^126
  static constexpr int kE4m3Shift = 4;                  // from bits 14 … 8
  static constexpr uint32_t kE4m3Factor = 0x7b807b80u;  // 2^120
  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    return ptx::fma_bf16x2(a, b, c);
  }
};
template <>
struct Pair<F16> {
  static constexpr uint32_t kOne = 0x3c003c00u;
  static constexpr uint32_t kCount = 0x64006400u;  // 1024
  static constexpr float kCountValue = 1024.0f;
  static constexpr int kE2m1Shift = 3;
  static constexpr uint32_t kE2m1Mask = 0x0e000e00u;
  static constexpr uint32_t kE2m1Factor = 0x74007400u;  // 2^14
  static constexpr int kE4m3Shift = 1;
  static constexpr uint32_t kE4m3Factor = 0x5c005c00u;  // 2^8
  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    return ptx::fma_f16x2(a, b, c);
  }
};
constexpr uint32_t kSigns = 0x80008000u;  // also a pair of -0, which changes no product

// A layout's nibbles, ready for a tile.
struct NibbleRules {
  NibbleValues values;
  uint32_t minus_bias;  // kAffine: a pair of -(kCount + bias)
  uint32_t table[4];    // kTable

  template <typename Element>
  static __device__ __forceinline__ NibbleRules of(const StoredLayout& layout) {
    const float taken = -(Pair<Element>::kCountValue + static_cast<float>(layout.bias));
    const uint32_t bits = from_float<Element>(taken).bits;
    return {layout.values,
            bits | bits << 16,
            {layout.table[0], layout.table[1], layout.table[2], layout.table[3]}};
  }
};

// Bytes 2 * pair and 2 * pair + 1 of a word of signed integers.
template <typename Element>
__device__ __forceinline__ uint32_t integers_of(uint32_t word, int pair);
template <>
__device__ __forceinline__ uint32_t integers_of<Bf16>(uint32_t word, int pair) {
  const uint32_t wide = __byte_perm(word, Pair<Bf16>::kCount >> 8, pair == 0 ? 0x4140u : 0x4342u);
  return Pair<Bf16>::fma(wide & 0xff80ff80u, Pair<Bf16>::kMinusOne, wide & 0xff7fff7fu);
}
template <>
__device__ __forceinline__ uint32_t integers_of<F16>(uint32_t word, int pair) {
  constexpr uint32_t kTaken = 0xe480e480u;  // -1152
  const uint32_t wide =
      __byte_perm(word ^ 0x80808080u, Pair<F16>::kCount >> 8, pair == 0 ? 0x4140u : 0x4342u);
  return Pair<F16>::fma(wide, Pair<F16>::kOne, kTaken);
}

// The same of e4m3 but for codes of NaN.
template <typename Element>
__device__ __forceinline__ uint32_t floats_of(uint32_t word, int pair) {
  const uint32_t high = __byte_perm(word, 0, pair == 0 ? 0x1404u : 0x3424u);
  const uint32_t bits = (high & kSigns) | (high & 0x7f007f00u) >> Pair<Element>::kE4m3Shift;
  return Pair<Element>::fma(bits, Pair<Element>::kE4m3Factor, kSigns);
}

// Bit 7 of each byte that is a NaN in e4m3.
__device__ __forceinline__ uint32_t nan_codes(uint32_t word) {
  return ((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
}

// The signed bytes of a table at the four codes in the lower half of a word.
__device__ __forceinline__ uint32_t looked_up(const uint32_t (&table)[4], uint32_t codes) {
  const uint32_t index = codes & 0x7777u;
  const uint32_t choice = 0x3210u | (codes & 0x8888u) >> 1;
  return __byte_perm(__byte_perm(table[0], table[1], index), __byte_perm(table[2], table[3], index),
                     choice);
}

// Values of a lane's codes of 64 columns: [k16 step][pair].
using PieceValues = uint32_t[4][2];

template <typename Element>
__device__ __forceinline__ void decode_piece(Nibbles, const uint32_t (&words)[2],
                                             const NibbleRules& rules, PieceValues& values) {
  if (rules.values == NibbleValues::kAffine) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t code = words[i / 4] >> (i % 4 * 4) & 0x000f000fu;
      values[i / 2][i % 2] =
          Pair<Element>::fma(code | Pair<Element>::kCount, Pair<Element>::kOne, rules.minus_bias);
    }
  } else if (rules.values == NibbleValues::kE2m1) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t high = words[i / 4] << (12 - i % 4 * 4);
      const uint32_t bits =
          (high & kSigns) | (high >> Pair<Element>::kE2m1Shift & Pair<Element>::kE2m1Mask);
      values[i / 2][i % 2] = Pair<Element>::fma(bits, Pair<Element>::kE2m1Factor, kSigns);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // First and second codes of four pairs each.
      const uint32_t first = looked_up(rules.table, words[i]);
      const uint32_t second = looked_up(rules.table, words[i] >> 16);
      const uint32_t low = __byte_perm(first, second, 0x5140u);
      const uint32_t high = __byte_perm(first, second, 0x7362u);
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        values[2 * i][pair] = integers_of<Element>(low, pair);
        values[2 * i + 1][pair] = integers_of<Element>(high, pair);
      }
    }
  }
}

template <typename Element>
__device__ __forceinline__ void decode_piece(Integers, const uint32_t (&words)[4],
                                             const NibbleRules&, PieceValues& values) {
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    values[step][0] = integers_of<Element>(words[step], 0);
    values[step][1] = integers_of<Element>(words[step], 1);
  }
}

template <typename Element>
__device__ __forceinline__ void decode_piece(Floats8, const uint32_t (&words)[4],
                                             const NibbleRules&, PieceValues& values) {
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    values[step][0] = floats_of<Element>(words[step], 0);
    values[step][1] = floats_of<Element>(words[step], 1);
    const uint32_t nans = nan_codes(words[step]);
    if (nans != 0) {  // in no checkpoint that is in order
      values[step][0] |= (nans & 0x80u) != 0 ? 0x7fffu : 0u;
      values[step][0] |= (nans & 0x8000u) != 0 ? 0x7fff0000u : 0u;
      values[step][1] |= (nans & 0x800000u) != 0 ? 0x7fffu : 0u;
      values[step][1] |= (nans & 0x80000000u) != 0 ? 0x7fff0000u : 0u;
    }
  }
}

}  // namespace sparse_experts::cuda
