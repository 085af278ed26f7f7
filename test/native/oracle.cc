#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace native_test {
namespace {

using Row = std::vector<double>;

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

double half_to_double(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

Row matrix_times(const SeMatrixTable& table, int64_t e, int32_t dtype, const Row& x, const float* bias,
                 int64_t bias_stride) {
  Row out(table.rows);
  for (int64_t r = 0; r < table.rows; ++r) {
    double sum = bias != nullptr ? bias[r * bias_stride] : 0;
    for (int64_t c = 0; c < table.cols; ++c) sum += element(table.data[e], dtype, r * table.row_stride + c) * x[c];
    out[r] = sum;
  }
  return out;
}

const float* bias_of(const SeBiasTable& table, int64_t e) {
  return table.data != nullptr ? table.data[e] : nullptr;
}

Row expert(const SeExperts& experts, int64_t e, const Row& x) {
  Row gate;
  if (experts.activation.gated)
    gate = matrix_times(experts.gate, e, experts.dtype, x, bias_of(experts.gate_bias, e), experts.gate_bias.stride);
  Row h = matrix_times(experts.up, e, experts.dtype, x, bias_of(experts.up_bias, e), experts.up_bias.stride);
  for (size_t i = 0; i < h.size(); ++i)
    h[i] = oracle_activation(experts.activation, gate.empty() ? 0 : gate[i], h[i]);
  return matrix_times(experts.down, e, experts.dtype, h, bias_of(experts.down_bias, e), experts.down_bias.stride);
}

std::vector<int64_t> ranked(const Row& scores) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
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
    group_scores.push_back(routing.group_score == SE_GROUP_TOP2_SUM && size > 1 ? members[0] + members[1]
                                                                                : members[0]);
  }
  const std::vector<int64_t> order = ranked(group_scores);
  for (size_t rank = routing.topk_group; rank < order.size(); ++rank)
    std::fill_n(selection->begin() + order[rank] * size, size, -INFINITY);
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
  if (normalize && routing.normalization == SE_NORM_FLOOR) divisor = std::max(sum, routing.norm_value);
  if (normalize && routing.normalization == SE_NORM_P) divisor = std::pow(power, 1 / routing.norm_value);
  for (size_t k = 0; k < w->size(); ++k) {
    if (ids[k] < 0) continue;
    (*w)[k] = (*w)[k] / divisor * routing.scaling_factor;
    if (routing.per_expert_scale != nullptr) (*w)[k] *= routing.per_expert_scale[ids[k]];
  }
}

}  // namespace

