// Dispatch of a few thousand slots: one block, one launch.
//   1. each warp reads the ids and flags of its chunk, all rounds of 32 at once, while the block reads
//      which experts are here: one trip to memory for all of it
//   2. it counts its slots per expert, and remembers which lanes go to the same one
//   3. per expert, the warps' counts become what earlier warps hold, and a total
//   4. the totals' prefix sums are the offsets and the tile tables
//   5. each warp places its slots: offset + what earlier warps hold + what it has placed itself
// The counters are 16 bits wide, so a warp's chunk holds fewer than 65536 slots.
#pragma once

#include "cuda/kernels/any/dispatch.cuh"

namespace sparse_experts::cuda {

// kRounds: of 32 slots that a warp's chunk has at most.
// Shared memory: int32 base[num_experts], uint16 counts[num_warps][num_experts], uint8 absent[num_experts].
// num_warps: warps with a chunk; the block may have more, for the scans.
template <int kRounds>
__global__ void __launch_bounds__(1024, 1)
    dispatch_small_kernel(DispatchKernelArgs args, int32_t num_warps, int32_t chunk_slots) {
  await_launches();
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(int32_t, partials, 33);
  const int32_t num_experts = static_cast<int32_t>(args.num_experts);
  const int32_t num_slots = static_cast<int32_t>(args.num_slots);
  int32_t* const base = reinterpret_cast<int32_t*>(shared);
  uint16_t* const counts = reinterpret_cast<uint16_t*>(base + num_experts);
  uint8_t* const absent = reinterpret_cast<uint8_t*>(counts + num_warps * num_experts);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t num_threads = static_cast<int32_t>(blockDim.x);
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  uint16_t* const mine = counts + warp * num_experts;
  const int32_t begin = warp * chunk_slots + lane;
  const int32_t end = warp < num_warps ? min(num_slots, (warp + 1) * chunk_slots) : 0;

  int32_t experts[kRounds];  // below 0: in no list
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int32_t slot = begin + 32 * round;
    experts[round] = slot < end ? listed_id(args, static_cast<uint32_t>(slot)) : -1;
  }
  for (int32_t i = thread; i < num_warps * num_experts; i += num_threads) counts[i] = 0;
  for (int32_t e = thread; e < num_experts; e += num_threads)
    absent[e] = args.present != nullptr && args.present[e] == nullptr ? 1 : 0;
  __syncthreads();

  unsigned lanes[kRounds];  // with the same expert
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int32_t expert = experts[round];
    if (expert >= 0 && absent[expert] != 0) experts[round] = -1;
    // Rounds behind the chunk's end are empty for the whole warp.
    lanes[round] = 0;
    if (begin - lane + 32 * round >= end) continue;
    const SameExpert same = same_expert(experts[round], lane);
    lanes[round] = same.lanes;
    if (experts[round] >= 0 && same.leader) {
      mine[expert] = static_cast<uint16_t>(mine[expert] + same.count);
    }
    __syncwarp();
  }
  __syncthreads();

  for (int32_t e = thread; e < num_experts; e += num_threads) {
    int32_t before = 0;
#pragma unroll 8
    for (int32_t w = 0; w < num_warps; ++w) {
      const int32_t count = counts[w * num_experts + e];
      counts[w * num_experts + e] = static_cast<uint16_t>(before);
      before += count;
    }
    base[e] = before;
  }
  __syncthreads();

  ScanCarry carry;
  scan_experts(args, base, base, 0, num_experts, true, partials, carry);
  if (thread == 0) end_tables(args, carry);
  __syncthreads();

#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    if (begin - lane + 32 * round >= end) continue;
    const int32_t expert = experts[round];
    const SameExpert same = same_lanes(lanes[round], lane);
    int32_t placed = 0;
    if (expert >= 0) {
      placed = mine[expert];
      args.sorted_slots[base[expert] + placed + same.rank] = begin + 32 * round;
    }
    __syncwarp();
    if (expert >= 0 && same.leader) mine[expert] = static_cast<uint16_t>(placed + same.count);
    __syncwarp();
  }
  for (int32_t i = carry.slots + thread; i < num_slots; i += num_threads) args.sorted_slots[i] = -1;
}

}  // namespace sparse_experts::cuda
