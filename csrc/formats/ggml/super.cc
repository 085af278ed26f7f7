// ggml's types of 256 elements whose groups have small integers as scales, times an f16 of the
// block: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS.
#include "formats/ggml/block.h"
#include "formats/ggml/tables.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

constexpr auto kThreeBits = integers<8, 4>();
constexpr auto kTwoBits = integers<4, 0>();
constexpr auto kNibbles = integers<16, 0>();
constexpr auto kFiveBits = integers<32, 0>();
constexpr auto kSixBits = integers<64, 32>();

float f16_at(const uint8_t* from) { return decode_f16(load_u16(from)); }

// 64 bytes of two bits each: of every 32 bytes the lowest pairs are the first 32 elements, the next
// pairs the next 32, and so on.
uint8_t two_bits(const uint8_t* from, std::size_t j) {
  const std::size_t half = j / 128;
  return from[32 * half + j % 32] >> (2 * (j % 128 / 32)) & 3;
}

// 128 bytes: of every 32 the low nibbles are 32 elements, the high ones the next 32.
uint8_t nibble(const uint8_t* from, std::size_t j) {
  const uint8_t byte = from[32 * (j / 64) + j % 32];
  return j % 64 < 32 ? byte & 15 : byte >> 4;
}

// Subtracted: the offset is negative.
void read_minimum(const uint8_t* from, GgmlBlock* to) { to->offset = -f16_at(from); }

void unpack_q2_k(const uint8_t* from, GgmlBlock* to) {
  to->scale = f16_at(from + 80);
  read_minimum(from + 82, to);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = static_cast<float>(from[group] & 15);
    to->offsets[group] = static_cast<float>(from[group] >> 4);
  }
  for (std::size_t j = 0; j < 256; ++j) to->codes[j] = two_bits(from + 16, j);
}

// Twelve bytes of 16 six-bit scales: the low nibbles of bytes 0 to 7, their high nibbles, and in
// bytes 8 to 11 the upper pairs of bits, four scales apart.
int32_t q3_k_scale(const uint8_t* from, std::size_t group) {
  const int32_t low = group < 8 ? from[group] & 15 : from[group - 8] >> 4;
  const int32_t high = from[8 + group % 4] >> (2 * (group / 4)) & 3;
  return (low | high << 4) - 32;
}

void unpack_q3_k(const uint8_t* from, GgmlBlock* to) {
  const uint8_t* third_bits = from;
  to->scale = f16_at(from + 108);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = static_cast<float>(q3_k_scale(from + 96, group));
  }
  for (std::size_t j = 0; j < 256; ++j) {
    const int third = third_bits[j % 32] >> (j / 32) & 1;
    to->codes[j] = static_cast<uint8_t>(two_bits(from + 32, j) | third << 2);
  }
}

// Twelve bytes of 8 six-bit scales and 8 six-bit minima: the first four of each in the low six bits
// of bytes 0 to 7; the others in nibbles of bytes 8 to 11, their upper bits on top of the first ones.
void read_k_scales(const uint8_t* from, GgmlBlock* to) {
  for (std::size_t j = 0; j < 4; ++j) {
    to->scales[j] = static_cast<float>(from[j] & 63);
    to->offsets[j] = static_cast<float>(from[j + 4] & 63);
    to->scales[j + 4] = static_cast<float>((from[j + 8] & 15) | from[j] >> 6 << 4);
    to->offsets[j + 4] = static_cast<float>(from[j + 8] >> 4 | from[j + 4] >> 6 << 4);
  }
}

void unpack_q4_k(const uint8_t* from, GgmlBlock* to) {
  to->scale = f16_at(from);
  read_minimum(from + 2, to);
  read_k_scales(from + 4, to);
  for (std::size_t j = 0; j < 256; ++j) to->codes[j] = nibble(from + 16, j);
}

void unpack_q5_k(const uint8_t* from, GgmlBlock* to) {
  const uint8_t* fifth_bits = from + 16;
  to->scale = f16_at(from);
  read_minimum(from + 2, to);
  read_k_scales(from + 4, to);
  for (std::size_t j = 0; j < 256; ++j) {
    const int fifth = fifth_bits[j % 32] >> (j / 32) & 1;
    to->codes[j] = static_cast<uint8_t>(nibble(from + 48, j) | fifth << 4);
  }
}

void unpack_q6_k(const uint8_t* from, GgmlBlock* to) {
  to->scale = f16_at(from + 208);
  for (std::size_t group = 0; group < 16; ++group) {
    to->scales[group] = static_cast<float>(static_cast<int8_t>(from[192 + group]));
  }
  for (std::size_t j = 0; j < 256; ++j) {
    // Of every 128 elements the first 64 are low nibbles of 64 bytes, the others their high ones.
    const uint8_t byte = from[64 * (j / 128) + j % 64];
    const int low = j % 128 < 64 ? byte & 15 : byte >> 4;
    to->codes[j] = static_cast<uint8_t>(low | two_bits(from + 128, j) << 4);
  }
}

void unpack_iq4_xs(const uint8_t* from, GgmlBlock* to) {
  to->scale = f16_at(from);
  const uint32_t high = load_u16(from + 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const int32_t low = from[4 + group / 2] >> (4 * (group % 2)) & 15;
    const auto upper = static_cast<int32_t>(high >> (2 * group) & 3);
    to->scales[group] = static_cast<float>((low | upper << 4) - 32);
  }
  for (std::size_t j = 0; j < 256; ++j) {
    const uint8_t byte = from[8 + 16 * (j / 32) + j % 16];
    to->codes[j] = j % 32 < 16 ? byte & 15 : byte >> 4;
  }
}

}  // namespace

const std::array<GgmlLayout, 6> kGgmlSuperLayouts = {{
    {StoredType::kQ2K, 2, 16, true, kTwoBits.data(), unpack_q2_k},
    {StoredType::kQ3K, 3, 16, false, kThreeBits.data(), unpack_q3_k},
    {StoredType::kQ4K, 4, 32, true, kNibbles.data(), unpack_q4_k},
    {StoredType::kQ5K, 5, 32, true, kFiveBits.data(), unpack_q5_k},
    {StoredType::kQ6K, 6, 16, false, kSixBits.data(), unpack_q6_k},
    {StoredType::kIQ4XS, 4, 32, false, kNonLinearValues.data(), unpack_iq4_xs},
}};

}  // namespace sparse_experts
