// ggml's types of 256 elements whose groups have small integers as scales, times an f16 of the
// block: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS.
#include <cstring>

#include "formats/ggml/bits.h"
#include "formats/ggml/block.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

// 64 bytes of two bits each: of every 32 bytes the lowest pairs are the first 32 elements, the next
// pairs the next 32, and so on. They become the bits from `shift` on of codes whose others are set.
void add_two_bits(const uint8_t* from, int shift, uint8_t* codes) {
  constexpr uint64_t kPair = 3 * kEachByte;
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; i += 8) {
      const uint64_t bytes = load_u64(from + 32 * half + i);
      uint8_t* to = codes + 128 * half + i;
      for (int pair = 0; pair < 4; ++pair, to += 32)
        store_u64(to, load_u64(to) | (bytes >> 2 * pair & kPair) << shift);
    }
  }
}

// 32 bytes of one bit each: bit b of byte k is element 32 b + k.
void add_one_bit(const uint8_t* from, int shift, uint8_t* codes) {
  for (int i = 0; i < 32; i += 8) {
    const uint64_t bytes = load_u64(from + i);
    uint8_t* to = codes + i;
    for (int bit = 0; bit < 8; ++bit, to += 32)
      store_u64(to, load_u64(to) | (bytes >> bit & kEachByte) << shift);
  }
}

// 128 bytes: of every 32 the low nibbles are 32 elements, the high ones the next 32.
void put_all_nibbles(const uint8_t* from, uint8_t* codes) {
  for (int part = 0; part < 4; ++part) put_nibbles(from + 32 * part, 32, codes + 64 * part);
}

void unpack_q2_k(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from + 80);
  to->super_offset = load_u16(from + 82);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = from[group] & 15;
    to->offsets[group] = from[group] >> 4;
  }
  to->codes.fill(0);
  add_two_bits(from + 16, 0, to->codes.data());
}

// Twelve bytes of 16 six-bit scales: the low nibbles of bytes 0 to 7, their high nibbles, and in
// bytes 8 to 11 the upper pairs of bits, four scales apart.
uint8_t q3_k_scale(const uint8_t* from, std::size_t group) {
  const int32_t low = group < 8 ? from[group] & 15 : from[group - 8] >> 4;
  const int32_t high = from[8 + group % 4] >> (2 * (group / 4)) & 3;
  return static_cast<uint8_t>((low | high << 4) - 32);
}

void unpack_q3_k(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from + 108);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = q3_k_scale(from + 96, group);
  }
  to->codes.fill(0);
  add_two_bits(from + 32, 0, to->codes.data());
  add_one_bit(from, 2, to->codes.data());
}

// Twelve bytes of 8 six-bit scales and 8 six-bit minima: the first four of each in the low six bits
// of bytes 0 to 7; the others in nibbles of bytes 8 to 11, their upper bits on top of the first ones.
void read_k_scales(const uint8_t* from, GgmlBlock* to) {
  for (std::size_t j = 0; j < 4; ++j) {
    to->scales[j] = from[j] & 63;
    to->offsets[j] = from[j + 4] & 63;
    to->scales[j + 4] = static_cast<uint8_t>((from[j + 8] & 15) | from[j] >> 6 << 4);
    to->offsets[j + 4] = static_cast<uint8_t>(from[j + 8] >> 4 | from[j + 4] >> 6 << 4);
  }
}

void unpack_q4_k(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  to->super_offset = load_u16(from + 2);
  read_k_scales(from + 4, to);
  put_all_nibbles(from + 16, to->codes.data());
}

void unpack_q5_k(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  to->super_offset = load_u16(from + 2);
  read_k_scales(from + 4, to);
  put_all_nibbles(from + 48, to->codes.data());
  add_one_bit(from + 16, 4, to->codes.data());
}

void unpack_q6_k(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from + 208);
  std::memcpy(to->scales.data(), from + 192, 16);
  // Of every 128 elements the first 64 are low nibbles of 64 bytes, the others their high ones.
  for (int half = 0; half < 2; ++half)
    put_nibbles(from + 64 * half, 64, to->codes.data() + 128 * half);
  add_two_bits(from + 128, 4, to->codes.data());
}

void unpack_iq4_xs(const uint8_t* from, GgmlBlock* to) {
  to->super_scale = load_u16(from);
  const uint32_t high = load_u16(from + 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const int32_t low = from[4 + group / 2] >> (4 * (group % 2)) & 15;
    const auto upper = static_cast<int32_t>(high >> (2 * group) & 3);
    to->scales[group] = static_cast<uint8_t>((low | upper << 4) - 32);
  }
  for (int group = 0; group < 8; ++group)
    put_nibbles(from + 8 + 16 * group, 16, to->codes.data() + 32 * group);
}

}  // namespace

const std::array<GgmlLayout, 6> kGgmlSuperLayouts = {{
    {StoredType::kQ2K, SE_CODE_U2, SE_TABLE_Q, SE_SCALE_U8, SE_OFFSET_U8, 16, unpack_q2_k},
    {StoredType::kQ3K, SE_CODE_U3, SE_TABLE_Q4, SE_SCALE_I8, SE_OFFSET_NONE, 16, unpack_q3_k},
    {StoredType::kQ4K, SE_CODE_U4, SE_TABLE_Q, SE_SCALE_U8, SE_OFFSET_U8, 32, unpack_q4_k},
    {StoredType::kQ5K, SE_CODE_U5, SE_TABLE_Q, SE_SCALE_U8, SE_OFFSET_U8, 32, unpack_q5_k},
    {StoredType::kQ6K, SE_CODE_U6, SE_TABLE_Q32, SE_SCALE_I8, SE_OFFSET_NONE, 16, unpack_q6_k},
    {StoredType::kIQ4XS, SE_CODE_U4, SE_TABLE_IQ4_NL, SE_SCALE_I8, SE_OFFSET_NONE, 32,
     unpack_iq4_xs},
}};

}  // namespace sparse_experts
