// Running one kernel for one case: arrays up, the launch, the result down.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "conformance/cases.h"
#include "conformance/kernels.cuh"
#include "conformance/model.h"
#include "cpp/random.h"
#include "cuda/device_array.h"

namespace conformance {

using native_test::Random;
using sparse_experts::testing::DeviceArray;
using sparse_experts::testing::must;

inline std::vector<uint32_t> random_words(Random& random, size_t count) {
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(random.bits() >> 32);
  return words;
}

// Launches and returns what `out` holds afterwards. Arguments: device arrays and plain values.
template <typename Out, typename... Parameters, typename... Arguments>
std::vector<Out> run_kernel(const char* what, void (*kernel)(Parameters...), uint32_t blocks,
                            uint32_t threads, const DeviceArray<Out>& out,
                            Arguments&&... arguments) {
  must(sparse_experts::cuda::launch(kernel, dim3(blocks), dim3(threads), 0, nullptr,
                                    std::forward<Arguments>(arguments)...),
       what);
  return out.download();
}

inline uint32_t blocks_for(size_t count) { return static_cast<uint32_t>((count + 127) / 128); }

// NaN results have one form here: which NaN an operation makes is the machine's own business.
inline void one_nan(std::vector<uint32_t>& words) {
  for (uint32_t& word : words) {
    if ((word & 0x7fffffffu) > 0x7f800000u) word = 0x7fc00000u;
  }
}

inline void append(std::vector<uint32_t>& words, uint64_t value) {
  words.push_back(static_cast<uint32_t>(value));
  words.push_back(static_cast<uint32_t>(value >> 32));
}

}  // namespace conformance
