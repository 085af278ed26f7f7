#include "cpu/ops/select.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "cpu/device.h"
#include "cpu/ops/slot_weights.h"
#include "cpu/ops/top_values.h"

namespace sparse_experts::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Buffers of one task; sized once for all its rows.
struct RowBuffers {
  std::vector<double> logits;     // [E] after the soft-cap
  std::vector<double> scores;     // [E] what becomes the weight
  std::vector<double> selection;  // [E] what is ranked
  std::vector<int32_t> order;     // [E]
  std::vector<double> group_scores;
  std::vector<int32_t> group_order;
  std::vector<double> kept;        // [K]
  std::vector<int32_t> by_weight;  // [K]

  explicit RowBuffers(const SeRouting& routing)
      : logits(routing.num_experts),
        scores(routing.num_experts),
        selection(routing.num_experts),
        order(routing.num_experts),
        group_scores(routing.num_expert_groups),
        group_order(routing.num_expert_groups),
        kept(routing.top_k),
        by_weight(routing.top_k) {}
};

double sigmoid(double z) { return 1.0 / (1.0 + std::exp(-z)); }
double softplus(double z) { return z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z)); }

void softmax(const double* logits, int64_t n, double* out) {
  double largest = logits[0];
  for (int64_t i = 1; i < n; ++i) largest = std::max(largest, logits[i]);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += out[i] = std::exp(logits[i] - largest);
  for (int64_t i = 0; i < n; ++i) out[i] /= sum;
}

void score_row(const SeRouting& routing, RowBuffers* row) {
  const int64_t num_experts = routing.num_experts;
  switch (routing.scoring) {
    case SE_SOFTMAX:
      softmax(row->logits.data(), num_experts, row->scores.data());
      break;
    case SE_SIGMOID:
      for (int64_t e = 0; e < num_experts; ++e) row->scores[e] = sigmoid(row->logits[e]);
      break;
    case SE_SQRT_SOFTPLUS:
      for (int64_t e = 0; e < num_experts; ++e)
        row->scores[e] = std::sqrt(softplus(row->logits[e]));
      break;
    default:  // selection on the logits
      row->scores = row->logits;
      break;
  }
}

// Masks the experts of all but the topk_group best groups with -inf, or 0.
void mask_groups(const SeRouting& routing, RowBuffers* row) {
  const int64_t num_groups = routing.num_expert_groups;
  const int64_t group_size = routing.num_experts / num_groups;
  for (int64_t g = 0; g < num_groups; ++g) {
    double first = -kInfinity;
    double second = -kInfinity;
    for (int64_t e = g * group_size; e < (g + 1) * group_size; ++e) {
      const double score = row->selection[e];
      if (score > first) {
        second = first;
        first = score;
      } else if (score > second) {
        second = score;
      }
    }
    const bool top2 = routing.group_score != SE_GROUP_MAX && group_size > 1;
    row->group_scores[g] = top2 ? first + second : first;
  }
  rank_top(row->group_scores, routing.topk_group, &row->group_order);
  const double masked = routing.group_score == SE_GROUP_TOP2_SUM_ZEROED ? 0.0 : -kInfinity;
  for (int64_t rank = routing.topk_group; rank < num_groups; ++rank) {
    const int64_t g = row->group_order[rank];
    std::fill_n(row->selection.begin() + g * group_size, group_size, masked);
  }
}

// Phi-3.5-MoE: the weight of the best expert among those within a relative distance of it, then
// again without it.
void sparsemixer(const SeRouting& routing, RowBuffers* row, int32_t* ids) {
  const std::vector<double>& z = row->logits;
  for (int round = 0; round < 2; ++round) {
    int64_t best = -1;
    for (int64_t e = 0; e < routing.num_experts; ++e) {
      if (round == 1 && e == ids[0]) continue;
      if (best < 0 || z[e] > z[best]) best = e;
    }
    double sum = 0;
    for (int64_t e = 0; e < routing.num_experts; ++e) {
      if (round == 1 && e == ids[0]) continue;
      const double factor = std::max(std::fabs(z[e]), z[best]);
      // The negation keeps an expert whose distance is 0 / 0: both logits are 0.
      if (!((z[best] - z[e]) / factor > 2 * routing.sparsemixer_epsilon))
        sum += std::exp(z[e] - z[best]);
    }
    ids[round] = static_cast<int32_t>(best);
    row->kept[round] = 1.0 / sum;
  }
}

