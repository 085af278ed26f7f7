// Dispatch of any number of slots, in three launches. Slots are cut into chunks, one warp each.
//   1. count:  each warp's histogram of its chunk, counts[chunk][expert]
//   2. column: per expert, prefix sums over the chunks in place, and the expert's total
//   3. place:  each block scans the totals (block 0 writes the tables), each warp places its slots
//      in order: offset + what earlier chunks hold + what it has placed itself
// Experts whose counters do not fit in shared memory are taken in ranges; the chunk is then read
// once for each.
// A100, 32768 slots of 256 experts: 256 chunks; 0.13 MB of ids read twice, 0.26 MB of counts
// written, read and written, read, 0.13 MB of slots written, all in L2: about 3 us per launch, most
// of it latency.
#pragma once

#include "cuda/kernels/any/dispatch.cuh"

namespace sparse_experts::cuda {

struct DispatchChunks {
  int32_t* counts;  // [num_chunks, num_experts]
  int32_t* totals;  // [num_experts]
  int64_t chunk_slots;
  int32_t num_chunks;
  int32_t range_experts;     // experts whose counters are in shared memory at a time
  int32_t chunks_per_block;  // warps with a chunk; the block may have more, for the scans
};

constexpr int kDispatchThreads = 256;
constexpr int kColumnExperts = 32;
constexpr int kColumnSegments = 32;

// Shared memory: int32 histogram[chunks_per_block][range_experts].
__global__ void __launch_bounds__(kDispatchThreads, 4)
    dispatch_count_kernel(DispatchKernelArgs args, DispatchChunks chunks) {
  await_launches();
  SE_DYNAMIC_SHARED(shared);
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * chunks.chunks_per_block + warp;
  if (warp >= chunks.chunks_per_block || chunk >= chunks.num_chunks) return;  // no barriers below
  int32_t* const histogram =
      reinterpret_cast<int32_t*>(shared) + static_cast<int64_t>(warp) * chunks.range_experts;
  const int64_t begin = chunk * chunks.chunk_slots;
  const int64_t end = min(args.num_slots, begin + chunks.chunk_slots);
  for (int64_t first = 0; first < args.num_experts; first += chunks.range_experts) {
    const int32_t count = static_cast<int32_t>(
        min(static_cast<int64_t>(chunks.range_experts), args.num_experts - first));
    for (int32_t e = lane; e < count; e += 32) histogram[e] = 0;
    __syncwarp();
#pragma unroll 4
    for (int64_t slot = begin + lane; slot < end; slot += 32) {
      const int64_t at = expert_of_slot(args, static_cast<uint32_t>(slot)) - first;
      if (at >= 0 && at < count) atomicAdd(histogram + at, 1);
    }
    __syncwarp();
    int32_t* const row = chunks.counts + chunk * args.num_experts + first;
    for (int32_t e = lane; e < count; e += 32) row[e] = histogram[e];
    __syncwarp();
  }
}

// 32 experts per block: lane = expert, so that rows of counts are read whole; warp = segment of the
// chunks.
__global__ void __launch_bounds__(kColumnExperts* kColumnSegments)
    dispatch_column_kernel(DispatchKernelArgs args, DispatchChunks chunks) {
  await_launches();
  SE_SHARED(int32_t, sums, kColumnSegments* kColumnExperts);
  const int32_t lane = lane_index();
  const int32_t segment = warp_index();
  const int64_t expert = static_cast<int64_t>(blockIdx.x) * kColumnExperts + lane;
  const bool exists = expert < args.num_experts;
  const int32_t per_segment = (chunks.num_chunks + kColumnSegments - 1) / kColumnSegments;
  const int32_t begin = min(chunks.num_chunks, segment * per_segment);
  const int32_t end = min(chunks.num_chunks, begin + per_segment);
  int32_t sum = 0;
  if (exists) {
#pragma unroll 8
    for (int32_t chunk = begin; chunk < end; ++chunk)
      sum += chunks.counts[chunk * args.num_experts + expert];
  }
  sums[segment * kColumnExperts + lane] = sum;
  __syncthreads();
  int32_t before = 0;
  int32_t total = 0;
  for (int32_t s = 0; s < kColumnSegments; ++s) {
    const int32_t other = sums[s * kColumnExperts + lane];
    if (s < segment) before += other;
    total += other;
  }
  if (!exists) return;
#pragma unroll 8
  for (int32_t chunk = begin; chunk < end; ++chunk) {
    int32_t* const entry = chunks.counts + chunk * args.num_experts + expert;
    const int32_t count = *entry;
    *entry = before;
    before += count;
  }
  if (segment == 0) chunks.totals[expert] = total;
}

// Shared memory: int32 base[range_experts], then int32 next[chunks_per_block][range_experts].
__global__ void __launch_bounds__(kDispatchThreads, 4)
    dispatch_place_kernel(DispatchKernelArgs args, DispatchChunks chunks) {
  await_launches();
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(int32_t, partials, 33);
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * chunks.chunks_per_block + warp;
  const bool places = warp < chunks.chunks_per_block && chunk < chunks.num_chunks;
  const int64_t begin = places ? chunk * chunks.chunk_slots : 0;
  const int64_t end = places ? min(args.num_slots, begin + chunks.chunk_slots) : 0;
  int32_t* const base = reinterpret_cast<int32_t*>(shared);
  int32_t* const next = base + static_cast<int64_t>(warp + 1) * chunks.range_experts;
  ScanCarry carry;
  for (int64_t first = 0; first < args.num_experts; first += chunks.range_experts) {
    const int32_t count = static_cast<int32_t>(
        min(static_cast<int64_t>(chunks.range_experts), args.num_experts - first));
    scan_experts(args, chunks.totals + first, base, first, count, blockIdx.x == 0, partials, carry);
    __syncthreads();
    if (places) {
      const int32_t* const row = chunks.counts + chunk * args.num_experts + first;
      for (int32_t e = lane; e < count; e += 32) next[e] = base[e] + row[e];
      __syncwarp();
      for (int64_t at = begin; at < end; at += 32) {
        const int64_t slot = at + lane;
        int32_t expert = -1;
        if (slot < end) {
          const int64_t local = expert_of_slot(args, static_cast<uint32_t>(slot)) - first;
          if (local >= 0 && local < count) expert = static_cast<int32_t>(local);
        }
        const SameExpert same = same_expert(expert, lane);
        int32_t position = 0;
        if (expert >= 0) {
          position = next[expert];
          args.sorted_slots[position + same.rank] = static_cast<int32_t>(slot);
        }
        __syncwarp();
        if (expert >= 0 && same.leader) next[expert] = position + same.count;
        __syncwarp();
      }
    }
    __syncthreads();  // before the next range takes the counters
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) end_tables(args, carry);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = carry.slots + static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < args.num_slots; i += stride)
    args.sorted_slots[i] = -1;
}

}  // namespace sparse_experts::cuda
