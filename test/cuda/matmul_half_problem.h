// One grouped matmul as the kernel suites see it: random operands in device memory, laid out as a
// spec asks, and the outputs that a double loop over the rounded operands gives.
//
// Everything that the kernel must not read is 0xFF (NaN): the ends of rows, what lies before a
// misaligned base, tokens without an expert. Experts without tokens have null pointers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/device_tiles.h"
#include "cuda/harness.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul.h"
#include "cuda/variants.h"

namespace native_test {

using sparse_experts::cuda::ExpertMatmulKernelArgs;
using sparse_experts::cuda::MatmulConfig;
using sparse_experts::cuda::MatmulGroup;
using sparse_experts::cuda::MatmulShape;
using sparse_experts::cuda::RowIndex;

struct MatmulSpec {
  int32_t dtype = SE_BF16;
  bool gated = true;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<int64_t> counts;  // tokens of each expert; no more than num_tokens
  int64_t num_tokens = 0;       // 0: the largest count
  RowIndex x_index = RowIndex::kToken;
  RowIndex out_index = RowIndex::kSorted;
  bool out_f32 = false;
  bool interleaved = false;  // gate and up rows in turn
  int64_t padding = 0;       // elements between rows of every operand
  int64_t misaligned = 0;    // elements before every operand
  bool bias = false;
  bool slot_weights = false;
  bool no_offsets = false;  // one expert, entry i is row i
  bool activate = true;     // ungated only
  SeActivationSpec activation = {SE_SILU, 1, 1.0f, 0.0f, 0.0f, 0.0f};
  uint64_t seed = 1;
};

// Threads of a block of the warp-group kernels, whose configurations are known by them.
constexpr int32_t kWgThreads = sparse_experts::cuda::WgTile<64>::kBlockThreads;
inline MatmulConfig wg_probe() {
  MatmulConfig config;
  config.threads = kWgThreads;
  return config;
}

// The configuration for kernels of a dtype: those on mma.sync, which every device runs, or those on
// wgmma (-1 where the device has none).
inline MatmulConfig with_variant(MatmulConfig config, int32_t dtype) {
  const auto limits = device_limits();
  MatmulShape shape = {};
  shape.dtype = dtype;
  const int32_t on_mma = sparse_experts::cuda::find_matmul_variant(shape, limits);
  config.variant = on_mma;
  if (config.threads != kWgThreads) return config;
  shape.num_experts = shape.top_k = 1;
  shape.num_tokens = 4096;
  shape.bulk_ready = 1;
  config.variant = sparse_experts::cuda::find_matmul_variant(shape, limits);
  if (config.variant == on_mma) config.variant = -1;
  return config;
}

inline double reference_activation(int32_t kind, double v, double alpha) {
  switch (kind) {
    case SE_SILU:
      return v / (1 + std::exp(-alpha * v));
    case SE_GELU:
      return 0.5 * v * std::erfc(-v * std::sqrt(0.5));
    case SE_GELU_TANH:
      return 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)));
    case SE_RELU:
      return std::max(v, 0.0);
    case SE_RELU2:
      return std::max(v, 0.0) * std::max(v, 0.0);
    case SE_SITU:
      return alpha * std::tanh(v / alpha) / (1 + std::exp(-v));
    default:
      return v;
  }
}

// Rows of `stride` elements behind `offset` elements; what belongs to no row is 0xFF. The
// allocation ends with the last element of the last row.
class DeviceRows {
 public:
  DeviceRows(int32_t dtype, const std::vector<double>& values, int64_t rows, int64_t cols,
             int64_t stride, int64_t offset, const std::vector<bool>& absent = {})
      : bytes_(dtype_bytes(dtype)),
        offset_(offset),
        array_((offset + (rows > 0 ? (rows - 1) * stride + cols : 0)) * bytes_) {
    const std::vector<uint8_t> encoded = encode(dtype, values);
    std::vector<uint8_t> image(static_cast<size_t>(array_.size()), 0xFF);
    for (int64_t r = 0; r < rows; ++r) {
      if (!absent.empty() && absent[static_cast<size_t>(r)]) continue;
      std::memcpy(image.data() + (offset + r * stride) * bytes_, encoded.data() + r * cols * bytes_,
                  static_cast<size_t>(cols * bytes_));
    }
    array_.upload(image);
  }
  const uint8_t* data() const { return array_.data() + offset_ * bytes_; }