// Selected ids in slot order, and the scores they are weighted by (for topk_softmax: still logits).
void pick_experts(const SeRouting& routing, const SeSelectArgs& args, int64_t token,
                  RowBuffers* row, int32_t* ids) {
  const int64_t top_k = routing.top_k;
  if (routing.scoring == SE_SPARSEMIXER) return sparsemixer(routing, row, ids);
  score_row(routing, row);
  if (routing.hash_routed) {
    const int64_t entry = args.token_ids[token];
    std::copy_n(routing.hash_table + entry * top_k, top_k, ids);
  } else {
    row->selection = row->scores;
    if (routing.selection_bias != nullptr) {
      for (int64_t e = 0; e < routing.num_experts; ++e)
        row->selection[e] += routing.selection_bias[e];
    }
    // A NaN (only a bias can bring one) has no rank: it goes last.
    for (double& value : row->selection) value = std::isnan(value) ? -kInfinity : value;
    if (routing.num_expert_groups > 1) mask_groups(routing, row);
    pick_top(row->selection, top_k, &row->order, ids);
  }
  for (int64_t k = 0; k < top_k; ++k) row->kept[k] = row->scores[ids[k]];
}

void select_row(const SeRouting& routing, const SeSelectArgs& args, const float* logits,
                int64_t token, SelectScratch* scratch, RowBuffers* row) {
  const int64_t top_k = routing.top_k;
  int32_t* ids = args.topk_ids + token * top_k;
  float* weights = args.topk_weights + token * top_k;
  bool finite = true;
  for (int64_t e = 0; e < routing.num_experts; ++e) {
    finite = finite && std::isfinite(logits[e]);
    row->logits[e] = logits[e];
  }
  args.non_finite[token] = finite ? 0 : 1;
  if (!finite) {
    for (int64_t k = 0; k < top_k; ++k) {
      ids[k] = static_cast<int32_t>(k);
      weights[k] = std::numeric_limits<float>::quiet_NaN();
    }
    return;
  }
  if (routing.logit_softcap > 0) {
    for (double& z : row->logits) z = routing.logit_softcap * std::tanh(z / routing.logit_softcap);
  }
  pick_experts(routing, args, token, row, ids);

  const int64_t num_kept = args.row_top_k != nullptr ? args.row_top_k[token] : args.call_top_k;
  for (int64_t k = num_kept; k < top_k; ++k) ids[k] = -1;
  std::vector<double>& kept = row->kept;
  const bool over_kept = routing.scoring == SE_TOPK_SOFTMAX;
  if (routing.scoring == SE_TOPK_SIGMOID) {
    for (double& score : kept) score = sigmoid(score);
  }
  const double top_p = args.row_top_p != nullptr ? args.row_top_p[token] : args.top_p;
  if (top_p < 1 && num_kept > 0) {
    if (over_kept) {
      std::vector<double>& shares = row->selection;  // no longer needed
      softmax_kept(top_k, ids, kept, &shares);
      drop_by_top_p(top_p, num_kept, shares, &row->by_weight, ids);
    } else {
      drop_by_top_p(top_p, num_kept, kept, &row->by_weight, ids);
    }
  }
  if (over_kept) softmax_kept(top_k, ids, kept, &kept);
  if (routing.capacity == SE_CAPACITY_BATCH) {
    scratch->best_scores[token] = *std::max_element(row->scores.begin(), row->scores.end());
    std::copy_n(kept.begin(), top_k, scratch->slot_scores.begin() + token * top_k);
    return;
  }
  finish_weights(routing, true, top_k, ids, kept.data(), weights);
}

}  // namespace

void prepare_select(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args) {
  SelectScratch& scratch = context.device->select;
  if (routing.capacity == SE_CAPACITY_BATCH) {
    scratch.best_scores.resize(args.num_tokens);
    scratch.slot_scores.resize(args.num_tokens * routing.top_k);
  }
}

void select_rows(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args,
                 const float* logits, int64_t first, int64_t num_rows) {
  if (num_rows == 0) return;
  // Buffers are made here, on the caller, where a failed allocation can be thrown.
  // Fewer are done before another thread is at hand.
  constexpr int64_t kLogitsPerTask = 256;
  const int64_t num_tasks = (num_rows * routing.num_experts + kLogitsPerTask - 1) / kLogitsPerTask;
  const int64_t num_chunks = std::min({num_tasks, num_rows, int64_t{context.num_threads}});
  std::vector<RowBuffers> buffers(num_chunks, RowBuffers(routing));
  const int64_t rows_per_chunk = (num_rows + num_chunks - 1) / num_chunks;
  SelectScratch* scratch = &context.device->select;
  context.parallel_for(num_chunks, [&](int64_t chunk) {
    const int64_t last = std::min(num_rows, (chunk + 1) * rows_per_chunk);
    for (int64_t i = chunk * rows_per_chunk; i < last; ++i)
      select_row(routing, args, logits + i * routing.num_experts, first + i, scratch,
                 &buffers[chunk]);
  });
}

}  // namespace sparse_experts::cpu
