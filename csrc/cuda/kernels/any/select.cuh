// Selection: ids and weights of one token per team of warps.
//   1. the team loads the token's logits (splits added, softcap) into shared memory
//   2. each element becomes a score, then a key in the order of what experts are ranked by
//   3. warp 0 masks groups and picks: each lane holds the best of its experts, a round costs three
//      warp reductions, and only the winner's lane looks through its experts again
//   4. warp 0 cuts to what the call keeps, normalises, scales and stores
// A team is one warp, or eight where tokens are few and latency is what counts. Both do the same
// operations in the same order, sums included (always over lanes 0 … 31 in steps of 32), so the
// bits do not depend on the team. A100 at one token of 256 experts: about 3 us with the launch. At
// 4096 tokens: 1 M exponentials in f64, about 13 us of arithmetic, 20 us in all.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/router_splits.cuh"
#include "cuda/kernels/any/select_rules.cuh"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {

// One token's place in shared memory.
struct SelectShared {
  uint64_t* keys;        // [num_experts] logits, scores, then keys; later keys of slots
  uint64_t* group_keys;  // [num_groups], only with groups
  double* kept;          // [top_k] scores of the slots, later weights
  double* shares;        // [top_k] what top_p adds up
  int32_t* ids;          // [top_k]
};

struct SelectTeams {
  int32_t tokens_per_block;
  int64_t shared_bytes;  // per token
};

__host__ __device__ inline int64_t select_shared_bytes(const SeRouting& routing) {
  const int64_t groups = routing.num_expert_groups > 1 ? routing.num_expert_groups : 0;
  const int64_t bytes = 8 * (routing.num_experts + groups) + 20 * routing.top_k;
  return (bytes + 15) / 16 * 16;
}

__device__ __forceinline__ SelectShared select_shared(unsigned char* bytes,
                                                      const SeRouting& routing) {
  SelectShared shared;
  shared.keys = reinterpret_cast<uint64_t*>(bytes);
  shared.group_keys = shared.keys + routing.num_experts;
  shared.kept = reinterpret_cast<double*>(
      shared.group_keys + (routing.num_expert_groups > 1 ? routing.num_expert_groups : 0));
  shared.shares = shared.kept + routing.top_k;
  shared.ids = reinterpret_cast<int32_t*>(shared.shares + routing.top_k);
  return shared;
}

