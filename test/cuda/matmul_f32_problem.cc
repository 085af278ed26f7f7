#include "cuda/matmul_f32_problem.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/device_tiles.h"

namespace native_test::matmul_f32 {
namespace {

using sparse_experts::cuda::ExpertMatmulKernelArgs;
using sparse_experts::cuda::launch_f32_expert_matmul;
using sparse_experts::cuda::MatmulConfig;
using sparse_experts::cuda::MatmulGroup;

// Offsets into activations, matrices and outputs are products of these: 64 bits each.
static_assert(std::is_same<decltype(MatmulGroup::x_stride), int64_t>::value, "");
static_assert(std::is_same<decltype(MatmulGroup::weight_stride), int64_t>::value, "");
static_assert(std::is_same<decltype(MatmulGroup::out_stride), int64_t>::value, "");
static_assert(std::is_same<decltype(MatmulGroup::bias_stride), int64_t>::value, "");

double activated(const Case& c, double gate, double up) {
  const auto act = [&](double v) {
    switch (c.activation) {
      case SE_SILU:
        return v / (1 + std::exp(-static_cast<double>(c.alpha) * v));
      case SE_GELU:
        return 0.5 * v * std::erfc(-v / std::sqrt(2.0));
      case SE_GELU_TANH:
        return 0.5 * v *
               (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
      case SE_RELU:
        return v > 0 ? v : 0;
      case SE_RELU2:
        return v > 0 ? v * v : 0;
      case SE_SITU:
        return static_cast<double>(c.alpha) * std::tanh(v / static_cast<double>(c.alpha)) /
               (1 + std::exp(-v));
      default:
        return v;
    }
  };
  if (c.activation < 0) return up;
  if (!c.gated) return act(up);
  if (c.activation == SE_SITU) {
    const auto limit = static_cast<double>(c.limit);
    if (limit > 0) up = limit * std::tanh(up / limit);
  } else if (c.limit > 0) {
    gate = std::min(gate, static_cast<double>(c.limit));
    up = std::clamp(up, -static_cast<double>(c.limit), static_cast<double>(c.limit));
  }
  return act(gate) * (up + static_cast<double>(c.up_offset));
}

std::vector<int32_t> random_ids(Random& random, const Case& c) {
  std::vector<int32_t> ids(static_cast<size_t>(c.tokens * c.top_k));
  for (size_t slot = 0; slot < ids.size(); ++slot) {
    int64_t id = random.below(c.experts);
    if (c.routing == Routing::kSkewed && random.uniform() < 0.9) id = c.experts / 2;
    if (c.routing == Routing::kOneExpert) id = c.experts - 1;
    if (c.routing == Routing::kHalfEmpty) id = id / 2 * 2;
    if (c.routing == Routing::kOneEach) id = static_cast<int64_t>(slot) % c.experts;
    if (c.routing != Routing::kOneEach && random.uniform() < 0.1) id = -1;
    ids[slot] = static_cast<int32_t>(id);
  }
  return ids;
}

}  // namespace

Lists sorted(const std::vector<int32_t>& ids, int64_t experts) {
  Lists lists;
  lists.offsets.push_back(0);
  for (int64_t e = 0; e < experts; ++e) {
    for (size_t slot = 0; slot < ids.size(); ++slot) {
      if (ids[slot] == e) lists.slots.push_back(static_cast<int32_t>(slot));
    }
    lists.offsets.push_back(static_cast<int32_t>(lists.slots.size()));
  }
  lists.slots.resize(ids.size(), -1);
  return lists;
}

Matrices::Matrices(Random& random, int64_t experts, int64_t rows, int64_t cols, int64_t stride,
                   int64_t shift)
    : stride(stride), pitch((rows * stride + 3) / 4 * 4 + 4) {
  values.resize(static_cast<size_t>(experts * pitch), std::nanf(""));
  const double scale = 1 / std::sqrt(static_cast<double>(cols));
  for (int64_t e = 0; e < experts; ++e) {
    starts.push_back(e * pitch + (e % 2 == 1 ? shift : 0));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < cols; ++k) at(e, r, k) = static_cast<float>(random.normal() * scale);
    }
  }
  device = std::make_unique<DeviceArray<float>>(values);
}

