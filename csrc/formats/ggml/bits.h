// Private to formats/ggml: fields of a few bits spread to bytes, several in one register.
#pragma once

#include <cstdint>
#include <cstring>

namespace sparse_experts {

constexpr uint64_t kEachByte = 0x0101010101010101;

// Bit k becomes byte k, 0 or 1.
inline uint64_t spread_bits(uint8_t bits) {
  // Byte k keeps bit k of its copy; adding 0x7f carries what is left into its top bit.
  const uint64_t kept = (bits * kEachByte) & 0x8040201008040201;
  return ((kept + 0x7f * kEachByte) >> 7) & kEachByte;
}

// Two bits each: field k becomes byte k.
inline uint64_t spread_pairs(uint16_t pairs) {
  uint64_t spread = pairs;
  spread = (spread | spread << 24) & 0x000000ff000000ff;
  spread = (spread | spread << 12) & 0x000f000f000f000f;
  return (spread | spread << 6) & 0x0303030303030303;
}

// Three bits each, the lower twelve: field k becomes byte k.
inline uint32_t spread_threes(uint16_t threes) {
  uint32_t spread = threes;
  spread = (spread | spread << 10) & 0x003f003f;
  return (spread | spread << 5) & 0x07070707;
}

inline void store_u64(uint8_t* to, uint64_t value) { std::memcpy(to, &value, sizeof value); }
inline void store_u32(uint8_t* to, uint32_t value) { std::memcpy(to, &value, sizeof value); }

inline uint64_t load_u64(const uint8_t* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Bit k of the bytes is the bit `shift` of code k, for 8 * num_bytes codes.
inline void add_bit_of_each(const uint8_t* from, int num_bytes, int shift, uint8_t* codes) {
  for (int i = 0; i < num_bytes; ++i)
    store_u64(codes + 8 * i, load_u64(codes + 8 * i) | spread_bits(from[i]) << shift);
}

// Nibbles of `num_bytes` bytes: the low ones are the first codes, the high ones those behind them.
inline void put_nibbles(const uint8_t* from, int num_bytes, uint8_t* codes) {
  constexpr uint64_t kLow = 0x0f * kEachByte;
  for (int i = 0; i < num_bytes; i += 8) {
    const uint64_t bytes = load_u64(from + i);
    store_u64(codes + i, bytes & kLow);
    store_u64(codes + num_bytes + i, bytes >> 4 & kLow);
  }
}

}  // namespace sparse_experts