__device__ __forceinline__ uint64_t to_bits(double value) {
  return static_cast<uint64_t>(__double_as_longlong(value));
}
__device__ __forceinline__ double from_bits(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

template <int kWarps>
__device__ __forceinline__ void team_sync() {
  if constexpr (kWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

// Logits of the token, soft-capped, as doubles in `keys`; whether all are finite.
template <int kWarps>
__device__ __forceinline__ bool load_row(const SelectKernelArgs& args, int64_t token, int32_t rank,
                                         uint64_t* keys) {
  constexpr int kBatch = 4;
  constexpr int32_t kThreads = 32 * kWarps;
  const int32_t num_experts = static_cast<int32_t>(args.routing.num_experts);
  const int64_t size = args.num_tokens * num_experts;
  bool finite = true;
  for (int32_t first = rank; first < num_experts; first += kBatch * kThreads) {
    int64_t element[kBatch];
    int64_t expert[kBatch];
    bool exists[kBatch];
    float logits[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      expert[i] = first + i * kThreads;
      exists[i] = expert[i] < num_experts;
      element[i] = token * num_experts + expert[i];
    }
    load_logits(args.logits, size, element, expert, exists, logits);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (!exists[i]) continue;
      finite = finite && is_finite(logits[i]);
      keys[expert[i]] =
          to_bits(softcapped(static_cast<double>(logits[i]), args.routing.logit_softcap));
    }
  }
  if constexpr (kWarps == 1) {
    finite = __all_sync(kFullWarp, finite ? 1 : 0) != 0;
    __syncwarp();
  } else {
    finite = __syncthreads_and(finite ? 1 : 0) != 0;
  }
  return finite;
}

// The row's largest value and sum of exponentials; `keys` then holds the exponentials. Every warp
// takes the whole row for itself, in the same order.
template <int kWarps>
__device__ __forceinline__ SoftmaxRow softmax_row(int32_t num_experts, int32_t rank,
                                                  uint64_t* keys) {
  const int32_t lane = lane_index();
  SoftmaxRow row;
  Candidate best = no_candidate();
#pragma unroll 4
  for (int32_t e = lane; e < num_experts; e += 32) {
    const uint64_t key = order_key(from_bits(keys[e]));
    if (key > best.key) best = {key, static_cast<uint32_t>(e)};
  }
  row.largest = key_value(warp_best(best).key);
  team_sync<kWarps>();
  for (int32_t e = rank; e < num_experts; e += 32 * kWarps)
    keys[e] = to_bits(exp(from_bits(keys[e]) - row.largest));
  team_sync<kWarps>();
  double sum = 0;
#pragma unroll 4
  for (int32_t e = lane; e < num_experts; e += 32) sum += from_bits(keys[e]);
  row.sum = warp_sum(sum);
  team_sync<kWarps>();
  return row;
}

// From logits (softmax: exponentials) to what experts are ranked by.
template <int kWarps>
__device__ __forceinline__ void rank_keys(const SeRouting& routing, const SoftmaxRow& softmax,
                                          int32_t rank, uint64_t* keys) {
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  for (int32_t e = rank; e < num_experts; e += 32 * kWarps) {
    const double value = from_bits(keys[e]);
    double score = routing.scoring == SE_SOFTMAX ? value / softmax.sum
                                                 : score_of(routing.scoring, value, softmax);
    if (routing.selection_bias != nullptr) score += static_cast<double>(routing.selection_bias[e]);
    keys[e] = order_key(score);
  }
  team_sync<kWarps>();
}

// One warp. Leaves -inf, or 0, in all groups but the topk_group best.
__device__ __forceinline__ void mask_groups(const SeRouting& routing, int32_t lane,
                                            const SelectShared& shared) {
  const int32_t num_groups = static_cast<int32_t>(routing.num_expert_groups);
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  const int32_t size = num_experts / num_groups;
  for (int32_t g = lane; g < num_groups; g += 32) {
    uint64_t first = kNoKey;
    uint64_t second = kNoKey;
    // Each lane begins elsewhere in its group, or all would meet in one bank.
    int32_t at = lane % size;
    for (int32_t i = 0; i < size; ++i) {
      const uint64_t key = shared.keys[g * size + at];
      at = at + 1 == size ? 0 : at + 1;
      if (key > first) {
        second = first;
        first = key;
      } else if (key > second) {
        second = key;
      }
    }
    const bool top2 = routing.group_score != SE_GROUP_MAX && size > 1;
    shared.group_keys[g] = top2 ? order_key(key_value(first) + key_value(second)) : first;
  }
  __syncwarp();
  Candidate mine = best_of_keys(shared.group_keys, lane, 32, num_groups);
  for (int64_t rank = 0; rank < routing.topk_group; ++rank)
    take_best(shared.group_keys, num_groups, lane, mine);
  __syncwarp();
  const uint64_t masked =
      routing.group_score == SE_GROUP_TOP2_SUM_ZEROED ? order_key(0.0) : kLowestKey;
  // A group that was taken has no key any more.
  for (int32_t e = lane; e < num_experts; e += 32) {
    if (shared.group_keys[e / size] != kNoKey) shared.keys[e] = masked;
  }
  __syncwarp();
}

// One warp. Phi-3.5-MoE: the best expert's softmax over the experts within a relative distance of
// it, then again without it.
__device__ __forceinline__ void pick_sparsemixer(const SeRouting& routing, int32_t lane,
                                                 const SelectShared& shared) {
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  Candidate mine = best_of_keys(shared.keys, lane, 32, num_experts);
  for (int32_t round = 0; round < 2; ++round) {
    const Candidate best = take_best(shared.keys, num_experts, lane, mine);
    const double largest = key_value(best.key);
    double sum = 0;
    for (int32_t e = lane; e < num_experts; e += 32) {
      const uint64_t key = shared.keys[e];
      double z = key_value(key);
      if (static_cast<uint32_t>(e) == best.index) {
        z = largest;
      } else if (key == kNoKey) {
        continue;
      }
      const double factor = max(fabs(z), largest);
      // The negation keeps an expert whose distance is 0 / 0: both logits are 0.
      if (!((largest - z) / factor > 2 * routing.sparsemixer_epsilon)) sum += exp(z - largest);
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      shared.ids[round] = static_cast<int32_t>(best.index);
      shared.kept[round] = 1.0 / sum;
    }
  }
  __syncwarp();
}

// The scores (topk_…: logits) of shared.ids, from the router logits once more.
__device__ __forceinline__ void score_ids(const SelectKernelArgs& args, int64_t token, int32_t lane,
                                          const SoftmaxRow& softmax, const SelectShared& shared) {
  const SeRouting& routing = args.routing;
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  const int64_t size = args.num_tokens * routing.num_experts;
  for (int32_t k = lane; k < top_k; k += 32) {
    const int32_t id = shared.ids[k];
    double score = 0;
    if (id >= 0) {
      const float logit = load_logit(args.logits, size, token * routing.num_experts + id, id);
      const double z = softcapped(static_cast<double>(logit), routing.logit_softcap);
      score = score_of(routing.scoring, z, softmax);
    }
    shared.kept[k] = score;
  }
  __syncwarp();
}

// One warp. Ids from the table; an id that leads nowhere is a dropped slot.
__device__ __forceinline__ void pick_hashed(const SelectKernelArgs& args, int64_t token,
                                            int32_t lane, const SelectShared& shared) {
  const SeRouting& routing = args.routing;
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  const int64_t entry = args.token_ids[token];
  const bool known = entry >= 0 && entry < routing.vocab_size;
  for (int32_t k = lane; k < top_k; k += 32) {
    const int32_t id = known ? routing.hash_table[entry * top_k + k] : -1;
    shared.ids[k] = id >= 0 && id < routing.num_experts ? id : -1;
  }
  __syncwarp();
}

// One warp. Ids in order of rank, with what they rank by: their scores where no bias or group moved it.
__device__ __forceinline__ void pick_ranked(const SeRouting& routing, int32_t lane,
                                            const SelectShared& shared) {
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  Candidate mine = best_of_keys(shared.keys, lane, 32, num_experts);
  for (int32_t k = 0; k < top_k; ++k) {
    const Candidate best = take_best(shared.keys, num_experts, lane, mine);
    if (lane == 0) {
      shared.ids[k] = static_cast<int32_t>(best.index);
      shared.kept[k] = key_value(best.key);
    }
  }
  __syncwarp();
}

// One warp. out[k] = softmax of `logits` over the slots whose id is kept; both may be one array.
__device__ __forceinline__ void softmax_kept(int32_t top_k, int32_t lane, const int32_t* ids,
                                             const double* logits, double* out) {
  double largest = -infinity();
  for (int32_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0) largest = max(largest, logits[k]);
  }
  __syncwarp();
  for (int32_t k = lane; k < top_k; k += 32) {
    if (ids[k] >= 0) out[k] = exp(logits[k] - largest);
  }
  __syncwarp();
  double sum = 0;
  for (int32_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0) sum += out[k];
  }
  __syncwarp();
  for (int32_t k = lane; k < top_k; k += 32) {
    if (ids[k] >= 0) out[k] /= sum;
  }
  __syncwarp();
}

