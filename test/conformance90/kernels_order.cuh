// Kernels around what orders the parts of the warp-group matmul: the ring of stages, proxies, registers by
// role, and kernels that start early.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "conformance90/kernels.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_ring.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"

namespace conformance90 {

using sparse_experts::cuda::await_launches;

// As narrow as the kernels have them, with few stages: its ring turns often.
struct ShortRing : sparse_experts::cuda::WgTile<64> {
  static constexpr int kStages = 4;
};
constexpr uint32_t kWeightChunks = ShortRing::kWeightBytes / 16;
constexpr uint32_t kTokenChunks = ShortRing::kTokens * kChunks;
constexpr uint32_t kBlocksOfRows = 3;  // of weights and of tokens, taken in turn

__device__ __forceinline__ uint32_t add_chunk(uint32_t sum, const uint4& chunk) {
  return (((sum * 31 + chunk.x) * 31 + chunk.y) * 31 + chunk.z) * 31 + chunk.w;
}

// The ring with a bulk copy and 128 threads' cp.async for each stage. Every consumer leaves a sum of what it
// read, which depends on the order.
__global__ void __launch_bounds__(ShortRing::kBlockThreads, 1)
    ring_kernel(const void* map, const uint4* tokens, uint32_t rounds, uint32_t* sums) {
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(uint64_t, barriers, 2 * ShortRing::kStages);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment;
  sparse_experts::cuda::WgRing<ShortRing> ring(start + padding, ptx::smem_u32(barriers));
  const uint32_t thread = threadIdx.x;
  if (thread == 0) ring.init();
  __syncthreads();
  if (thread >= ShortRing::kConsumers) {
    const uint32_t own = thread - ShortRing::kConsumers;
    if (own == 0) ptx::acquire_tensor_map(map);
    for (uint32_t round = 0; round < rounds; ++round) {
      const uint32_t block = round % kBlocksOfRows;
      ptx::mbarrier_wait(ring.empty(), ring.parity ^ 1);
      if (own == 0) {
        ptx::mbarrier_arrive_expect_tx(ring.full(), ShortRing::kWeightBytes);
        ptx::tma_load_2d(ring.weights(), map, ring.full(), 0,
                         static_cast<int32_t>(block * ShortRing::kRows));
      }
      for (uint32_t chunk = own; chunk < kTokenChunks; chunk += ShortRing::kProducers)
        ptx::cp_async_16(ring.tokens() + chunk * 16, tokens + block * kTokenChunks + chunk);
      ptx::cp_async_mbarrier_arrive_noinc(ring.full());
      ring.advance();
    }
    for (int i = 0; i < ShortRing::kStages; ++i) {
      ptx::mbarrier_wait(ring.empty(), ring.parity ^ 1);
      ring.advance();
    }
    return;
  }
  uint32_t sum = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    ptx::mbarrier_wait(ring.full(), ring.parity);
    const auto* stage = reinterpret_cast<const uint4*>(shared + (ring.weights() - start));
    for (uint32_t chunk = thread; chunk < kWeightChunks + kTokenChunks;
         chunk += ShortRing::kConsumers)
      sum = add_chunk(sum, stage[chunk]);
    // What was read here is overwritten by a bulk copy.
    ptx::fence_proxy_async();
    ptx::named_barrier_sync(1 + thread / 128, 128);
    if (thread % 128 == 0) ptx::mbarrier_arrive(ring.empty());
    ring.advance();
  }
  sums[thread] = sum;
}

// cp.async writes B, wgmma multiplies it by the identity: whether it saw what was written. B comes from two
// sources in turn, so that an older one shows. Adds up wrong elements.
template <bool kFenced>
__global__ void __launch_bounds__(128)
    proxy_kernel(const uint4* identity, const uint4* sources, uint32_t tries, uint32_t* wrong) {
  SE_DYNAMIC_SHARED(shared);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment;
  store_swizzled(shared + padding, identity, kRows);
  ptx::fence_proxy_async();
  __syncthreads();
  const uint32_t tokens = start + padding + kRows * kRowBytes;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  uint32_t count = 0;
  for (uint32_t i = 0; i < tries; ++i) {
    const uint4* source = sources + i % 2 * (kRows * kChunks);
    for (uint32_t at = threadIdx.x; at < kRows * kChunks; at += 128) {
      const uint32_t row = at / kChunks;
      const uint32_t chunk = at % kChunks ^ row % 8;
      ptx::cp_async_16(tokens + row * kRowBytes + chunk * 16, source + at);
    }
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    if constexpr (kFenced) ptx::fence_proxy_async();
    __syncthreads();
    const uint64_t left = operand_of(start + padding);
    const uint64_t right = operand_of(tokens);
    float sums[kRows / 2];
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step)
      ptx::wgmma_m64k16_bf16<kRows>(sums, left + 2 * step, right + 2 * step, step > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    const auto* halves = reinterpret_cast<const uint16_t*>(source);
#pragma unroll
    for (int j = 0; j < kRows / 2; ++j) {
      const int row = warp * 16 + lane / 4 + j / 2 % 2 * 8;
      const int column = j / 4 * 8 + lane % 4 * 2 + j % 2;
      const uint32_t expected = static_cast<uint32_t>(halves[column * kDepth + row]) << 16;
      if (__float_as_uint(sums[j]) != expected) ++count;
    }
    __syncthreads();
  }
  if (count > 0) atomicAdd(wrong, count);
}

// Two groups take registers that the third gives away.
template <int kConsumerRegisters, int kProducerRegisters>
__global__ void __launch_bounds__(384, 1) registers_kernel(uint32_t* out) {
  if (threadIdx.x >= 256) {
    ptx::set_max_registers_dec<kProducerRegisters>();
    out[threadIdx.x] = kProducerRegisters;
    return;
  }
  ptx::set_max_registers_inc<kConsumerRegisters>();
  out[threadIdx.x] = kConsumerRegisters;
}

// A chain: each kernel makes its array out of that of the one before.
constexpr uint32_t kChainThreads = 128;

__device__ __forceinline__ uint32_t chain_step(uint32_t value, uint32_t step) {
  return value * 5 + step;
}

__global__ void __launch_bounds__(kChainThreads) count_kernel(uint32_t* counts) {
  await_launches();
  counts[blockIdx.x * kChainThreads + threadIdx.x] += 1;
}

// Not early: reads only after its wait. Early: the mistake that the wait is there for.
template <bool kEarly>
__global__ void __launch_bounds__(kChainThreads)
    chain_kernel(const uint32_t* from, uint32_t* to, uint32_t step) {
  const uint32_t at = blockIdx.x * kChainThreads + threadIdx.x;
  if constexpr (kEarly) {
    const uint32_t value = *static_cast<const volatile uint32_t*>(from + at);
    await_launches();
    to[at] = chain_step(value, step);
  } else {
    await_launches();
    to[at] = chain_step(from[at], step);
  }
}

__global__ void __launch_bounds__(kChainThreads)
    compare_kernel(const uint32_t* counts, const uint32_t* last, uint32_t steps, uint32_t* wrong) {
  await_launches();
  const uint32_t at = blockIdx.x * kChainThreads + threadIdx.x;
  uint32_t expected = counts[at];
  for (uint32_t step = 0; step < steps; ++step) expected = chain_step(expected, step);
  if (last[at] != expected) atomicAdd(wrong, 1u);
}

}  // namespace conformance90