Problem::Problem(const Case& c, uint64_t seed)
    : case_(c),
      random_(seed),
      ids_(random_ids(random_, c)),
      gate_(random_, c.gated ? c.experts : 0, c.rows, c.cols, c.cols + c.weight_pad,
            c.weight_shift),
      up_(random_, c.experts, c.rows, c.cols, c.cols + c.weight_pad, c.weight_shift),
      shared_gate_(random_, c.gated && c.shared_rows > 0 ? 1 : 0, c.shared_rows, c.shared_cols,
                   c.shared_cols, 0),
      shared_up_(random_, c.shared_rows > 0 ? 1 : 0, c.shared_rows, c.shared_cols, c.shared_cols,
                 0) {
  const int64_t slots = c.tokens * c.top_k;
  x_stride_ = c.cols + c.x_pad;
  x_rows_ = c.x_index == RowIndex::kToken ? c.tokens : slots;
  x_ = random_array<float>(random_, x_rows_ * x_stride_);
  shared_x_ = random_array<float>(random_, c.tokens * c.shared_cols);
  slot_weights_ = random_array<float>(random_, slots);
  bias_ = random_array<float>(random_, 2 * c.experts * c.rows * c.bias_stride);
}

void Problem::poison_unlisted(const Lists& lists) {
  std::vector<bool> used(static_cast<size_t>(x_rows_), false);
  std::vector<bool> listed(slot_weights_.size(), false);
  for (int64_t i = 0; i < lists.listed(); ++i) {
    const int64_t slot = lists.slots[static_cast<size_t>(i)];
    used[static_cast<size_t>(x_row_of(i, slot))] = true;
    listed[static_cast<size_t>(slot)] = true;
  }
  for (int64_t row = 0; row < x_rows_; ++row) {
    if (!used[static_cast<size_t>(row)]) std::fill_n(x_row(row), x_stride_, std::nanf(""));
  }
  for (size_t slot = 0; slot < listed.size(); ++slot) {
    if (!listed[slot]) slot_weights_[slot] = std::nanf("");
  }
}

std::vector<double> Problem::expected(const Lists& lists) {
  const Case& c = case_;
  std::vector<double> out(static_cast<size_t>(c.tokens * c.top_k * out_stride()), std::nan(""));
  for (int64_t e = 0; e < c.experts; ++e) {
    for (int64_t i = lists.offsets[static_cast<size_t>(e)];
         i < lists.offsets[static_cast<size_t>(e) + 1]; ++i) {
      const int64_t slot = lists.slots[static_cast<size_t>(i)];
      const float* x = x_row(x_row_of(i, slot));
      for (int64_t r = 0; r < c.rows; ++r) {
        double gate = 0;
        double up = 0;
        for (int64_t k = 0; k < c.cols; ++k) {
          if (c.gated) gate += static_cast<double>(gate_.at(e, r, k)) * static_cast<double>(x[k]);
          up += static_cast<double>(up_.at(e, r, k)) * static_cast<double>(x[k]);
        }
        if (c.bias) {
          gate += static_cast<double>(bias(0, e, r));
          up += static_cast<double>(bias(1, e, r));
        }
        double value = activated(c, gate, up);
        if (c.slot_weights) value *= static_cast<double>(slot_weights_[static_cast<size_t>(slot)]);
        out[static_cast<size_t>(out_row_of(i, slot) * out_stride() + r)] = value;
      }
    }
  }
  return out;
}

std::vector<double> Problem::expected_shared() {
  std::vector<double> out(static_cast<size_t>(case_.tokens * case_.shared_rows));
  for (int64_t t = 0; t < case_.tokens; ++t) {
    for (int64_t r = 0; r < case_.shared_rows; ++r) {
      double gate = 0;
      double up = 0;
      for (int64_t k = 0; k < case_.shared_cols; ++k) {
        const double x =
            static_cast<double>(shared_x_[static_cast<size_t>(t * case_.shared_cols + k)]);
        if (case_.gated) gate += static_cast<double>(shared_gate_.at(0, r, k)) * x;
        up += static_cast<double>(shared_up_.at(0, r, k)) * x;
      }
      out[static_cast<size_t>(t * case_.shared_rows + r)] = activated(case_, gate, up);
    }
  }
  return out;
}

