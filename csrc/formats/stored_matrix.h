// A stored matrix, row by row: decoded to floats, or in its canonical form, which is the same weights
// as codes, scales and offsets (SeMatrixFormat), not yet multiplied.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "formats/decode.h"

namespace sparse_experts {

// The canonical form that a stored matrix [rows, cols] has, from the types and lengths of its
// tensors alone (spans may lack data). False where there is none: it can only be decoded. What only
// group indices themselves tell, whether groups are alike, StoredMatrix finds out.
bool canonical_format(const EncodedMatrix& source, int64_t rows, int64_t cols,
                      SeMatrixFormat* format);

// Rows first, first + step, first + 2 * step ... of a stored matrix.
struct RowRun {
  int64_t first = 0;
  int64_t step = 1;
  int64_t count = 0;
};

// A run of rows as SeMatrixRows wants them: dense, empty where the format has none.
struct CanonicalRows {
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scales;
  std::vector<uint8_t> offsets;
  std::vector<uint16_t> super_scales;
  std::vector<uint16_t> super_offsets;
  float global = 1;
  // [cols], the matrix's own: column c of the codes is column permutation[c] of the layer. NULL: c.
  const int32_t* permutation = nullptr;
};

// Spans of the source must outlive it.
class StoredMatrix {
 public:
  // Checks every length and reads nothing outside the spans.
  static Status open(const EncodedMatrix& source, int64_t rows, int64_t cols,
                     std::unique_ptr<StoredMatrix>* matrix);
  ~StoredMatrix();
  StoredMatrix(const StoredMatrix&) = delete;
  StoredMatrix& operator=(const StoredMatrix&) = delete;

  // The canonical form; NULL where there is none. A matrix with group indices has its columns in the
  // order of their groups (SE_FORMAT_PERMUTED), and no form where a group has more columns or fewer
  // than the others: blocks are alike but for the last, which may be shorter.
  const SeMatrixFormat* format() const { return has_format_ ? &format_ : nullptr; }
  // Rows in that form.
  void read(const RowRun& run, CanonicalRows* out) const;
  // Rows as dense values of a dtype (SeDtype: f32, f16, bf16), formed in f32 and rounded once.
  void decode(const RowRun& run, int32_t dtype, void* out) const;

 private:
  struct State;
  StoredMatrix();

  std::unique_ptr<State> state_;
  bool has_format_ = false;
  SeMatrixFormat format_ = {};
};

}  // namespace sparse_experts
