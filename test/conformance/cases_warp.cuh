// Cases of shuffles, votes, reductions, bit counts, block votes and atomics.
#pragma once

#include <algorithm>

#include "conformance/case_builder.cuh"

namespace conformance {

namespace model {

// The lane that a shuffle reads: sources outside of the lane's segment are the lane itself, but for
// an index, which wraps.
inline uint32_t shuffle_index(uint32_t lane, uint32_t index, uint32_t width) {
  return lane / width * width + index % width;
}
inline uint32_t shuffle_up(uint32_t lane, uint32_t distance, uint32_t width) {
  return lane % width >= distance ? lane - distance : lane;
}
inline uint32_t shuffle_down(uint32_t lane, uint32_t distance, uint32_t width) {
  return lane % width + distance < width ? lane + distance : lane;
}

inline uint32_t reversed(uint32_t value) {
  uint32_t out = 0;
  for (int i = 0; i < 32; ++i) out |= (value >> i & 1u) << (31 - i);
  return out;
}
inline uint32_t leading_zeros(uint32_t value) {
  uint32_t count = 0;
  while (count < 32 && (value >> (31 - count) & 1u) == 0) ++count;
  return count;
}
inline uint32_t first_set(uint32_t value) {
  for (uint32_t i = 0; i < 32; ++i) {
    if ((value >> i & 1u) != 0) return i + 1;
  }
  return 0;
}
inline uint32_t ones(uint32_t value) {
  uint32_t count = 0;
  for (int i = 0; i < 32; ++i) count += value >> i & 1u;
  return count;
}

// The words that warp_kernel writes for one lane, in its order.
inline std::vector<uint32_t> warp_words(const std::vector<uint32_t>& values, uint32_t lane) {
  const uint32_t* v = values.data();
  const uint32_t* other = v + 32;
  std::vector<uint32_t> out;
  const auto wide = [&](uint32_t l) { return static_cast<uint64_t>(v[l]) << 32 | other[l]; };
  const auto put_wide = [&out](uint64_t word) {
    out.push_back(static_cast<uint32_t>(word));
    out.push_back(static_cast<uint32_t>(word >> 32));
  };
  out.push_back(v[7]);
  out.push_back(v[other[lane] % 32]);
  out.push_back(v[other[lane] % 64 % 32]);
  out.push_back(v[shuffle_index(lane, other[lane] % 8, 8)]);
  out.push_back(v[shuffle_up(lane, 1, 32)]);
  out.push_back(v[shuffle_up(lane, 16, 32)]);
  out.push_back(v[shuffle_up(lane, 3, 16)]);
  out.push_back(v[shuffle_down(lane, 1, 32)]);
  out.push_back(v[shuffle_down(lane, 13, 32)]);
  out.push_back(v[shuffle_down(lane, 5, 8)]);
  out.push_back(v[lane ^ 1]);
  out.push_back(v[lane ^ 16]);
  out.push_back(v[lane ^ 31]);
  out.push_back(bits_of(static_cast<float>(v[lane ^ 8])));
  put_wide(wide(lane ^ 4));
  put_wide(bits_of(static_cast<double>(wide(9))));
  uint32_t odd = 0, negative = 0, sum = 0, every = ~0u, some = 0;
  uint32_t least = ~0u, greatest = 0;
  int32_t least_signed = INT32_MAX, greatest_signed = INT32_MIN;
  bool any_equal = false;
  uint32_t match_low = 0, match_all = 0, even_odd = 0;
  for (uint32_t l = 0; l < 32; ++l) {
    odd |= (v[l] & 1u) << l;
    negative |= (v[l] >> 31) << l;
    if (l % 2 == 0) even_odd |= (v[l] & 1u) << l;
    any_equal = any_equal || v[l] == other[l];
    if (v[l] % 4 == v[lane] % 4) match_low |= 1u << l;
    if (v[l] == v[lane]) match_all |= 1u << l;
    sum += v[l];
    least = std::min(least, v[l]);
    greatest = std::max(greatest, v[l]);
    every &= v[l] | 0x0f0f0f0fu;
    some |= v[l] & 0x11111111u;
    least_signed = std::min(least_signed, static_cast<int32_t>(v[l]));
    greatest_signed = std::max(greatest_signed, static_cast<int32_t>(v[l]));
  }
  for (const uint32_t word : {odd,
                              negative,
                              any_equal ? 1u : 0u,
                              1u,
                              1u,
                              0u,
                              match_low,
                              match_all,
                              sum,
                              least,
                              greatest,
                              every,
                              some,
                              sum,
                              static_cast<uint32_t>(least_signed),
                              static_cast<uint32_t>(greatest_signed),
                              ones(v[lane]),
                              first_set(v[lane]),
                              0u,
                              leading_zeros(v[lane]),
                              32u,
                              reversed(v[lane]),
                              v[lane] & 0x7f7fffffu,
                              lane % 2 == 0 ? even_odd : 0u,
                              even_odd}) {
    out.push_back(word);
  }
  return out;
}

}  // namespace model

// few: values that repeat, so that matches and equal lanes occur.
inline Case warp_case(const char* name, uint64_t seed, bool few) {
  Case one;
  one.name = name;
  one.seed = seed;
  Random random(seed);
  std::vector<uint32_t> values = random_words(random, 64);
  if (few) {
    for (uint32_t& value : values) value = value % 5 * 0x20000001u;
    values[17] = values[32 + 17];
  }
  const DeviceArray<uint32_t> out(kWarpWords * 32);
  const DeviceArray<uint32_t> in(values);
  one.out = run_kernel(name, warp_kernel, 1, 32, out, in.data(), out.data());
  one.model.resize(static_cast<size_t>(kWarpWords) * 32);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const std::vector<uint32_t> words = model::warp_words(values, lane);
    if (words.size() != static_cast<size_t>(kWarpWords)) one.model.clear();  // fails the case
    for (size_t i = 0; i < words.size() && !one.model.empty(); ++i) {
      one.model[32 * i + lane] = words[i];
    }
  }
  return one;
}