double element(const void* data, int32_t dtype, int64_t index) {
  if (dtype == SE_F32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(data) + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, static_cast<const char*>(data) + index * 2, 2);
  if (dtype == SE_F16) return half_to_double(bits);
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

double oracle_activation(const SeActivationSpec& spec, double gate, double up) {
  double v = spec.gated ? gate : up;
  if (spec.gated && spec.limit > 0) {
    v = std::min(v, static_cast<double>(spec.limit));
    up = std::clamp(up, -static_cast<double>(spec.limit), static_cast<double>(spec.limit));
  }
  const double y = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
  double a = v;
  if (spec.kind == SE_SILU) a = v * sigmoid(spec.alpha * v);
  if (spec.kind == SE_GELU) a = 0.5 * v * std::erfc(-v / std::sqrt(2.0));
  if (spec.kind == SE_GELU_TANH) a = v * sigmoid(2 * y);
  if (spec.kind == SE_RELU) a = std::max(v, 0.0);
  if (spec.kind == SE_RELU2) a = std::max(v, 0.0) * std::max(v, 0.0);
  return spec.gated ? a * (up + spec.up_offset) : a;
}

std::vector<double> oracle_logits(const SeMoeLayer& layer, const SeTensor& router_input) {
  std::vector<double> logits;
  for (int64_t t = 0; t < router_input.shape[0]; ++t) {
    Row q(layer.hidden_size);
    double squares = 0;
    for (int64_t i = 0; i < layer.hidden_size; ++i) {
      q[i] = element(router_input.data, router_input.dtype, t * router_input.strides[0] + i);
      squares += q[i] * q[i];
    }
    if (layer.router_input_scale != nullptr) {
      const double n = static_cast<double>(layer.hidden_size);
      for (int64_t i = 0; i < layer.hidden_size; ++i)
        q[i] *= layer.router_input_scale[i] / std::sqrt(n) / std::sqrt(squares / n + layer.router_norm_epsilon);
    }
    for (int64_t e = 0; e < layer.routing.num_experts; ++e) {
      double z = layer.router_bias != nullptr ? layer.router_bias[e] : 0;
      for (int64_t i = 0; i < layer.hidden_size; ++i) z += q[i] * layer.router_weight[e * layer.hidden_size + i];
      logits.push_back(z);
    }
  }
  return logits;
}

OracleRouting oracle_select(const SeRouting& routing, const SeSelectArgs& args, const std::vector<double>& logits) {
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
    if (args.top_p < 1) {
      double sum = 0;
      for (int64_t k = 0; k < num_kept; ++k) sum += share[k];
      double reached = 0;
      bool done = false;
      for (const int64_t k : ranked(Row(share.begin(), share.begin() + num_kept))) {
        if (done) ids[k] = -1;
        reached += share[k];
        done = reached >= args.top_p * sum;
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
      const int64_t end = args.sequence_lengths != nullptr ? begin + args.sequence_lengths[s] : num_tokens;
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
    double capacity = routing.expert_capacity > 0 ? static_cast<double>(routing.expert_capacity)
                                                  : 2 * std::ceil(static_cast<double>(num_tokens) / num_experts);
    if (routing.capacity_token_fraction > 0) capacity = std::ceil(routing.capacity_token_fraction * num_tokens);
    Row best(num_tokens);
    for (int64_t t = 0; t < num_tokens; ++t)
      best[t] = routing.batch_prioritized ? *std::max_element(scores_of[t].begin(), scores_of[t].end()) : 0;
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

std::vector<double> oracle_experts(const SeMoeLayer& layer, const SeTensor& hidden, const int32_t* ids,
                                   const float* weights) {
  const int64_t top_k = layer.routing.top_k;
  std::vector<double> out;
  for (int64_t t = 0; t < hidden.shape[0]; ++t) {
    Row x(layer.hidden_size);
    for (int64_t i = 0; i < layer.hidden_size; ++i) x[i] = element(hidden.data, hidden.dtype, t * hidden.strides[0] + i);
    Row input = x;
    if (layer.latent_size > 0) input = matrix_times(layer.latent_down, 0, layer.experts.dtype, x, nullptr, 1);
    Row sum(input.size(), 0.0);
    for (int64_t k = 0; k < top_k; ++k) {
      const int32_t id = ids[t * top_k + k];
      const double weight = weights[t * top_k + k];
      if (id < 0) continue;
      Row y = input;
      if (id < layer.experts.num_experts) {
        if (layer.experts.up.data[id] == nullptr) continue;
        Row weighted = input;
        if (layer.weight_on_input)
          for (double& v : weighted) v *= weight;
        y = expert(layer.experts, id, weighted);
      }
      const bool on_output = !layer.weight_on_input || id >= layer.experts.num_experts;
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (on_output ? weight : 1) * y[i];
    }
    if (layer.latent_size > 0) sum = matrix_times(layer.latent_up, 0, layer.experts.dtype, sum, nullptr, 1);
    if (layer.shared.num_experts > 0) {
      const Row shared = expert(layer.shared, 0, x);
      double z = 0;
      if (layer.shared_gate != nullptr)
        for (int64_t i = 0; i < layer.hidden_size; ++i) z += layer.shared_gate[i] * x[i];
      const double c = layer.shared_gate_mode == SE_SHARED_PLAIN ? 1 : sigmoid(z);
      const double routed = layer.shared_gate_mode == SE_SHARED_MIX ? 1 - c : 1;
      for (size_t i = 0; i < sum.size(); ++i) sum[i] = routed * sum[i] + c * shared[i];
    }
    if (layer.output_bias != nullptr)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += layer.output_bias[i];
    out.insert(out.end(), sum.begin(), sum.end());
  }
  return out;
}

}  // namespace native_test
