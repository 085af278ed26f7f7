// A grouped matmul by quantised matrices as the kernel suites see it: random codes, scales and offsets,
// packed into device memory of exactly their size, and what a double loop over their weights gives.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device_tiles.h"
#include "cuda/harness.h"
#include "cuda/ops/expert_matmul.h"
#include "oracle/quantised.h"

namespace native_test {

struct StoredSpec {
  int32_t dtype = SE_BF16;
  bool gated = false;
  int64_t rows = 0;
  int64_t cols = 0;
  SeMatrixFormat format = {};
  std::vector<int64_t> counts;  // tokens of each expert
  int64_t misaligned = 0;       // elements before the first row of x
  bool one_hot = false;         // row i of x is 1 in column i % cols and 0 elsewhere
  Scales scales = Scales::kUsual;
  uint64_t seed = 1;
};

// As matrix_write brings them to the GPU, by pieces of `rows_at_once` rows.
std::vector<uint8_t> packed_matrix(const QuantisedMatrix& matrix, int64_t rows_at_once);

class StoredProblem {
 public:
  explicit StoredProblem(const StoredSpec& spec);

  sparse_experts::cuda::MatmulShape shape() const;
  // [entries, rows] f32, of a launch with poisoned outputs; empty after a failure.
  std::vector<float> run(const sparse_experts::cuda::MatmulConfig& config, const std::string& what);
  // By the shape's own configuration.
  std::vector<float> run(const std::string& what);
  // Against the double loop, by the sum's bound alone.
  void check_outputs(const std::vector<float>& out, const std::string& what) const;

  // Of one expert: from now on it has the last `count` of its first rows of x alone.
  void keep_last(int64_t count);
  const std::vector<float>& up_weights(size_t expert) const { return up_weights_[expert]; }

 private:
  void put_x();
  void make_matrices();
  double expected(int64_t entry, size_t expert, int64_t row) const;

  StoredSpec spec_;
  Random random_;
  int64_t num_entries_ = 0;
  std::vector<int32_t> offsets_;
  std::vector<double> all_x_;
  std::vector<double> x_values_;  // [entries, cols], rounded to the dtype
  std::vector<std::vector<float>> gate_weights_;
  std::vector<std::vector<float>> up_weights_;
  std::vector<DeviceArray<uint8_t>> memory_;
  std::unique_ptr<DeviceArray<uint8_t>> x_;
  std::unique_ptr<DeviceArray<const void*>> gate_table_;
  std::unique_ptr<DeviceArray<const void*>> up_table_;
};

}  // namespace native_test
