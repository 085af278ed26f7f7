// What both forms of dispatch share: which expert a slot goes to, and the tables over experts.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/ops/dispatch.h"

namespace sparse_experts::cuda {

// The slot's expert, or -1 where it is in no list for its own sake: an id that leads nowhere, a flagged
// row.
__device__ __forceinline__ int32_t listed_id(const DispatchKernelArgs& args, uint32_t slot) {
  const int32_t id = args.topk_ids[slot];
  bool listed = id >= 0 && id < args.num_experts;
  if (args.non_finite != nullptr)
    listed = listed && args.non_finite[slot / static_cast<uint32_t>(args.top_k)] == 0;
  return listed ? id : -1;
}

// The slot's expert, or -1 where it is in no list.
__device__ __forceinline__ int32_t expert_of_slot(const DispatchKernelArgs& args, uint32_t slot) {
  const int32_t id = args.topk_ids[slot];
  bool listed = id >= 0 && id < args.num_experts;
  if (listed && args.present != nullptr) listed = args.present[id] != nullptr;
  if (listed && args.non_finite != nullptr)
    listed = args.non_finite[slot / static_cast<uint32_t>(args.top_k)] == 0;
  return listed ? id : -1;
}

// Where the lanes of a warp whose slots go to the same expert stand among each other. All 32 lanes.
struct SameExpert {
  unsigned lanes;
  int32_t rank;  // lanes below with the same expert
  bool leader;   // the last of them
  int32_t count;
};
__device__ __forceinline__ SameExpert same_lanes(unsigned lanes, int32_t lane) {
  SameExpert same;
  same.lanes = lanes;
  same.rank = __popc(same.lanes & lanes_below(lane));
  same.count = __popc(same.lanes);
  same.leader = same.rank == same.count - 1;
  return same;
}
__device__ __forceinline__ SameExpert same_expert(int32_t expert, int32_t lane) {
  return same_lanes(__match_any_sync(kFullWarp, expert), lane);
}

// Whole block. Prefix sums of `totals` [count] into `base` [count] and, where this block writes
// them, into expert_offsets and as tile records, of the experts from `first_expert` on. The sums so far travel in
// `carry`. `totals` may be `base`. `partials` holds 33 values.
struct ScanCarry {
  int32_t slots = 0;
  int32_t tiles[kMaxTileKinds] = {};
};
__device__ __forceinline__ void scan_experts(const DispatchKernelArgs& args, const int32_t* totals,
                                             int32_t* base, int64_t first_expert, int32_t count,
                                             bool write_tables, int32_t* partials,
                                             ScanCarry& carry) {
  const int32_t num_threads = static_cast<int32_t>(blockDim.x);
  for (int32_t begin = 0; begin < count; begin += num_threads) {
    const int32_t e = begin + static_cast<int32_t>(threadIdx.x);
    const int32_t total = e < count ? totals[e] : 0;
    int32_t sum = 0;
    const int32_t offset = carry.slots + block_exclusive_scan(total, partials, &sum);
    carry.slots += sum;
    if (e < count) {
      base[e] = offset;
      if (write_tables) args.expert_offsets[first_expert + e] = offset;
    }
    if (!write_tables) continue;
#pragma unroll
    for (int kind = 0; kind < kMaxTileKinds; ++kind) {
      const int32_t tile = args.tile_tokens[kind];
      if (tile <= 0) continue;
      const int32_t tiles = total / tile + (total % tile != 0 ? 1 : 0);
      const int32_t before = carry.tiles[kind] + block_exclusive_scan(tiles, partials, &sum);
      carry.tiles[kind] += sum;
      // No expert has more entries than there are tokens: a handful of tiles.
      const int4 record = make_int4(static_cast<int32_t>(first_expert) + e, before, offset, total);
      int4* to = reinterpret_cast<int4*>(args.tiles[kind]) + before;
#pragma unroll 1
      for (int32_t left = tiles; left > 0; --left) *to++ = record;
    }
  }
}

// The entries behind the last expert. One thread.
__device__ __forceinline__ void end_tables(const DispatchKernelArgs& args, const ScanCarry& carry) {
  args.expert_offsets[args.num_experts] = carry.slots;
#pragma unroll
  for (int kind = 0; kind < kMaxTileKinds; ++kind) {
    if (args.tile_tokens[kind] > 0) args.num_tiles[kind] = carry.tiles[kind];
  }
}

}  // namespace sparse_experts::cuda
