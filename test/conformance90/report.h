// What the cases have in common: one line for each thing asked for, and launches of one block.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cuda/common/launch.cuh"
#include "cuda/device_array.h"

namespace conformance90 {

using sparse_experts::testing::DeviceArray;
using sparse_experts::testing::must;

inline int passed = 0;
inline int failed = 0;

inline void report(bool good, const std::string& what) {
  ++(good ? passed : failed);
  std::printf("%s %s\n", good ? "ok    " : "FAILED", what.c_str());
}

// What a card is asked for its answer and not for a certain one.
inline void note(const std::string& what) { std::printf("noted  %s\n", what.c_str()); }

template <typename... Parameters, typename... Arguments>
void run(void (*kernel)(Parameters...), uint32_t blocks, uint32_t threads, size_t shared_bytes,
         Arguments&&... arguments) {
  must(sparse_experts::cuda::allow_shared_bytes(kernel, shared_bytes), "shared memory");
  must(sparse_experts::cuda::launch(kernel, dim3(blocks), dim3(threads), shared_bytes, nullptr,
                                    std::forward<Arguments>(arguments)...),
       "launch");
  must(cudaDeviceSynchronize(), "kernel");
}

inline DeviceArray<uint4> upload_halves(const std::vector<uint16_t>& values) {
  std::vector<uint4> vectors(values.size() / 8);
  std::memcpy(vectors.data(), values.data(), values.size() * 2);
  return DeviceArray<uint4>(vectors);
}

}  // namespace conformance90
