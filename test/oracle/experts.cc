#include <algorithm>
#include <cmath>
#include <cstring>

#include "oracle/oracle.h"

namespace native_test {
namespace {

using Row = std::vector<double>;

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

double half_to_double(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

Row matrix_times(const SeMatrixTable& table, int64_t e, int32_t dtype, const Row& x,
                 const float* bias, int64_t bias_stride) {
  Row out(table.rows);
  // Quantised matrices come decoded to f32 (LayerFixture::quantise).
  const int32_t stored = table.formats != nullptr ? SE_F32 : dtype;
  for (int64_t r = 0; r < table.rows; ++r) {
    double sum = bias != nullptr ? bias[r * bias_stride] : 0;
    for (int64_t c = 0; c < table.cols; ++c)
      sum += element(table.data[e], stored, r * table.row_stride + c) * x[c];
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
    gate = matrix_times(experts.gate, e, experts.dtype, x, bias_of(experts.gate_bias, e),
                        experts.gate_bias.stride);
  Row h = matrix_times(experts.up, e, experts.dtype, x, bias_of(experts.up_bias, e),
                       experts.up_bias.stride);
  for (size_t i = 0; i < h.size(); ++i)
    h[i] = oracle_activation(experts.activation, gate.empty() ? 0 : gate[i], h[i]);
  return matrix_times(experts.down, e, experts.dtype, h, bias_of(experts.down_bias, e),
                      experts.down_bias.stride);
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
  if (spec.kind == SE_SITU) {
    if (spec.gated && spec.limit > 0) up = spec.limit * std::tanh(up / spec.limit);
    const double a = spec.alpha * std::tanh((spec.gated ? gate : up) / spec.alpha) *
                     sigmoid(spec.gated ? gate : up);
    return spec.gated ? a * (up + spec.up_offset) : a;
  }
  double v = spec.gated ? gate : up;
  if (spec.gated && spec.limit > 0) {
    v = std::min(v, static_cast<double>(spec.gate_limit > 0 ? spec.gate_limit : spec.limit));
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
        q[i] *= layer.router_input_scale[i] / std::sqrt(n) /
                std::sqrt(squares / n + layer.router_norm_epsilon);
    }
    for (int64_t e = 0; e < layer.routing.num_experts; ++e) {
      double z = layer.router_bias != nullptr ? layer.router_bias[e] : 0;
      for (int64_t i = 0; i < layer.hidden_size; ++i)
        z += q[i] * layer.router_weight[e * layer.hidden_size + i];
      logits.push_back(z);
    }
  }
  return logits;
}

std::vector<double> oracle_experts(const SeMoeLayer& layer, const SeTensor& hidden,
                                   const int32_t* ids, const float* weights) {
  const int64_t top_k = layer.routing.top_k;
  std::vector<double> out;
  for (int64_t t = 0; t < hidden.shape[0]; ++t) {
    Row x(layer.hidden_size);
    for (int64_t i = 0; i < layer.hidden_size; ++i)
      x[i] = element(hidden.data, hidden.dtype, t * hidden.strides[0] + i);
    Row input = x;
    if (layer.latent_size > 0)
      input = matrix_times(layer.latent_down, 0, layer.experts.dtype, x, nullptr, 1);
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
    if (layer.latent_norm != nullptr) {
      double squares = 0;
      for (const double v : sum) squares += v * v;
      const double rms =
          std::sqrt(squares / static_cast<double>(sum.size()) + layer.latent_norm_epsilon);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] *= layer.latent_norm[i] / rms;
    }
    if (layer.latent_size > 0)
      sum = matrix_times(layer.latent_up, 0, layer.experts.dtype, sum, nullptr, 1);
    if (layer.shared.num_experts > 0) {
      const Row shared = expert(layer.shared, 0, x);
      double z = layer.shared_logit_bias != nullptr ? layer.shared_logit_bias[0] : 0;
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
