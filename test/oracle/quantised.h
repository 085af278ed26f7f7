// Random quantised matrices, and what their weights are: the words of SeMatrixFormat, written out
// once more. Shares nothing with the backends but the structs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "cpp/random.h"

namespace native_test {

struct QuantisedKind {
  std::string name;
  SeMatrixFormat format;
};

// Formats as checkpoints have them, blocks of other lengths, and `cols` columns where a scale
// belongs to a row or a matrix.
std::vector<QuantisedKind> quantised_kinds(int64_t rows, int64_t cols);

enum class Scales {
  kUsual,     // weights of a deviation near 1 / sqrt(cols), as in a trained layer
  kAnyInRows  // in some rows also subnormal, zero, infinite and NaN
};

// Permuted matrices of one format and width have one order of columns, as gate and up of a checkpoint
// most often do; those whose scales are of another type have another.
class QuantisedMatrix {
 public:
  QuantisedMatrix(const SeMatrixFormat& format, int64_t rows, int64_t cols, Scales scales,
                  Random* random);

  // [rows, cols], the columns in the layer's order; rounded to f32 after each operation.
  std::vector<float> weights() const;
  // Rows [first, first + count) as SeBackend.matrix_write takes them; `matrix` is the caller's.
  SeMatrixRows rows_of(int64_t first, int64_t count, int32_t dtype, void* matrix) const;

  SeMatrixFormat format;
  int64_t rows;
  int64_t cols;

 private:
  float weight(int64_t row, int64_t col) const;  // of a stored column
  float scale_of(int64_t row, int64_t block) const;

  int64_t stride_;
  int64_t num_blocks_;
  int64_t num_supers_;
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> scales_;
  std::vector<uint8_t> offsets_;
  std::vector<uint16_t> super_scales_;
  std::vector<uint16_t> super_offsets_;
  float global_ = 1;
  std::vector<int32_t> permutation_;  // [cols] where the format is permuted
};

// Equal bits, or both NaN, element by element.
bool same_floats(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace native_test
