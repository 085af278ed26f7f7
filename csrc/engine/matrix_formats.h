// In which formats a layer's matrices are held: what the caller wishes, what the checkpoint stores, and
// what the backend computes in place.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/executor.h"
#include "engine/matrix_slot.h"
#include "formats/decode.h"

namespace sparse_experts::engine {

// What a caller wishes. kAuto and kStored differ in what the caller makes of a matrix that is not held
// as it is stored.
enum class WeightsMode : int32_t { kAuto, kStored, kExpand, kInt8, kInt4 };

// A matrix of a layer, and how it is stored: types and lengths of its tensors, no data.
struct StoredSource {
  MatrixRole role = MatrixRole::kExpert;
  int64_t expert = 0;
  MatrixKind kind = MatrixKind::kDown;
  int64_t rows = 0;
  int64_t cols = 0;
  EncodedMatrix encoding;
  bool has_uneven_groups =
      false;  // group indices give groups different sizes: it can only be decoded
};

struct ChosenFormat {
  SeMatrixFormat format = {};  // that the backend holds; of fused matrices, of both halves
  bool is_stored = false;      // the weights are those of the source, exactly
};

// The dtype's values as the backend holds them. Throws INVALID_ARGUMENT where it holds none.
SeMatrixFormat expanded_format(const DeviceExecutor& executor, int32_t dtype);

// The format of each matrix of a layer. Where the backend's matmuls read matrices of one format alone,
// those of a matmul that would differ are all expanded.
std::vector<ChosenFormat> choose_formats(const DeviceExecutor& executor, int32_t dtype,
                                         WeightsMode mode, const std::vector<StoredSource>& sources,
                                         bool is_interleaved);

// The canonical format of each half of fused gate and up rows, of which there are `rows` in both.
SeMatrixFormat half_format(SeMatrixFormat format, int64_t rows, bool is_interleaved);

}  // namespace sparse_experts::engine
