// Kernels around single instructions of sm_90a, as the warp-group matmul uses them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/ptx90.cuh"

namespace conformance90 {

namespace ptx = sparse_experts::cuda::ptx;

constexpr int kRows = 64;  // of a product
constexpr int kDepth = 64;
constexpr int kRowBytes = kDepth * 2;
constexpr int kChunks = kRowBytes / 16;
constexpr uint32_t kAlignment = 1024;

// Rows of 128 bytes to shared memory, their chunks where the instruction expects them.
__device__ __forceinline__ void store_swizzled(unsigned char* shared, const uint4* rows, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count * kChunks; i += 128) {
    const int row = i / kChunks;
    const int chunk = i % kChunks ^ row % 8;
    *reinterpret_cast<uint4*>(shared + row * kRowBytes + chunk * 16) = rows[i];
  }
}

__device__ __forceinline__ uint64_t operand_of(uint32_t shared) {
  return static_cast<uint64_t>(shared >> 4) | uint64_t{8 * kRowBytes / 16} << 32 | uint64_t{1} << 62;
}

// Dynamic shared memory of a product whose operands begin `shift` KiB further.
constexpr size_t product_bytes(int columns, uint32_t shift) {
  return kAlignment + shift * 1024 + static_cast<size_t>((kRows + columns) * kRowBytes);
}

// [64, 64] times [kColumns, 64]^T by one warp group, and by mma.sync: out [64, kColumns] of each. Both take
// K in steps of 16, into one accumulator.
template <bool kBf16, int kColumns>
__global__ void __launch_bounds__(128)
    product_kernel(const uint4* a, const uint4* b, uint32_t shift, float* on_wgmma, float* on_mma) {
  SE_DYNAMIC_SHARED(shared);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment + shift * 1024;
  store_swizzled(shared + padding, a, kRows);
  store_swizzled(shared + padding + kRows * kRowBytes, b, kColumns);
  ptx::fence_proxy_async();
  __syncthreads();
  const uint64_t left = operand_of(start + padding);
  const uint64_t right = operand_of(start + padding + kRows * kRowBytes);
  float sums[kColumns / 2];
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    if constexpr (kBf16) {
      ptx::wgmma_m64k16_bf16<kColumns>(sums, left + 2 * step, right + 2 * step, step > 0);
    } else {
      ptx::wgmma_m64k16_f16<kColumns>(sums, left + 2 * step, right + 2 * step, step > 0);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8;
    on_wgmma[row * kColumns + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
  }
  const auto* a_words = reinterpret_cast<const uint32_t*>(a);
  const auto* b_words = reinterpret_cast<const uint32_t*>(b);
  for (int n = 0; n < kColumns / 8; ++n) {
    float sum[4] = {};
    for (int step = 0; step < kDepth / 16; ++step) {
      const int row = (warp * 16 + lane / 4) * (kDepth / 2) + step * 8 + lane % 4;
      const int column = (n * 8 + lane / 4) * (kDepth / 2) + step * 8 + lane % 4;
      const uint32_t x[4] = {a_words[row], a_words[row + 8 * kDepth / 2], a_words[row + 4],
                             a_words[row + 8 * kDepth / 2 + 4]};
      const uint32_t y[2] = {b_words[column], b_words[column + 4]};
      if constexpr (kBf16) {
        ptx::mma_m16n8k16_bf16(sum, x, y);
      } else {
        ptx::mma_m16n8k16_f16(sum, x, y);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const int row = warp * 16 + lane / 4 + i / 2 * 8;
      on_mma[row * kColumns + n * 8 + lane % 4 * 2 + i % 2] = sum[i];
    }
  }
}

struct BoxPlace {
  bool gated;         // four dimensions instead of two
  int32_t x, row;     // the first element; gated, the row's group of 8
  uint32_t bytes;     // of the box
};

// A box of the tensor as it lies in shared memory afterwards.
__global__ void __launch_bounds__(128) box_kernel(const void* map, BoxPlace place, bool acquires, uint4* out) {
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(uint64_t, barrier, 1);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment;
  const uint32_t full = ptx::smem_u32(barrier);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(full, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    if (acquires) ptx::acquire_tensor_map(map);
    ptx::mbarrier_arrive_expect_tx(full, place.bytes);
    if (place.gated) {
      ptx::tma_load_4d(start + padding, map, full, place.x, 0, 0, place.row);
    } else {
      ptx::tma_load_2d(start + padding, map, full, place.x, place.row);
    }
  }
  ptx::mbarrier_wait(full, 0);
  for (uint32_t i = threadIdx.x; i < place.bytes / 16; i += 128)
    out[i] = *reinterpret_cast<const uint4*>(shared + padding + i * 16);
}

}  // namespace conformance90