// One warp. Keeps, by falling share (ties: the earlier slot), the fewest of the first num_kept
// slots whose part of the sum reaches top_p; at least one. `keys` has room for num_kept.
__device__ __forceinline__ void drop_by_top_p(double top_p, int32_t num_kept, int32_t lane,
                                              const double* shares, uint64_t* keys, int32_t* ids) {
  double sum = 0;
  for (int32_t k = 0; k < num_kept; ++k) sum += shares[k];
  for (int32_t k = lane; k < num_kept; k += 32) keys[k] = order_key(shares[k]);
  __syncwarp();
  Candidate mine = best_of_keys(keys, lane, 32, num_kept);
  double reached = 0;
  for (int32_t rank = 0; rank < num_kept; ++rank) {
    if (rank > 0 && reached >= top_p * sum) break;
    reached += key_value(take_best(keys, num_kept, lane, mine).key);
  }
  __syncwarp();
  for (int32_t k = lane; k < num_kept; k += 32) {
    if (keys[k] != kNoKey) ids[k] = -1;
  }
  __syncwarp();
}

// One warp. What the call keeps of the ranking; leaves the weights before normalisation in kept.
__device__ __forceinline__ void cut_slots(const SelectKernelArgs& args, int64_t token, int32_t lane,
                                          const SelectShared& shared) {
  const SeRouting& routing = args.routing;
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  const int32_t num_kept = slots_kept(args, token);
  for (int32_t k = lane; k < top_k; k += 32) {
    if (k >= num_kept) shared.ids[k] = -1;
    if (routing.scoring == SE_TOPK_SIGMOID) shared.kept[k] = sigmoid(shared.kept[k]);
  }
  __syncwarp();
  const bool over_kept = routing.scoring == SE_TOPK_SOFTMAX;
  const double top_p = args.row_top_p != nullptr ? args.row_top_p[token] : args.top_p;
  if (top_p < 1 && num_kept > 0) {
    const double* shares = shared.kept;
    if (over_kept) {
      softmax_kept(top_k, lane, shared.ids, shared.kept, shared.shares);
      shares = shared.shares;
    }
    drop_by_top_p(top_p, num_kept, lane, shares, shared.keys, shared.ids);
  }
  if (over_kept) softmax_kept(top_k, lane, shared.ids, shared.kept, shared.kept);
}

