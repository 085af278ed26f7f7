// Experts that hold a limited number of tokens: Switch Transformers per sequence, NLLB-MoE over the
// batch.
#include "cpu/ops/capacity.h"

#include <algorithm>
#include <cmath>

#include "core/numeric.h"
#include "cpu/device.h"
#include "cpu/ops/select.h"
#include "cpu/ops/slot_weights.h"

namespace sparse_experts::cpu {
namespace {

// A token stays while its rank among the tokens of its sequence that chose the expert is at most
// the capacity.
void drop_per_sequence(const SeRouting& routing, const SeSelectArgs& args, SelectScratch* scratch) {
  const int64_t top_k = routing.top_k;
  scratch->counts.assign(routing.num_experts, 0);
  // The sequence a count belongs to: cheaper than clearing all counts for every sequence.
  scratch->stamps.assign(routing.num_experts, -1);
  int64_t token = 0;
  const int64_t num_sequences = args.sequence_lengths != nullptr ? args.num_sequences : 1;
  for (int64_t sequence = 0; sequence < num_sequences; ++sequence) {
    const int64_t length =
        args.sequence_lengths != nullptr ? args.sequence_lengths[sequence] : args.num_tokens;
    for (const int64_t end = token + length; token < end; ++token) {
      if (args.non_finite[token]) continue;
      for (int64_t slot = token * top_k; slot < (token + 1) * top_k; ++slot) {
        const int32_t expert = args.topk_ids[slot];
        if (expert < 0) continue;
        if (scratch->stamps[expert] != sequence) {
          scratch->stamps[expert] = sequence;
          scratch->counts[expert] = 0;
        }
        if (++scratch->counts[expert] > routing.expert_capacity) {
          args.topk_ids[slot] = -1;
          args.topk_weights[slot] = 0;
        }
      }
    }
  }
}

int64_t batch_capacity(const SeRouting& routing, int64_t num_tokens) {
  if (routing.capacity_token_fraction > 0)
    return static_cast<int64_t>(
        std::ceil(routing.capacity_token_fraction * static_cast<double>(num_tokens)));
  if (routing.expert_capacity > 0) return routing.expert_capacity;
  return 2 * ceil_div(num_tokens, routing.num_experts);
}

// First choices take an expert's ranks in queue order, later choices come behind all earlier ones,
// counted before dropping.
void drop_over_batch(const SeRouting& routing, const SeSelectArgs& args, SelectScratch* scratch) {
  const int64_t top_k = routing.top_k;
  const int64_t num_tokens = args.num_tokens;
  const int64_t capacity = batch_capacity(routing, num_tokens);
  scratch->order.resize(num_tokens);
  for (int64_t token = 0; token < num_tokens; ++token) scratch->order[token] = token;
  if (routing.batch_prioritized) {
    // Rows that are not finite hold no score and take no place; any fixed value keeps the order
    // strict.
    for (int64_t token = 0; token < num_tokens; ++token) {
      if (args.non_finite[token]) scratch->best_scores[token] = 0;
    }
    std::stable_sort(scratch->order.begin(), scratch->order.end(), [&](int64_t a, int64_t b) {
      return scratch->best_scores[a] > scratch->best_scores[b];
    });
  }
  if (routing.normalize_before_dropping) {
    for (int64_t token = 0; token < num_tokens; ++token) {
      if (args.non_finite[token]) continue;
      double* scores = scratch->slot_scores.data() + token * top_k;
      const double divisor =
          normalization_divisor(routing, top_k, args.topk_ids + token * top_k, scores);
      for (int64_t k = 0; k < top_k; ++k) scores[k] /= divisor;
    }
  }
  scratch->counts.assign(routing.num_experts, 0);
  for (int64_t k = 0; k < top_k; ++k) {
    for (const int64_t token : scratch->order) {
      int32_t* id = args.topk_ids + token * top_k + k;
      if (args.non_finite[token] || *id < 0) continue;
      if (scratch->counts[*id]++ >= capacity) *id = -1;
    }
  }
  for (int64_t token = 0; token < num_tokens; ++token) {
    if (args.non_finite[token]) continue;
    finish_weights(routing, !routing.normalize_before_dropping, top_k,
                   args.topk_ids + token * top_k, scratch->slot_scores.data() + token * top_k,
                   args.topk_weights + token * top_k);
  }
}

}  // namespace

void apply_capacity(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args) {
  SelectScratch* scratch = &context.device->select;
  if (routing.capacity == SE_CAPACITY_PER_SEQUENCE) drop_per_sequence(routing, args, scratch);
  if (routing.capacity == SE_CAPACITY_BATCH) drop_over_batch(routing, args, scratch);
}

}  // namespace sparse_experts::cpu
