// ggml's types of 256 elements that store points of a grid: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S,
// IQ1_S, IQ1_M. A code is the index of a magnitude with the sign (IQ1: of the shift) on top of it.
#include "formats/ggml/block.h"
#include "formats/ggml/grids.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

// Powers of two that divide a type's scales stand in its table, so that the scales are 2 s + 1.
constexpr std::array<float, 8> kIQ2Values = {1.0f,  3.125f,  5.375f,  0.0f,
                                             -1.0f, -3.125f, -5.375f, 0.0f};
constexpr std::array<float, 16> kIQ3XXSValues = {1,  3,  5,  7,  9,  11,  13,  15.5f,
                                                 -1, -3, -5, -7, -9, -11, -13, -15.5f};
constexpr std::array<float, 16> kIQ3SValues = {1,  3,  5,  7,  9,  11,  13,  15,
                                               -1, -3, -5, -7, -9, -11, -13, -15};
// The grid's -1, 0 and 1, an eighth up or down.
constexpr std::array<float, 8> kIQ1Values = {-0.875f, 0.125f,  1.125f, 0.0f,
                                             -1.125f, -0.125f, 0.875f, 0.0f};

float odd(uint32_t scale) { return static_cast<float>(2 * scale + 1); }

// `kWidth` codes of `kBits` bits from a grid's entry, bit k of `signs` on top of the k-th.
template <int kWidth, int kBits>
void put(uint16_t entry, uint32_t signs, uint8_t* codes) {
  for (int k = 0; k < kWidth; ++k) {
    const int level = entry >> (kBits * k) & ((1 << kBits) - 1);
    codes[k] = static_cast<uint8_t>(level | static_cast<int>(signs >> k & 1) << kBits);
  }
}

// Seven signs and an eighth that makes their number even.
uint32_t even_signs(uint32_t seven) {
  uint32_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return seven | (parity & 1) << 7;
}

void unpack_iq2_xxs(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  for (std::size_t group = 0; group < 8; ++group) {
    const uint8_t* indices = from + 2 + 8 * group;
    const uint32_t signs = load_u32(indices + 4);
    to->scales[group] = odd(signs >> 28);
    for (std::size_t l = 0; l < 4; ++l) {
      put<8, 2>(kIQ2XXSGrid[indices[l]], even_signs(signs >> (7 * l) & 127),
                &to->codes[32 * group + 8 * l]);
    }
  }
}

void read_iq2_scales(const uint8_t* from, GgmlBlock* to) {
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = odd(from[group / 2] >> (4 * (group % 2)) & 15u);
  }
}

void unpack_iq2_xs(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  read_iq2_scales(from + 66, to);
  for (std::size_t i = 0; i < 32; ++i) {
    const uint32_t word = load_u16(from + 2 + 2 * i);
    put<8, 2>(kIQ2XSGrid[word & 511], even_signs(word >> 9), &to->codes[8 * i]);
  }
}

void unpack_iq2_s(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  read_iq2_scales(from + 74, to);
  for (std::size_t i = 0; i < 32; ++i) {
    const int high = from[66 + i / 4] >> (2 * (i % 4)) & 3;
    put<8, 2>(kIQ2SGrid[from[2 + i] | high << 8], from[34 + i], &to->codes[8 * i]);
  }
}

void unpack_iq3_xxs(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  for (std::size_t group = 0; group < 8; ++group) {
    const uint8_t* indices = from + 2 + 8 * group;
    const uint32_t word = load_u32(from + 66 + 4 * group);
    to->scales[group] = odd(word >> 28);
    for (std::size_t l = 0; l < 8; ++l) {
      const uint32_t signs = even_signs(word >> (7 * (l / 2)) & 127) >> (4 * (l % 2));
      put<4, 3>(kIQ3XXSGrid[indices[l]], signs, &to->codes[32 * group + 4 * l]);
    }
  }
}

void unpack_iq3_s(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  for (std::size_t group = 0; group < 8; ++group) {
    to->scales[group] = odd(from[106 + group / 2] >> (4 * (group % 2)) & 15u);
  }
  for (std::size_t i = 0; i < 64; ++i) {
    const int high = from[66 + i / 8] >> (i % 8) & 1;
    const uint32_t signs = static_cast<uint32_t>(from[74 + i / 2]) >> (4 * (i % 2));
    put<4, 3>(kIQ3SGrid[from[2 + i] | high << 8], signs, &to->codes[4 * i]);
  }
}

// The shift of eight elements, down where `down` is 1.
void put_shifted(uint16_t entry, uint32_t down, uint8_t* codes) {
  put<8, 2>(entry, down != 0 ? 255 : 0, codes);
}

void unpack_iq1_s(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  for (std::size_t group = 0; group < 8; ++group) {
    const uint32_t word = load_u16(from + 34 + 2 * group);
    // Groups are of 32 here.
    to->scales[group] = odd(word >> 12 & 7);
    for (std::size_t l = 0; l < 4; ++l) {
      const uint32_t index = from[2 + 4 * group + l] | (word >> (3 * l) & 7) << 8;
      put_shifted(kIQ1Grid[index], word >> 15, &to->codes[32 * group + 8 * l]);
    }
  }
}

void unpack_iq1_m(const uint8_t* from, GgmlBlock* to) {
  const uint8_t* scales = from + 48;
  uint32_t scale = 0;
  for (std::size_t i = 0; i < 4; ++i) scale |= (load_u16(scales + 2 * i) & 0xf000u) >> (12 - 4 * i);
  to->scale = decode_f16(static_cast<uint16_t>(scale));
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = odd(load_u16(scales + 2 * (group / 4)) >> (3 * (group % 4)) & 7u);
  }
  for (std::size_t i = 0; i < 32; ++i) {
    const uint32_t high = from[32 + i / 2] >> (4 * (i % 2)) & 15u;
    put_shifted(kIQ1Grid[from[i] | (high & 7) << 8], high >> 3, &to->codes[8 * i]);
  }
}

}  // namespace

const std::array<GgmlLayout, 7> kGgmlGridLayouts = {{
    {StoredType::kIQ2XXS, 3, 32, false, kIQ2Values.data(), unpack_iq2_xxs},
    {StoredType::kIQ2XS, 3, 16, false, kIQ2Values.data(), unpack_iq2_xs},
    {StoredType::kIQ2S, 3, 16, false, kIQ2Values.data(), unpack_iq2_s},
    {StoredType::kIQ3XXS, 4, 32, false, kIQ3XXSValues.data(), unpack_iq3_xxs},
    {StoredType::kIQ3S, 4, 32, false, kIQ3SValues.data(), unpack_iq3_s},
    {StoredType::kIQ1S, 3, 32, false, kIQ1Values.data(), unpack_iq1_s},
    {StoredType::kIQ1M, 3, 16, false, kIQ1Values.data(), unpack_iq1_m},
}};

}  // namespace sparse_experts
