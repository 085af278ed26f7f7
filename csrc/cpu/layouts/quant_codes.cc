#include "cpu/layouts/quant_codes.h"

#include <algorithm>
#include <cstring>

#include "abi/enum_names.h"
#include "core/value_tables.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

constexpr int kNumTables = sizeof kValueTables / sizeof kValueTables[0];
constexpr int kMostBits = 6;

// Every table for every length of codes.
struct AllValues {
  CodeValues by_table[kNumTables][kMostBits + 1];

  AllValues() {
    for (int table = 0; table < kNumTables; ++table) {
      for (int bits = 0; bits <= kMostBits; ++bits) {
        for (int code = 0; code < 64; ++code) {
          const ValueTable& from = kValueTables[table];
          const float value = static_cast<float>(from.integers[code % (1 << bits)]) * from.factor;
          uint32_t words;
          std::memcpy(&words, &value, sizeof words);
          by_table[table][bits].f32[code] = value;
          by_table[table][bits].bf16[code] = static_cast<uint16_t>(words >> 16);
        }
      }
    }
  }
};

// Every second byte of eight codes from bit `from` on, as four fields of `bits` bits side by side.
uint32_t four_fields(uint64_t codes, int from, int bits) {
  const uint64_t one = (uint64_t{1} << bits) - 1;
  const uint64_t fields = (codes >> from) & (one | one << 16 | one << 32 | one << 48);
  const uint64_t pairs = fields | fields >> (16 - bits);
  const uint32_t two = (1u << 2 * bits) - 1u;
  const uint32_t low = static_cast<uint32_t>(pairs) & two;
  const uint32_t high = static_cast<uint32_t>(pairs >> 32) & two;
  return low | high << 2 * bits;
}

// Bits [from, from + kBits) of the codes of a tile's row, a word in each of kBits lines.
template <int kBits>
void pack_plane(const uint8_t* codes, int from, int64_t line_bytes, char* to) {
  constexpr int kGroups = 4 / kBits;  // of eight columns in a word
  for (int word = 0; word < kBits; ++word) {
    uint32_t fields = 0;
    for (int group = 0; group < kGroups; ++group) {
      uint64_t eight;
      std::memcpy(&eight, codes + (word * kGroups + group) * 8, sizeof eight);
      const uint32_t even = four_fields(eight, from, kBits);
      const uint32_t odd = four_fields(eight >> 8, from, kBits);
      fields |= (even | odd << 16) << (group * 4 * kBits);
    }
    std::memcpy(to + word * line_bytes, &fields, sizeof fields);
  }
}

void pack_bytes(const uint8_t* codes, int64_t line_bytes, char* to) {
  for (int word = 0; word < 8; ++word) {
    const uint8_t* four = codes + word * 4;
    const uint8_t bytes[4] = {four[0], four[2], four[1], four[3]};
    std::memcpy(to + word * line_bytes, bytes, sizeof bytes);
  }
}

void pack_tile_row(int32_t code, const uint8_t* codes, int64_t line_bytes, char* to) {
  switch (code) {
    case SE_CODE_U2:
      return pack_plane<2>(codes, 0, line_bytes, to);
    case SE_CODE_U3:
      pack_plane<1>(codes, 2, line_bytes, to);
      return pack_plane<2>(codes, 0, line_bytes, to + line_bytes);
    case SE_CODE_U4:
      return pack_plane<4>(codes, 0, line_bytes, to);
    case SE_CODE_U5:
      pack_plane<1>(codes, 4, line_bytes, to);
      return pack_plane<4>(codes, 0, line_bytes, to + line_bytes);
    case SE_CODE_U6:
      pack_plane<2>(codes, 4, line_bytes, to);
      return pack_plane<4>(codes, 0, line_bytes, to + 2 * line_bytes);
    default:
      return pack_bytes(codes, line_bytes, to);
  }
}

}  // namespace

const CodeValues& code_values(int32_t table, int64_t bits) {
  static const AllValues all;
  return all.by_table[table][bits];
}

void pack_codes(int32_t code, const uint8_t* codes, int64_t stride, int64_t num_rows, int64_t cols,
                int64_t width, char* tiles) {
  const int64_t line_bytes = width * 4;
  for (int64_t col = 0; col < cols; col += kTile) {
    const int64_t present = std::min(kTile, cols - col);
    for (int64_t row = 0; row < num_rows; ++row) {
      const uint8_t* from = codes + row * stride + col;
      uint8_t filled[kTile] = {};
      if (present < kTile) {
        std::memcpy(filled, from, static_cast<size_t>(present));
        from = filled;
      }
      pack_tile_row(code, from, line_bytes, tiles + row * 4);
    }
    tiles += line_bytes * code_bits(code);
  }
}

}  // namespace sparse_experts::cpu