 private:
  int64_t bytes_;
  int64_t offset_;
  DeviceArray<uint8_t> array_;
};

// The arrays of one group. Slots: expert e gets column e of [num_tokens, num_experts], for as many
// tokens as its count says, at random.
class MatmulProblem {
 public:
  explicit MatmulProblem(const MatmulSpec& spec)
      : spec_(spec), random_(spec.seed), bias_stride_(spec.interleaved ? 2 : 1) {
    num_experts_ = static_cast<int64_t>(spec_.counts.size());
    for (int64_t count : spec_.counts) {
      num_entries_ += count;
      if (spec_.num_tokens < count) spec_.num_tokens = count;
    }
    make_slots();
    make_x();
    make_weights();
    make_expected();
  }

  const MatmulSpec& spec() const { return spec_; }
  int64_t num_entries() const { return num_entries_; }
  const std::vector<int32_t>& entry_slots() const { return slots_; }
  int32_t entry_expert(int64_t entry) const { return experts_[static_cast<size_t>(entry)]; }

  MatmulShape shape() const {
    MatmulShape shape = {};
    shape.dtype = spec_.dtype;
    shape.gated = spec_.gated;
    shape.rows = spec_.rows;
    shape.cols = spec_.cols;
    shape.num_experts = num_experts_;
    shape.top_k = num_experts_;
    shape.num_tokens = spec_.num_tokens;
    return shape;
  }

  // Whether bulk copies can read the operands.
  bool is_bulk_ready() const {
    return maps_ != nullptr && reinterpret_cast<uintptr_t>(x_->data()) % 16 == 0 &&
           (spec_.cols + spec_.padding) % 8 == 0;
  }

  // The group for tiles of this size. Its arrays live until the next call of group() or run().
  MatmulGroup group(int64_t tile_tokens) {
    std::vector<int32_t> offsets(1, 0);
    for (int64_t count : spec_.counts)
      offsets.push_back(static_cast<int32_t>(offsets.back() + count));
    tiles_ = std::make_unique<DeviceTiles>(offsets, tile_tokens);
    const int64_t stride = out_stride();
    out_ = std::make_unique<DeviceArray<uint8_t>>((spec_.misaligned + out_rows() * stride) *
                                                  out_bytes());
    MatmulGroup group = {};
    group.num_experts = static_cast<int32_t>(num_experts_);
    group.gate = spec_.gated ? gate_table_->data() : nullptr;
    group.up = up_table_->data();
    group.gate_bias = spec_.bias && spec_.gated ? gate_bias_table_->data() : nullptr;
    group.up_bias = spec_.bias ? up_bias_table_->data() : nullptr;
    group.bias_stride = bias_stride_;
    group.weight_maps = is_bulk_ready() ? maps_->data() : nullptr;
    group.weight_stride = weight_stride();
    group.rows = spec_.rows;
    group.cols = spec_.cols;
    group.x = x_->data();
    group.x_stride = spec_.cols + spec_.padding;
    group.x_index = spec_.x_index;
    group.slots = spec_.no_offsets ? nullptr : slots_array_->data();
    group.top_k = spec_.no_offsets ? 1 : num_experts_;
    if (!spec_.no_offsets) tiles_->name_in(&group);
    group.num_rows = spec_.no_offsets ? num_entries_ : spec_.num_tokens * num_experts_;
    group.out = out_->data() + spec_.misaligned * out_bytes();
    group.out_dtype = out_dtype();
    group.out_stride = stride;
    group.out_index = spec_.out_index;
    group.slot_weights = spec_.slot_weights ? slot_weights_array_->data() : nullptr;
    return group;
  }

  ExpertMatmulKernelArgs args(int64_t tile_tokens) {
    ExpertMatmulKernelArgs args = {};
    args.dtype = spec_.dtype;
    args.apply_activation = spec_.gated || spec_.activate;
    args.activation = spec_.activation;
    args.activation.gated = spec_.gated;
    args.groups[0] = group(tile_tokens);
    args.num_groups = 1;
    return args;
  }

