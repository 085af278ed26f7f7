// What the lanes of a warp do together: the lane's number, masks, and the best of a set of keys.
// All of it in warp-uniform control flow.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sparse_experts::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;

// Blocks are one-dimensional.
__device__ __forceinline__ int32_t lane_index() { return static_cast<int32_t>(threadIdx.x & 31u); }
__device__ __forceinline__ int32_t warp_index() { return static_cast<int32_t>(threadIdx.x >> 5); }
__device__ __forceinline__ unsigned lanes_below(int32_t lane) { return (1u << lane) - 1u; }

// ---- keys: unsigned integers in the order of doubles ------------------------------------------

// Greater value, greater key; both zeros have one key; a NaN has that of -inf. No value has key 0.
constexpr uint64_t kNoKey = 0;
constexpr uint64_t kLowestKey = 0x000fffffffffffffull;  // of -inf

__device__ __forceinline__ uint64_t order_key(double value) {
  if (value != value) return kLowestKey;
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(value + 0.0));
  return (bits >> 63) != 0 ? ~bits : bits | 0x8000000000000000ull;
}

__device__ __forceinline__ double key_value(uint64_t key) {
  const uint64_t bits = (key >> 63) != 0 ? key & 0x7fffffffffffffffull : ~key;
  return __longlong_as_double(static_cast<long long>(bits));
}

// A key and where it was found.
struct Candidate {
  uint64_t key;
  uint32_t index;
};

constexpr uint32_t kNoIndex = 0xffffffffu;

__device__ __forceinline__ Candidate no_candidate() { return {kNoKey, kNoIndex}; }

// The greatest key of the warp, ties to the lowest index; the same in all lanes. Three reductions
// in hardware instead of five rounds of shuffles of twelve bytes.
__device__ __forceinline__ Candidate warp_best(const Candidate& mine) {
  const uint32_t high = static_cast<uint32_t>(mine.key >> 32);
  const uint32_t low = static_cast<uint32_t>(mine.key);
  const uint32_t best_high = __reduce_max_sync(kFullWarp, high);
  const bool leads = high == best_high;
  const uint32_t best_low = __reduce_max_sync(kFullWarp, leads ? low : 0u);
  const bool best = leads && low == best_low;
  const uint32_t index = __reduce_min_sync(kFullWarp, best ? mine.index : kNoIndex);
  return {static_cast<uint64_t>(best_high) << 32 | best_low, index};
}

// The best of keys[first], keys[first + step], … below count; rising, so that ties keep the first.
__device__ __forceinline__ Candidate best_of_keys(const uint64_t* keys, int32_t first, int32_t step,
                                                  int32_t count) {
  Candidate best = no_candidate();
#pragma unroll 4
  for (int32_t i = first; i < count; i += step) {
    const uint64_t key = keys[i];
    if (key > best.key) best = {key, static_cast<uint32_t>(i)};
  }
  return best;
}

// Takes the best remaining key of keys[0, count) out of the set (its entry becomes kNoKey). `mine`
// is the lane's best of the entries lane, lane + 32, …: only the winner's lane looks again.
__device__ __forceinline__ Candidate take_best(uint64_t* keys, int32_t count, int32_t lane,
                                               Candidate& mine) {
  const Candidate best = warp_best(mine);
  if (mine.index == best.index && best.index != kNoIndex) {
    keys[best.index] = kNoKey;
    mine = best_of_keys(keys, lane, 32, count);
  }
  return best;
}

}  // namespace sparse_experts::cuda