Outputs Problem::run(const Lists& lists, const MatmulConfig& config, const std::string& what) {
  const Case& c = case_;
  const int64_t slots = c.tokens * c.top_k;
  std::vector<float> shifted(static_cast<size_t>(c.x_shift), std::nanf(""));
  shifted.insert(shifted.end(), x_.begin(), x_.end());
  DeviceArray<float> x(shifted);
  DeviceArray<float> shared_x(shared_x_);
  DeviceArray<float> weights(slot_weights_);
  DeviceArray<float> biases(bias_);
  DeviceArray<int32_t> sorted_slots(lists.slots);
  const DeviceTiles tiles(lists.offsets, config.tile_tokens);
  DeviceArray<const void*> gate_table(gate_.table(lists));
  DeviceArray<const void*> up_table(up_.table(lists));
  std::vector<const float*> bias_entries;
  for (int64_t matrix = 0; matrix < 2; ++matrix) {
    for (int64_t e = 0; e < c.experts; ++e)
      bias_entries.push_back(lists.has(e) ? biases.data() + bias_at(matrix, e) : nullptr);
  }
  DeviceArray<const float*> bias_table(bias_entries);
  DeviceArray<const void*> shared_table(
      std::vector<const void*>{shared_gate_.device->data(), shared_up_.device->data()});
  DeviceArray<float> out(slots * out_stride());
  DeviceArray<float> shared_out(c.tokens * c.shared_rows);

  ExpertMatmulKernelArgs args = {};
  args.dtype = SE_F32;
  args.apply_activation = c.activation >= 0 ? 1 : 0;
  args.activation = {c.activation, c.gated ? 1 : 0, c.alpha, c.up_offset, c.limit};
  args.num_groups = c.shared_rows > 0 ? 2 : 1;
  MatmulGroup& group = args.groups[0];
  group.num_experts = static_cast<int32_t>(c.experts);
  group.gate = c.gated ? gate_table.data() : nullptr;
  group.up = up_table;
  group.gate_bias = c.bias && c.gated ? bias_table.data() : nullptr;
  group.up_bias = c.bias ? bias_table.data() + c.experts : nullptr;
  group.bias_stride = c.bias_stride;
  group.weight_stride = up_.stride;
  group.rows = c.rows;
  group.cols = c.cols;
  group.x = x.data() + c.x_shift;
  group.x_stride = x_stride_;
  group.x_index = c.x_index;
  group.slots = sorted_slots;
  group.top_k = c.top_k;
  tiles.name_in(&group);
  group.num_rows = slots;
  group.out = out;
  group.out_dtype = SE_F32;
  group.out_stride = out_stride();
  group.out_index = c.out_index;
  group.slot_weights = c.slot_weights ? weights.data() : nullptr;
  if (c.shared_rows > 0) {
    MatmulGroup& shared = args.groups[1];
    shared.num_experts = 1;
    shared.gate = c.gated ? shared_table.data() : nullptr;
    shared.up = shared_table.data() + 1;
    shared.weight_stride = c.shared_cols;
    shared.rows = c.shared_rows;
    shared.cols = c.shared_cols;
    shared.x = shared_x;
    shared.x_stride = c.shared_cols;
    shared.x_index = RowIndex::kSorted;
    shared.top_k = 1;
    shared.num_rows = c.tokens;
    shared.out = shared_out;
    shared.out_dtype = SE_F32;
    shared.out_stride = c.shared_rows;
    shared.out_index = RowIndex::kSorted;
  }
  Outputs outputs;
  if (!synced(launch_f32_expert_matmul(args, config, nullptr), what)) return outputs;
  outputs.routed = out.download();
  outputs.shared = shared_out.download();
  return outputs;
}

}  // namespace native_test::matmul_f32