  // The outputs by entry, as bytes of the output's dtype. Whatever else the output array holds must
  // still be poison. Empty after a failure.
  std::vector<uint8_t> outputs(const std::string& what) const {
    const std::vector<uint8_t> all = out_->download();
    const size_t row_bytes = static_cast<size_t>(spec_.rows * out_bytes());
    std::vector<uint8_t> wanted;
    std::vector<bool> written(all.size(), false);
    for (int64_t i = 0; i < num_entries_; ++i) {
      const int64_t row = spec_.out_index == RowIndex::kSorted ? i : slots_[static_cast<size_t>(i)];
      const size_t at = static_cast<size_t>((spec_.misaligned + row * out_stride()) * out_bytes());
      wanted.insert(wanted.end(), all.begin() + static_cast<int64_t>(at),
                    all.begin() + static_cast<int64_t>(at + row_bytes));
      std::fill(written.begin() + static_cast<int64_t>(at),
                written.begin() + static_cast<int64_t>(at + row_bytes), true);
    }
    bool untouched = true;
    for (size_t i = 0; i < all.size(); ++i) untouched &= written[i] || all[i] == 0xFF;
    CHECK_MESSAGE(untouched, what, ": writes only its outputs");
    return wanted;
  }

  std::vector<uint8_t> run(const MatmulConfig& config, const std::string& what) {
    const MatmulConfig own = with_variant(config, spec_.dtype);
    const bool good = synced(launch_expert_matmul(args(own.tile_tokens), own, nullptr), what);
    return good ? outputs(what) : std::vector<uint8_t>();
  }

  void check_outputs(const std::vector<uint8_t>& bytes, const std::string& what) const {
    if (num_entries_ == 0) return;
    const std::vector<double> out = decode(out_dtype(), bytes);
    const double depth = std::sqrt(static_cast<double>(spec_.cols));
    const double sum = 5e-7 + 3e-7 * depth;
    // Half a unit in the last place, relative to the least mantissa; its deviation over many
    // roundings is smaller by the root of 3.
    const double rounding = out_dtype() == SE_F32 ? 0 : out_dtype() == SE_F16 ? 0x1p-11 : 0x1p-8;
    check_close(out, expected_, sum + rounding / std::sqrt(3.0), what);
    // A norm hides one wrong element among many: each is held to the size of its row as well.
    const size_t rows = static_cast<size_t>(spec_.rows);
    double worst = 0;
    for (size_t i = 0; i < expected_.size() && i < out.size(); i += rows) {
      double size = 0;
      for (size_t j = 0; j < rows; ++j) size += expected_[i + j] * expected_[i + j];
      size = std::sqrt(size / static_cast<double>(rows));
      for (size_t j = 0; j < rows; ++j) {
        const double allowed =
            (rounding + 1e-6) * std::fabs(expected_[i + j]) + 20 * sum * size + 1e-6 * scale_;
        const double off = std::fabs(out[i + j] - expected_[i + j]) / allowed;
        if (!(off <= worst)) worst = off;
      }
    }
    CHECK_MESSAGE(worst <= 1, what, ": worst element at ", worst, " of its bound");
  }

  int32_t out_dtype() const { return spec_.out_f32 ? static_cast<int32_t>(SE_F32) : spec_.dtype; }
  int64_t out_bytes() const { return dtype_bytes(out_dtype()); }

 private:
  int64_t out_stride() const { return spec_.rows + spec_.padding; }
  int64_t out_rows() const {
    return spec_.out_index == RowIndex::kSorted ? num_entries_ : spec_.num_tokens * num_experts_;
  }
  int64_t weight_stride() const {
    return (spec_.cols + spec_.padding) * (spec_.gated && spec_.interleaved ? 2 : 1);
  }

