// ggml's types of 32 elements with one f16 scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL. Of packed
// nibbles the low one of byte j is element j, the high one element j + 16.
#include "formats/ggml/block.h"
#include "formats/ggml/tables.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

constexpr auto kNibbles = integers<16, 0>();
constexpr auto kNibblesAroundZero = integers<16, 8>();
constexpr auto kFiveBits = integers<32, 0>();
constexpr auto kFiveBitsAroundZero = integers<32, 16>();

constexpr std::array<float, 256> signed_bytes() {
  std::array<float, 256> table{};
  for (int code = 0; code < 256; ++code) {
    table[static_cast<std::size_t>(code)] = static_cast<float>(code < 128 ? code : code - 256);
  }
  return table;
}
constexpr auto kSignedBytes = signed_bytes();

void read_scale(const uint8_t* from, GgmlBlock* to) {
  to->scale = decode_f16(load_u16(from));
  to->scales[0] = 1.0f;
}

void read_offset(const uint8_t* from, GgmlBlock* to) {
  to->offset = decode_f16(load_u16(from));
  to->offsets[0] = 1.0f;
}

void read_nibbles(const uint8_t* from, GgmlBlock* to) {
  for (std::size_t j = 0; j < 16; ++j) {
    to->codes[j] = from[j] & 15;
    to->codes[j + 16] = from[j] >> 4;
  }
}

void add_fifth_bits(uint32_t bits, GgmlBlock* to) {
  for (std::size_t j = 0; j < 32; ++j) {
    to->codes[j] = static_cast<uint8_t>(to->codes[j] | (bits >> j & 1) << 4);
  }
}

void unpack_q4_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_nibbles(from + 2, to);
}

void unpack_q4_1(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_offset(from + 2, to);
  read_nibbles(from + 4, to);
}

void unpack_q5_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_nibbles(from + 6, to);
  add_fifth_bits(load_u32(from + 2), to);
}

void unpack_q5_1(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_offset(from + 2, to);
  read_nibbles(from + 8, to);
  add_fifth_bits(load_u32(from + 4), to);
}

void unpack_q8_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  for (std::size_t j = 0; j < 32; ++j) to->codes[j] = from[2 + j];
}

}  // namespace

const std::array<GgmlLayout, 6> kGgmlPlainLayouts = {{
    {StoredType::kQ4V0, 4, 32, false, kNibblesAroundZero.data(), unpack_q4_0},
    {StoredType::kQ4V1, 4, 32, true, kNibbles.data(), unpack_q4_1},
    {StoredType::kQ5V0, 5, 32, false, kFiveBitsAroundZero.data(), unpack_q5_0},
    {StoredType::kQ5V1, 5, 32, true, kFiveBits.data(), unpack_q5_1},
    {StoredType::kQ8V0, 8, 32, false, kSignedBytes.data(), unpack_q8_0},
    {StoredType::kIQ4NL, 4, 32, false, kNonLinearValues.data(), unpack_q4_0},
}};

}  // namespace sparse_experts
