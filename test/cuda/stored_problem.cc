#include "cuda/stored_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/context.h"
#include "cuda/layouts/pack_stored.h"

namespace native_test {

using sparse_experts::cuda::ExpertMatmulKernelArgs;
using sparse_experts::cuda::MatmulConfig;
using sparse_experts::cuda::MatmulGroup;
using sparse_experts::cuda::MatmulShape;

std::vector<uint8_t> packed_matrix(const QuantisedMatrix& matrix, int64_t rows_at_once) {
  using namespace sparse_experts::cuda;
  const StoredLayout layout = stored_layout(matrix.rows, matrix.cols, matrix.format);
  std::vector<uint8_t> packed(stored_bytes(matrix.rows, matrix.cols, matrix.format), 0xFF);
  for (int64_t row = 0; row < matrix.rows; row += rows_at_once) {
    const SeMatrixRows rows =
        matrix.rows_of(row, std::min(rows_at_once, matrix.rows - row), SE_BF16, packed.data());
    if (!check_stored_rows(rows).is_ok()) return {};
    if (row == 0) write_stored_header(rows, packed.data());
    for (int64_t first = 0; first < rows.num_rows; first += kUnitRows)
      pack_stored_unit(
          layout, rows, first,
          packed.data() + kHeaderBytes + (row + first) / kUnitRows * layout.unit_bytes);
  }
  return packed;
}

StoredProblem::StoredProblem(const StoredSpec& spec) : spec_(spec), random_(spec.seed) {
  offsets_.push_back(0);
  for (const int64_t count : spec_.counts) {
    num_entries_ += count;
    offsets_.push_back(static_cast<int32_t>(num_entries_));
  }
  std::vector<double> x = random_values(random_, spec_.dtype, num_entries_ * spec_.cols);
  if (spec_.one_hot) {
    std::fill(x.begin(), x.end(), 0.0);
    for (int64_t i = 0; i < num_entries_; ++i) x[i * spec_.cols + i % spec_.cols] = 1;
  }
  all_x_ = x_values_ = x;
  put_x();
  make_matrices();
}

void StoredProblem::keep_last(int64_t count) {
  x_values_.assign(all_x_.end() - count * spec_.cols, all_x_.end());
  num_entries_ = count;
  offsets_ = {0, static_cast<int32_t>(count)};
  put_x();
}

// The array ends with the last element.
void StoredProblem::put_x() {
  const std::vector<uint8_t> rows = encode(spec_.dtype, x_values_);
  std::vector<uint8_t> image(spec_.misaligned * 2 + rows.size(), 0xFF);
  std::copy(rows.begin(), rows.end(), image.begin() + spec_.misaligned * 2);
  x_ = std::make_unique<DeviceArray<uint8_t>>(image);
}

void StoredProblem::make_matrices() {
  const auto put = [&](std::vector<std::vector<float>>* weights) -> const void* {
    const QuantisedMatrix matrix(spec_.format, spec_.rows, spec_.cols, spec_.scales, &random_);
    weights->push_back(matrix.weights());
    memory_.emplace_back(packed_matrix(matrix, 16));
    return memory_.back().data();
  };
  std::vector<const void*> gate(spec_.counts.size(), nullptr);
  std::vector<const void*> up(spec_.counts.size(), nullptr);
  for (size_t e = 0; e < spec_.counts.size(); ++e) {
    if (spec_.counts[e] == 0) {  // an expert without tokens is not here
      gate_weights_.emplace_back();
      up_weights_.emplace_back();
      continue;
    }
    if (spec_.gated) gate[e] = put(&gate_weights_);
    up[e] = put(&up_weights_);
  }
  gate_table_ = std::make_unique<DeviceArray<const void*>>(gate);
  up_table_ = std::make_unique<DeviceArray<const void*>>(up);
}

MatmulShape StoredProblem::shape() const {
  MatmulShape shape = {};
  shape.dtype = spec_.dtype;
  shape.stored = &spec_.format;
  shape.gated = spec_.gated ? 1 : 0;
  shape.rows = spec_.rows;
  shape.cols = spec_.cols;
  shape.num_experts = static_cast<int64_t>(spec_.counts.size());
  shape.top_k = 1;
  shape.num_tokens = num_entries_;
  return shape;
}

std::vector<float> StoredProblem::run(const std::string& what) {
  return run(sparse_experts::cuda::choose_matmul(shape(), current().limits), what);
}

std::vector<float> StoredProblem::run(const MatmulConfig& config, const std::string& what) {
  const DeviceTiles tiles(offsets_, config.tile_tokens);
  constexpr int64_t kPadding = 3;  // outputs between rows, which stay poison
  const int64_t stride = spec_.rows + kPadding;
  const DeviceArray<float> out(num_entries_ * stride);
  ExpertMatmulKernelArgs args = {};
  args.dtype = spec_.dtype;
  args.apply_activation = spec_.gated ? 1 : 0;
  args.activation = {SE_SILU, spec_.gated ? 1 : 0, 1.0f, 0.0f, 0.0f, 0.0f};
  args.num_groups = 1;
  args.stored[0] = &spec_.format;
  MatmulGroup& group = args.groups[0];
  group.num_experts = static_cast<int32_t>(spec_.counts.size());
  group.gate = spec_.gated ? gate_table_->data() : nullptr;
  group.up = up_table_->data();
  group.rows = spec_.rows;
  group.cols = spec_.cols;
  group.x = x_->data() + spec_.misaligned * 2;
  group.x_stride = spec_.cols;
  group.top_k = 1;
  tiles.name_in(&group);
  group.num_rows = num_entries_;
  group.out = out.data();
  group.out_dtype = SE_F32;
  group.out_stride = stride;
  if (!synced(launch_expert_matmul(args, config, nullptr), what)) return {};
  const std::vector<float> all = out.download();
  std::vector<float> wanted;
  for (int64_t i = 0; i < num_entries_; ++i) {
    wanted.insert(wanted.end(), all.begin() + i * stride, all.begin() + i * stride + spec_.rows);
    check_poison(all, static_cast<size_t>(i * stride + spec_.rows), kPadding, what);
  }
  return wanted;
}

double StoredProblem::expected(int64_t entry, size_t expert, int64_t row) const {
  const double* x = x_values_.data() + entry * spec_.cols;
  const auto product = [&](const std::vector<float>& weights) {
    double sum = 0;
    for (int64_t k = 0; k < spec_.cols; ++k)
      sum += x[k] * static_cast<double>(weights[static_cast<size_t>(row * spec_.cols + k)]);
    return sum;
  };
  const double up = product(up_weights_[expert]);
  if (!spec_.gated) return up;
  const double gate = product(gate_weights_[expert]);
  return gate / (1 + std::exp(-gate)) * up;
}

void StoredProblem::check_outputs(const std::vector<float>& out, const std::string& what) const {
  std::vector<double> all;
  for (size_t e = 0; e + 1 < offsets_.size(); ++e) {
    for (int64_t entry = offsets_[e]; entry < offsets_[e + 1]; ++entry)
      for (int64_t row = 0; row < spec_.rows; ++row) all.push_back(expected(entry, e, row));
  }
  // Products and scales are rounded to f32, and so is each sum of a group: as of plain rows. Offsets
  // add a term of the size of the sum's that they take away.
  const double terms = spec_.format.offset == SE_OFFSET_NONE ? 1 : 4;
  const double bound = terms * (5e-7 + 3e-7 * std::sqrt(static_cast<double>(spec_.cols)));
  check_close(to_doubles(out), all, bound, what);
}

}  // namespace native_test