  void make_slots() {
    for (int64_t e = 0; e < num_experts_; ++e) {
      std::vector<int32_t> tokens(static_cast<size_t>(spec_.num_tokens));
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i);
      for (size_t i = tokens.size(); i > 1; --i) {
        std::swap(tokens[i - 1],
                  tokens[static_cast<size_t>(random_.below(static_cast<int64_t>(i)))]);
      }
      tokens.resize(static_cast<size_t>(spec_.counts[static_cast<size_t>(e)]));
      std::sort(tokens.begin(), tokens.end());
      for (int32_t token : tokens) {
        slots_.push_back(static_cast<int32_t>(token * num_experts_ + e));
        experts_.push_back(static_cast<int32_t>(e));
      }
    }
    if (spec_.no_offsets) {
      for (size_t i = 0; i < slots_.size(); ++i) slots_[i] = static_cast<int32_t>(i);
    }
    std::vector<int32_t> image(static_cast<size_t>(spec_.num_tokens * num_experts_), -1);
    std::copy(slots_.begin(), slots_.end(), image.begin());
    slots_array_ = std::make_unique<DeviceArray<int32_t>>(image);
    const float nan = NAN;
    slot_weights_.assign(image.size(), nan);
    for (int32_t slot : slots_) {
      slot_weights_[static_cast<size_t>(slot)] = static_cast<float>(0.1 + random_.uniform());
    }
    slot_weights_array_ = std::make_unique<DeviceArray<float>>(slot_weights_);
  }

  int64_t x_row(int64_t entry) const {
    const int64_t slot = slots_[static_cast<size_t>(entry)];
    return spec_.x_index == RowIndex::kSorted  ? entry
           : spec_.x_index == RowIndex::kToken ? slot / (spec_.no_offsets ? 1 : num_experts_)
                                               : slot;
  }

  void make_x() {
    const int64_t rows = spec_.x_index == RowIndex::kSorted  ? num_entries_
                         : spec_.x_index == RowIndex::kToken ? spec_.num_tokens
                                                             : spec_.num_tokens * num_experts_;
    std::vector<bool> absent(static_cast<size_t>(rows), true);
    for (int64_t i = 0; i < num_entries_; ++i) absent[static_cast<size_t>(x_row(i))] = false;
    x_values_ = random_values(random_, spec_.dtype, rows * spec_.cols);
    x_ = std::make_unique<DeviceRows>(spec_.dtype, x_values_, rows, spec_.cols,
                                      spec_.cols + spec_.padding, spec_.misaligned, absent);
  }

  void make_weights() {
    const double scale = 1 / std::sqrt(static_cast<double>(spec_.cols));
    const int64_t rows = spec_.rows;
    std::vector<const void*> gate(static_cast<size_t>(num_experts_), nullptr);
    std::vector<const void*> up = gate;
    std::vector<const float*> gate_bias(static_cast<size_t>(num_experts_), nullptr);
    std::vector<const float*> up_bias = gate_bias;
    const int64_t matrices = spec_.gated ? 2 : 1;
    for (int64_t e = 0; e < num_experts_; ++e) {
      const size_t at = static_cast<size_t>(e);
      // Values in the order of the array's rows: gate then up, or in turn.
      values_.push_back(random_values(random_, spec_.dtype, matrices * rows * spec_.cols, scale));
      biases_.push_back(random_values(random_, SE_F32, matrices * rows, 0.5));
      if (spec_.counts[at] == 0) continue;
      const int64_t row_stride = spec_.cols + spec_.padding;
      weights_.emplace_back(spec_.dtype, values_[at], matrices * rows, spec_.cols, row_stride,
                            spec_.misaligned);
      bias_arrays_.emplace_back(std::vector<float>(biases_[at].begin(), biases_[at].end()));
      const int64_t second = spec_.interleaved ? 1 : rows;  // row of up row 0
      const uint8_t* data = weights_.back().data();
      gate[at] = data;
      up[at] = spec_.gated ? data + second * row_stride * 2 : data;
      gate_bias[at] = bias_arrays_.back().data();
      up_bias[at] = spec_.gated ? gate_bias[at] + second : gate_bias[at];
    }
    if (!spec_.gated) bias_stride_ = 1;
    gate_table_ = std::make_unique<DeviceArray<const void*>>(gate);
    up_table_ = std::make_unique<DeviceArray<const void*>>(up);
    make_maps(gate, up);
    gate_bias_table_ = std::make_unique<DeviceArray<const float*>>(gate_bias);
    up_bias_table_ = std::make_unique<DeviceArray<const float*>>(up_bias);
  }

  void make_maps(const std::vector<const void*>& gate, const std::vector<const void*>& up) {
    sparse_experts::cuda::WeightMatrices matrices = {};
    matrices.dtype = spec_.dtype;
    matrices.count = num_experts_;
    matrices.gated = spec_.gated;
    matrices.gate = gate.data();
    matrices.up = up.data();
    matrices.rows = spec_.rows;
    matrices.cols = spec_.cols;
    matrices.row_stride = weight_stride();
    std::vector<uint8_t> maps(up.size() *
                              static_cast<size_t>(sparse_experts::cuda::kWeightMapBytes));
    if (sparse_experts::cuda::encode_wg_weight_maps(matrices, maps.data()))
      maps_ = std::make_unique<DeviceArray<uint8_t>>(maps);
  }

  void make_expected() {
    const int64_t rows = spec_.rows;
    double largest = 0;
    for (int64_t i = 0; i < num_entries_; ++i) {
      const size_t e = static_cast<size_t>(experts_[static_cast<size_t>(i)]);
      const double* x = x_values_.data() + x_row(i) * spec_.cols;
      const auto product = [&](int64_t r) {
        const double* w = values_[e].data() + r * spec_.cols;
        double sum = 0;
        for (int64_t k = 0; k < spec_.cols; ++k) sum += x[k] * w[k];
        return spec_.bias ? sum + biases_[e][static_cast<size_t>(r)] : sum;
      };
      const SeActivationSpec& act = spec_.activation;
      for (int64_t r = 0; r < rows; ++r) {
        double y;
        if (spec_.gated) {
          double g = product(spec_.interleaved ? 2 * r : r);
          double u = product(spec_.interleaved ? 2 * r + 1 : rows + r);
          if (act.kind == SE_SITU) {
            const double limit = static_cast<double>(act.limit);
            if (limit > 0) u = limit * std::tanh(u / limit);
          } else if (act.limit > 0) {
            const double limit = static_cast<double>(act.limit);
            g = std::min(g, act.gate_limit > 0 ? static_cast<double>(act.gate_limit) : limit);
            u = std::max(-limit, std::min(u, limit));
          }
          y = reference_activation(act.kind, g, static_cast<double>(act.alpha)) *
              (u + static_cast<double>(act.up_offset));
        } else {
          y = product(r);
          if (spec_.activate) {
            y = reference_activation(act.kind, y, static_cast<double>(act.alpha));
          }
        }
        if (spec_.slot_weights) {
          y *= static_cast<double>(
              slot_weights_[static_cast<size_t>(slots_[static_cast<size_t>(i)])]);
        }
        expected_.push_back(y);
        largest = std::max(largest, std::fabs(y));
      }
    }
    scale_ = largest;
  }

  MatmulSpec spec_;
  Random random_;
  int64_t bias_stride_;
  int64_t num_experts_ = 0;
  int64_t num_entries_ = 0;
  double scale_ = 0;
  std::vector<int32_t> slots_;    // by entry
  std::vector<int32_t> experts_;  // by entry
  std::vector<float> slot_weights_;
  std::vector<double> x_values_;
  std::vector<std::vector<double>> values_;
  std::vector<std::vector<double>> biases_;
  std::vector<double> expected_;
  std::vector<DeviceRows> weights_;
  std::vector<DeviceArray<float>> bias_arrays_;
  std::unique_ptr<DeviceRows> x_;
  std::unique_ptr<DeviceArray<int32_t>> slots_array_;
  std::unique_ptr<DeviceArray<float>> slot_weights_array_;
  std::unique_ptr<DeviceArray<const void*>> gate_table_, up_table_;
  std::unique_ptr<DeviceArray<const float*>> gate_bias_table_, up_bias_table_;
  std::unique_ptr<DeviceArray<uint8_t>> maps_;
  std::unique_ptr<DeviceTiles> tiles_;
  std::unique_ptr<DeviceArray<uint8_t>> out_;
};

}  // namespace native_test
