// ggml's types of 256 elements that store points of a grid: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S,
// IQ1_S, IQ1_M.
#include "formats/ggml/bits.h"
#include "formats/ggml/block.h"
#include "formats/ggml/grids.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

// Powers of two that divide a type's scales stand in its value table, so that scales are 2 s + 1.
uint8_t odd(uint32_t scale) { return static_cast<uint8_t>(2 * scale + 1); }

// Eight codes of an IQ2 grid's entry: indices of its three levels, and 3 more where bit k of `signs`
// says that the k-th is negative.
void put_iq2(uint16_t entry, uint8_t signs, uint8_t* codes) {
  store_u64(codes, spread_pairs(entry) + 3 * spread_bits(signs));
}

// Four codes of an IQ3 grid's entry: indices of its eight levels, and 8 more where negative.
void put_iq3(uint16_t entry, uint8_t signs, uint8_t* codes) {
  const auto negative = static_cast<uint32_t>(spread_bits(signs));
  store_u32(codes, spread_threes(entry) | negative << 3);
}

// Eight codes whose values are an eighth below or above the grid's -1, 0 and 1: SE_TABLE_IQ1 has
// them in rising order.
void put_iq1(uint16_t entry, bool is_down, uint8_t* codes) {
  store_u64(codes, 2 * spread_pairs(entry) + (is_down ? 0 : kEachByte));
}

// Seven signs and an eighth that makes their number even.
uint8_t even_signs(uint32_t seven) {
  uint32_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return static_cast<uint8_t>(seven | (parity & 1) << 7);
}

void unpack_iq2_xxs(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  for (std::size_t group = 0; group < 8; ++group) {
    const uint8_t* indices = from + 2 + 8 * group;
    const uint32_t signs = load_u32(indices + 4);
    to->scales[group] = odd(signs >> 28);
    for (std::size_t l = 0; l < 4; ++l) {
      put_iq2(kIQ2XXSGrid[indices[l]], even_signs(signs >> (7 * l) & 127),
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
  to->super_scale = load_u16(from);
  read_iq2_scales(from + 66, to);
  for (std::size_t i = 0; i < 32; ++i) {
    const uint32_t word = load_u16(from + 2 + 2 * i);
    put_iq2(kIQ2XSGrid[word & 511], even_signs(word >> 9), &to->codes[8 * i]);
  }
}

void unpack_iq2_s(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  read_iq2_scales(from + 74, to);
  for (std::size_t i = 0; i < 32; ++i) {
    const int high = from[66 + i / 4] >> (2 * (i % 4)) & 3;
    put_iq2(kIQ2SGrid[from[2 + i] | high << 8], from[34 + i], &to->codes[8 * i]);
  }
}

void unpack_iq3_xxs(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  for (std::size_t group = 0; group < 8; ++group) {
    const uint8_t* indices = from + 2 + 8 * group;
    const uint32_t word = load_u32(from + 66 + 4 * group);
    to->scales[group] = odd(word >> 28);
    for (std::size_t l = 0; l < 8; ++l) {
      const auto signs =
          static_cast<uint8_t>(even_signs(word >> (7 * (l / 2)) & 127) >> (4 * (l % 2)));
      put_iq3(kIQ3XXSGrid[indices[l]], signs, &to->codes[32 * group + 4 * l]);
    }
  }
}

void unpack_iq3_s(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  for (std::size_t group = 0; group < 8; ++group) {
    to->scales[group] = odd(from[106 + group / 2] >> (4 * (group % 2)) & 15u);
  }
  for (std::size_t i = 0; i < 64; ++i) {
    const int high = from[66 + i / 8] >> (i % 8) & 1;
    const auto signs = static_cast<uint8_t>(from[74 + i / 2] >> (4 * (i % 2)));
    put_iq3(kIQ3SGrid[from[2 + i] | high << 8], signs, &to->codes[4 * i]);
  }
}

void unpack_iq1_s(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  for (std::size_t group = 0; group < 8; ++group) {
    const uint32_t word = load_u16(from + 34 + 2 * group);
    // Groups are of 32 here.
    to->scales[group] = odd(word >> 12 & 7);
    for (std::size_t l = 0; l < 4; ++l) {
      const uint32_t index = from[2 + 4 * group + l] | (word >> (3 * l) & 7) << 8;
      put_iq1(kIQ1Grid[index], word >> 15 != 0, &to->codes[32 * group + 8 * l]);
    }
  }
}

void unpack_iq1_m(const uint8_t* from, GgmlBlock* to) {
  const uint8_t* scales = from + 48;
  uint32_t scale = 0;
  for (std::size_t i = 0; i < 4; ++i) scale |= (load_u16(scales + 2 * i) & 0xf000u) >> (12 - 4 * i);
  to->super_scale = static_cast<uint16_t>(scale);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = odd(load_u16(scales + 2 * (group / 4)) >> (3 * (group % 4)) & 7u);
  }
  for (std::size_t i = 0; i < 32; ++i) {
    const uint32_t high = from[32 + i / 2] >> (4 * (i % 2)) & 15u;
    put_iq1(kIQ1Grid[from[i] | (high & 7) << 8], high >> 3 != 0, &to->codes[8 * i]);
  }
}

}  // namespace

const std::array<GgmlLayout, 7> kGgmlGridLayouts = {{
    {StoredType::kIQ2XXS, SE_CODE_U4, SE_TABLE_IQ2, SE_SCALE_U8, SE_OFFSET_NONE, 32,
     unpack_iq2_xxs},
    {StoredType::kIQ2XS, SE_CODE_U4, SE_TABLE_IQ2, SE_SCALE_U8, SE_OFFSET_NONE, 16, unpack_iq2_xs},
    {StoredType::kIQ2S, SE_CODE_U4, SE_TABLE_IQ2, SE_SCALE_U8, SE_OFFSET_NONE, 16, unpack_iq2_s},
    {StoredType::kIQ3XXS, SE_CODE_U4, SE_TABLE_IQ3_XXS, SE_SCALE_U8, SE_OFFSET_NONE, 32,
     unpack_iq3_xxs},
    {StoredType::kIQ3S, SE_CODE_U4, SE_TABLE_IQ3_S, SE_SCALE_U8, SE_OFFSET_NONE, 32, unpack_iq3_s},
    {StoredType::kIQ1S, SE_CODE_U4, SE_TABLE_IQ1, SE_SCALE_U8, SE_OFFSET_NONE, 32, unpack_iq1_s},
    {StoredType::kIQ1M, SE_CODE_U4, SE_TABLE_IQ1, SE_SCALE_U8, SE_OFFSET_NONE, 16, unpack_iq1_m},
}};

}  // namespace sparse_experts
