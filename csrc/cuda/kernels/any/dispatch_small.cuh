// Dispatch of a few thousand slots: one block, one launch.
//   1. each warp counts the slots of its chunk per expert
//   2. per expert, the warps' counts become what earlier warps hold, and a total
//   3. the totals' prefix sums are the offsets and the tile tables
//   4. each warp places its slots: offset + what earlier warps hold + what it has placed itself
// The counters are 16 bits wide, so a warp's chunk holds fewer than 65536 slots.
// A100, 8 slots, 256 experts: two dependent loads, eight barriers, about 2 us with the launch. 4096
// slots: 4 rounds of 32 lanes per warp and pass, about 4 us.
#pragma once

#include "cuda/kernels/any/dispatch.cuh"

namespace sparse_experts::cuda {

// Shared memory: int32 base[num_experts], then uint16 counts[num_warps][num_experts].
// num_warps: warps with a chunk; the block may have more, for the scans.
__global__ void __launch_bounds__(1024)
    dispatch_small_kernel(DispatchKernelArgs args, int32_t num_warps, int32_t chunk_slots) {
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(int32_t, partials, 33);
  const int32_t num_experts = static_cast<int32_t>(args.num_experts);
  const int32_t num_slots = static_cast<int32_t>(args.num_slots);
  int32_t* const base = reinterpret_cast<int32_t*>(shared);
  uint16_t* const counts = reinterpret_cast<uint16_t*>(base + num_experts);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t num_threads = static_cast<int32_t>(blockDim.x);
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();

  for (int32_t i = thread; i < num_warps * num_experts; i += num_threads) counts[i] = 0;
  __syncthreads();

  uint16_t* const mine = counts + warp * num_experts;
  const int32_t begin = warp * chunk_slots;
  const int32_t end = warp < num_warps ? min(num_slots, begin + chunk_slots) : 0;
  int32_t first_expert = -1;  // of the first round, for the second pass
  for (int32_t at = begin; at < end; at += 32) {
    const int32_t slot = at + lane;
    const int32_t expert = slot < end ? expert_of_slot(args, static_cast<uint32_t>(slot)) : -1;
    if (at == begin) first_expert = expert;
    const SameExpert same = same_expert(expert, lane);
    if (expert >= 0 && same.leader) {
      mine[expert] = static_cast<uint16_t>(mine[expert] + same.count);
    }
    __syncwarp();
  }
  __syncthreads();

  for (int32_t e = thread; e < num_experts; e += num_threads) {
    int32_t before = 0;
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

  for (int32_t at = begin; at < end; at += 32) {
    const int32_t slot = at + lane;
    int32_t expert = first_expert;
    if (at != begin) expert = slot < end ? expert_of_slot(args, static_cast<uint32_t>(slot)) : -1;
    const SameExpert same = same_expert(expert, lane);
    int32_t placed = 0;
    if (expert >= 0) {
      placed = mine[expert];
      args.sorted_slots[base[expert] + placed + same.rank] = slot;
    }
    __syncwarp();
    if (expert >= 0 && same.leader) mine[expert] = static_cast<uint16_t>(placed + same.count);
    __syncwarp();
  }
  for (int32_t i = carry.slots + thread; i < num_slots; i += num_threads) args.sorted_slots[i] = -1;
}

}  // namespace sparse_experts::cuda