template <int kWarps>
__global__ void __launch_bounds__(kWarps == 1 ? 128 : 32 * kWarps, kWarps == 1 ? 8 : 3)
    select_kernel(SelectKernelArgs args, SelectTeams teams) {
  await_launches();
  SE_DYNAMIC_SHARED(dynamic);
  const SeRouting& routing = args.routing;
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int32_t team = kWarps == 1 ? warp : 0;
  const int32_t rank = kWarps == 1 ? lane : static_cast<int32_t>(threadIdx.x);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * teams.tokens_per_block + team;
  if (token >= args.num_tokens) return;  // whole teams; the others share no barrier with this one
  const SelectShared shared = select_shared(dynamic + team * teams.shared_bytes, routing);

  if (!load_row<kWarps>(args, token, rank, shared.keys)) {
    store_flagged(args, token, rank, 32 * kWarps);
    return;
  }
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  SoftmaxRow softmax = {0, 1};
  if (routing.scoring == SE_SOFTMAX) softmax = softmax_row<kWarps>(num_experts, rank, shared.keys);
  if (!routing.hash_routed) rank_keys<kWarps>(routing, softmax, rank, shared.keys);
  if (kWarps > 1 && warp != 0) return;  // no barrier of the block follows

  if (routing.scoring == SE_SPARSEMIXER) {
    pick_sparsemixer(routing, lane, shared);
  } else if (routing.hash_routed) {
    pick_hashed(args, token, lane, shared);
    score_ids(args, token, lane, softmax, shared);
  } else {
    if (routing.num_expert_groups > 1) mask_groups(routing, lane, shared);
    pick_ranked(routing, lane, shared);
    // Where nothing moved the ranking, it has the scores.
    if (routing.selection_bias != nullptr || routing.group_score == SE_GROUP_TOP2_SUM_ZEROED)
      score_ids(args, token, lane, softmax, shared);
  }
  cut_slots(args, token, lane, shared);

  const bool waits = routing.capacity == SE_CAPACITY_BATCH;
  const double divisor =
      waits ? 1.0 : normalization_divisor(routing, top_k, shared.ids, shared.kept);
  for (int32_t k = lane; k < top_k; k += 32) {
    const int64_t slot = token * top_k + k;
    args.topk_ids[slot] = shared.ids[k];
    if (waits) {
      args.slot_scores[slot] = shared.kept[k];
    } else {
      args.topk_weights[slot] = finished_weight(routing, shared.ids[k], shared.kept[k], divisor);
    }
  }
  if (lane != 0) return;
  args.non_finite[token] = 0;
  // Capacity goes with softmax: the largest probability is that of the largest logit.
  if (waits) args.best_scores[token] = 1.0 / softmax.sum;
}

}  // namespace sparse_experts::cuda
