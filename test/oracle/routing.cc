#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/oracle.h"

namespace native_test {
namespace {

using Row = std::vector<double>;

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

std::vector<int64_t> ranked(const Row& scores) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

Row softmax(const Row& z) {
  const double largest = *std::max_element(z.begin(), z.end());
  Row p(z.size());
  double sum = 0;
  for (size_t i = 0; i < z.size(); ++i) sum += p[i] = std::exp(z[i] - largest);
  for (double& value : p) value /= sum;
  return p;
}

void mask_groups(const SeRouting& routing, Row* selection) {
  const int64_t size = routing.num_experts / routing.num_expert_groups;
  Row group_scores;
  for (int64_t g = 0; g < routing.num_expert_groups; ++g) {
    Row members(selection->begin() + g * size, selection->begin() + (g + 1) * size);
    std::sort(members.begin(), members.end(), std::greater<double>());
    group_scores.push_back(routing.group_score != SE_GROUP_MAX && size > 1 ? members[0] + members[1]
                                                                           : members[0]);
  }
  const std::vector<int64_t> order = ranked(group_scores);
  for (size_t rank = routing.topk_group; rank < order.size(); ++rank)
    std::fill_n(selection->begin() + order[rank] * size, size,
                routing.group_score == SE_GROUP_TOP2_SUM_ZEROED ? 0.0 : -INFINITY);
}

// Weight of the best expert of z among those near it; `banned` is left out.
double sparsemixer_round(const Row& z, double epsilon, int64_t banned, int64_t* best) {
  *best = -1;
  for (size_t e = 0; e < z.size(); ++e) {
    if (static_cast<int64_t>(e) != banned && (*best < 0 || z[e] > z[*best])) *best = e;
  }
  double sum = 0;
  for (size_t e = 0; e < z.size(); ++e) {
    if (static_cast<int64_t>(e) == banned) continue;
    if ((z[*best] - z[e]) / std::max(std::fabs(z[e]), z[*best]) > 2 * epsilon) continue;
    sum += std::exp(z[e] - z[*best]);
  }
  return 1 / sum;
}

// Normalises, scales. Slots with id -1 get 0.
void finish(const SeRouting& routing, const int32_t* ids, Row* w, bool normalize) {
  double sum = 0;
  double power = 0;
  for (size_t k = 0; k < w->size(); ++k) {
    if (ids[k] < 0) (*w)[k] = 0;
    sum += (*w)[k];
    power += std::pow(std::fabs((*w)[k]), routing.norm_value);
  }
  double divisor = 1;
  if (normalize && routing.normalization == SE_NORM_SUM) divisor = sum + routing.norm_value;
  if (normalize && routing.normalization == SE_NORM_FLOOR)
    divisor = std::max(sum, routing.norm_value);
  if (normalize && routing.normalization == SE_NORM_P)
    divisor = std::pow(power, 1 / routing.norm_value);
  for (size_t k = 0; k < w->size(); ++k) {
    if (ids[k] < 0) continue;
    (*w)[k] = (*w)[k] / divisor * routing.scaling_factor;
    if (routing.per_expert_scale != nullptr) (*w)[k] *= routing.per_expert_scale[ids[k]];
  }
}

}  // namespace

OracleRouting oracle_select(const SeRouting& routing, const SeSelectArgs& args,
                            const std::vector<double>& logits) {
  const int64_t num_experts = routing.num_experts;
  const int64_t top_k = routing.top_k;
  const int64_t num_tokens = args.num_tokens;
  OracleRouting out;
  std::vector<Row> scores_of(num_tokens);
  std::vector<Row> weights_of(num_tokens);
  out.ids.assign(num_tokens * top_k, -1);
  out.margins.assign(num_tokens, INFINITY);
  for (int64_t t = 0; t < num_tokens; ++t) {
    Row z(logits.begin() + t * num_experts, logits.begin() + (t + 1) * num_experts);
    if (routing.logit_softcap > 0)
      for (double& v : z) v = routing.logit_softcap * std::tanh(v / routing.logit_softcap);
    Row s = z;
    if (routing.scoring == SE_SOFTMAX) s = softmax(z);
    if (routing.scoring == SE_SIGMOID)
      for (double& v : s) v = sigmoid(v);
    if (routing.scoring == SE_SQRT_SOFTPLUS)
      for (double& v : s) v = std::sqrt(std::log1p(std::exp(v)));
    scores_of[t] = s;
    int32_t* ids = out.ids.data() + t * top_k;
    Row w(top_k);
    if (routing.scoring == SE_SPARSEMIXER) {
      int64_t first = -1;
      int64_t second = -1;
      w[0] = sparsemixer_round(z, routing.sparsemixer_epsilon, -1, &first);
      w[1] = sparsemixer_round(z, routing.sparsemixer_epsilon, first, &second);
      ids[0] = static_cast<int32_t>(first);
      ids[1] = static_cast<int32_t>(second);
    } else {
      Row selection = s;
      if (routing.selection_bias != nullptr)
        for (int64_t e = 0; e < num_experts; ++e) selection[e] += routing.selection_bias[e];
      if (routing.num_expert_groups > 1) mask_groups(routing, &selection);
      const std::vector<int64_t> order = ranked(selection);
      for (int64_t k = 0; k < top_k; ++k) {
        ids[k] = static_cast<int32_t>(order[k]);
        if (routing.hash_routed) ids[k] = routing.hash_table[args.token_ids[t] * top_k + k];
        w[k] = s[ids[k]];
      }
      for (int64_t k = 0; k + 1 < num_experts && k < top_k; ++k)
        out.margins[t] = std::min(out.margins[t], selection[order[k]] - selection[order[k + 1]]);
    }
    const int64_t num_kept = args.row_top_k != nullptr ? args.row_top_k[t] : args.call_top_k;
    for (int64_t k = num_kept; k < top_k; ++k) ids[k] = -1;
    Row share = w;
    if (routing.scoring == SE_TOPK_SIGMOID)
      for (double& v : share) v = sigmoid(v);
    if (routing.scoring == SE_TOPK_SOFTMAX)
      for (double& v : share) v = std::exp(v - w[0]);
    const double top_p = args.row_top_p != nullptr ? args.row_top_p[t] : args.top_p;
    if (top_p < 1) {
      double sum = 0;
      for (int64_t k = 0; k < num_kept; ++k) sum += share[k];
      double reached = 0;
      bool done = false;
      for (const int64_t k : ranked(Row(share.begin(), share.begin() + num_kept))) {
        if (done) ids[k] = -1;
        reached += share[k];
        done = reached >= top_p * sum;
      }
    }
    if (routing.scoring == SE_TOPK_SOFTMAX) {
      double sum = 0;
      for (int64_t k = 0; k < top_k; ++k) sum += ids[k] >= 0 ? share[k] : 0;
      for (double& v : share) v /= sum;
    }
    weights_of[t] = share;
    if (routing.capacity != SE_CAPACITY_BATCH) finish(routing, ids, &weights_of[t], true);
  }
  if (routing.capacity == SE_CAPACITY_PER_SEQUENCE) {
    int64_t begin = 0;
    for (int64_t s = 0; s < (args.sequence_lengths != nullptr ? args.num_sequences : 1); ++s) {
      const int64_t end =
          args.sequence_lengths != nullptr ? begin + args.sequence_lengths[s] : num_tokens;
      for (int64_t e = 0; e < num_experts; ++e) {
        int64_t rank = 0;
        for (int64_t t = begin; t < end; ++t) {
          if (out.ids[t] == e && ++rank > routing.expert_capacity) {
            out.ids[t] = -1;
            weights_of[t][0] = 0;
          }
        }
      }
      begin = end;
    }
  }
  if (routing.capacity == SE_CAPACITY_BATCH) {
    double capacity = routing.expert_capacity > 0
                          ? static_cast<double>(routing.expert_capacity)
                          : 2 * std::ceil(static_cast<double>(num_tokens) / num_experts);
    if (routing.capacity_token_fraction > 0)
      capacity = std::ceil(routing.capacity_token_fraction * num_tokens);
    Row best(num_tokens);
    for (int64_t t = 0; t < num_tokens; ++t)
      best[t] = routing.batch_prioritized
                    ? *std::max_element(scores_of[t].begin(), scores_of[t].end())
                    : 0;
    if (routing.normalize_before_dropping)
      for (int64_t t = 0; t < num_tokens; ++t) {
        double sum = 0;
        for (int64_t k = 0; k < 2; ++k) sum += out.ids[t * 2 + k] >= 0 ? weights_of[t][k] : 0;
        for (double& v : weights_of[t]) v /= std::max(sum, routing.norm_value);
      }
    std::vector<int64_t> taken(num_experts, 0);
    for (int64_t k = 0; k < 2; ++k)
      for (const int64_t t : ranked(best)) {
        int32_t& id = out.ids[t * 2 + k];
        if (id >= 0 && static_cast<double>(taken[id]++) >= capacity) id = -1;
      }
    for (int64_t t = 0; t < num_tokens; ++t)
      finish(routing, out.ids.data() + t * 2, &weights_of[t], !routing.normalize_before_dropping);
  }
  for (const Row& w : weights_of) out.weights.insert(out.weights.end(), w.begin(), w.end());
  return out;
}

}  // namespace native_test