inline Case block_votes_case(uint64_t seed) {
  constexpr uint32_t kThreads = 80;
  Case one;
  one.name = "block_votes";
  one.seed = seed;
  Random random(seed);
  for (int kind = 0; kind < 4; ++kind) {
    std::vector<uint32_t> values(kThreads);
    for (uint32_t& value : values) {
      value = kind == 0 ? static_cast<uint32_t>(random.bits() & 1) : kind == 1 ? 1u : 0u;
    }
    if (kind == 3) values[79] = 1;  // one thread of the last warp, which is half full
    uint32_t count = 0;
    for (const uint32_t value : values) count += value;
    const DeviceArray<uint32_t> out(3 * kThreads);
    const DeviceArray<uint32_t> in(values);
    const std::vector<uint32_t> votes =
        run_kernel("block_votes", block_votes_kernel, 1, kThreads, out, in.data(), out.data());
    one.out.insert(one.out.end(), votes.begin(), votes.end());
    for (uint32_t i = 0; i < kThreads; ++i) {
      one.model.push_back(count > 0 ? 1u : 0u);
      one.model.push_back(count == kThreads ? 1u : 0u);
      one.model.push_back(count);
    }
  }
  return one;
}

inline Case atomics_case(uint64_t seed) {
  Case one;
  one.name = "atomics";
  one.seed = seed;
  Random random(seed);
  const std::vector<uint32_t> values = random_words(random, 4 * 96);
  const std::vector<uint32_t> start = {0u, ~0u, 0u, 0x7fffffffu, 0x80000000u, 0u, 0u, 0u};
  const DeviceArray<uint32_t> out(start);
  const DeviceArray<uint32_t> in(values);
  one.out = run_kernel("atomics", atomics_kernel, 4, 96, out, in.data(), out.data());
  uint64_t sum = 0;
  int32_t least = INT32_MAX, greatest = INT32_MIN;
  one.model = start;
  for (const uint32_t value : values) {
    sum += value;
    one.model[1] = std::min(one.model[1], value);
    one.model[2] = std::max(one.model[2], value);
    least = std::min(least, static_cast<int32_t>(value));
    greatest = std::max(greatest, static_cast<int32_t>(value));
  }
  one.model[0] = static_cast<uint32_t>(sum);
  one.model[3] = static_cast<uint32_t>(least);
  one.model[4] = static_cast<uint32_t>(greatest);
  one.model[6] = static_cast<uint32_t>(sum);
  one.model[7] = static_cast<uint32_t>(sum >> 32);
  return one;
}

inline void add_warp_cases(std::vector<Case>& cases) {
  cases.push_back(warp_case("warp/random", 61, false));
  cases.push_back(warp_case("warp/few_values", 62, true));
  cases.push_back(block_votes_case(63));
  cases.push_back(atomics_case(64));
}

}  // namespace conformance
