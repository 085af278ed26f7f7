// One grouped f32 matmul of random sizes, routing and options: its inputs on the device, what it
// should come to in double precision, and a launch of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/harness.h"
#include "cuda/kernels/any/f32_expert_matmul.h"

namespace native_test::matmul_f32 {

using sparse_experts::cuda::RowIndex;

enum class Routing { kUniform, kSkewed, kOneExpert, kHalfEmpty, kOneEach };

struct Case {
  const char* name;
  int64_t experts, tokens, top_k, rows, cols;
  bool gated = false;
  Routing routing = Routing::kUniform;
  RowIndex x_index = RowIndex::kToken;
  RowIndex out_index = RowIndex::kSlot;
  int32_t activation = -1;  // SeActivation; -1: none
  float alpha = 1, up_offset = 0, limit = 0;
  bool bias = false;
  int64_t bias_stride = 1;
  bool slot_weights = false;
  int64_t weight_pad = 0;    // columns behind each row of a matrix
  int64_t weight_shift = 0;  // floats before the matrices of odd experts
  int64_t x_pad = 0;
  int64_t x_shift = 0;
  int64_t out_pad = 0;
  int64_t shared_rows = 0;  // a second group, dense
  int64_t shared_cols = 0;
};

// Experts' tokens as dispatch leaves them.
struct Lists {
  std::vector<int32_t> offsets, slots;
  int64_t listed() const { return offsets.back(); }
  bool has(int64_t expert) const {
    return offsets[static_cast<size_t>(expert)] < offsets[static_cast<size_t>(expert) + 1];
  }
};

Lists sorted(const std::vector<int32_t>& ids, int64_t experts);

// Matrices of one kind: their values, and a table of where they lie.
struct Matrices {
  Matrices(Random& random, int64_t experts, int64_t rows, int64_t cols, int64_t stride,
           int64_t shift);
  float& at(int64_t e, int64_t r, int64_t k) {
    return values[static_cast<size_t>(starts[static_cast<size_t>(e)] + r * stride + k)];
  }
  // Null where the expert has no tokens.
  std::vector<const void*> table(const Lists& lists) const {
    std::vector<const void*> entries;
    for (size_t e = 0; e < starts.size(); ++e)
      entries.push_back(lists.has(static_cast<int64_t>(e)) ? device->data() + starts[e] : nullptr);
    return entries;
  }

  int64_t stride, pitch;
  std::vector<float> values;
  std::vector<int64_t> starts;
  std::unique_ptr<DeviceArray<float>> device;
};

struct Outputs {
  std::vector<float> routed, shared;
};

class Problem {
 public:
  Problem(const Case& c, uint64_t seed);

  const std::vector<int32_t>& ids() const { return ids_; }
  int64_t out_stride() const { return case_.rows + case_.out_pad; }
  float* x_row(int64_t row) { return x_.data() + row * x_stride_; }

  int64_t x_row_of(int64_t entry, int64_t slot) const {
    return case_.x_index == RowIndex::kSorted  ? entry
           : case_.x_index == RowIndex::kToken ? slot / case_.top_k
                                               : slot;
  }
  int64_t out_row_of(int64_t entry, int64_t slot) const {
    return case_.out_index == RowIndex::kSorted ? entry : slot;
  }
  float bias(int64_t matrix, int64_t expert, int64_t column) const {
    return bias_[static_cast<size_t>(bias_at(matrix, expert) + column * case_.bias_stride)];
  }

  void set_all(float weight, float x) {
    std::fill(up_.values.begin(), up_.values.end(), weight);
    up_.device->upload(up_.values);
    std::fill(x_.begin(), x_.end(), x);
  }

  // NaN in every row of x, and every slot weight, that the lists do not name.
  void poison_unlisted(const Lists& lists);

  // Everything in double; rows that no slot has stay NaN.
  std::vector<double> expected(const Lists& lists);

  std::vector<double> expected_shared();

  Outputs run(const Lists& lists, const sparse_experts::cuda::MatmulConfig& config,
              const std::string& what);

 private:
  int64_t bias_at(int64_t matrix, int64_t expert) const {
    return (matrix * case_.experts + expert) * case_.rows * case_.bias_stride;
  }

  Case case_;
  Random random_;
  std::vector<int32_t> ids_;
  Matrices gate_, up_, shared_gate_, shared_up_;
  int64_t x_stride_ = 0;
  int64_t x_rows_ = 0;
  std::vector<float> x_, shared_x_, slot_weights_, bias_;
};

}  // namespace native_test::matmul_f32
