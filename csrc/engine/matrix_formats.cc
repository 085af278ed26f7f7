#include "engine/matrix_formats.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "core/matrix_format.h"
#include "formats/quantize.h"

namespace sparse_experts::engine {

SeMatrixFormat expanded_format(const DeviceExecutor& executor, int32_t dtype) {
  SeMatrixFormat format = float_format(dtype);
  const int32_t support = executor.backend().matrix_format(executor.device(), dtype, &format);
  // Values are written as floats.
  if (support == SE_FORMAT_NO || !is_float_format(format)) {
    fail_argument("The device does not hold matrices of this dtype");
  }
  return format;
}

namespace {

// Floats are converted to the layer's dtype unless they are narrower, because reading wider ones
// costs more than their exactness is worth to most; kStored keeps them.
bool is_expanded(const SeMatrixFormat& format, int32_t dtype, WeightsMode mode) {
  if (mode == WeightsMode::kExpand) return true;
  const int32_t own = float_format(dtype).code;
  return mode == WeightsMode::kAuto && is_float_format(format) && format.code != own &&
         code_bits(format.code) >= code_bits(own);
}

}  // namespace

SeMatrixFormat half_format(SeMatrixFormat format, int64_t rows, bool is_interleaved) {
  if (format.block_rows == 0 || format.block_rows >= rows) return format;
  if (is_interleaved) {
    format.block_rows = format.block_rows % 2 == 0 ? format.block_rows / 2 : 1;
  } else {
    // A block may end in the middle of another one, counted from the first row of the second half.
    format.block_rows = std::gcd(format.block_rows, rows / 2);
  }
  return format;
}

namespace {

ChosenFormat choose_format(const DeviceExecutor& executor, int32_t dtype, WeightsMode mode,
                           const StoredSource& source, bool is_interleaved) {
  ChosenFormat chosen;
  const bool has_form =
      canonical_format(source.encoding, source.rows, source.cols, &chosen.format) &&
      !source.has_uneven_groups;
  if (has_form && source.kind == MatrixKind::kGateUp)
    chosen.format = half_format(chosen.format, source.rows, is_interleaved);
  if (mode == WeightsMode::kInt8 || mode == WeightsMode::kInt4) {
    const auto bits = mode == WeightsMode::kInt8 ? QuantizedBits::k8 : QuantizedBits::k4;
    const SeMatrixFormat wanted = quantized_format(bits, source.cols);
    chosen.is_stored = has_form && is_same_format(chosen.format, wanted);
    chosen.format = wanted;
  } else if (has_form && !is_expanded(chosen.format, dtype, mode)) {
    chosen.is_stored = true;
  } else {
    return {expanded_format(executor, dtype), false};
  }
  const SeBackend& backend = executor.backend();
  const ChosenFormat expanded = {expanded_format(executor, dtype), false};
  SeMatrixFormat held = chosen.format;
  if (!has_whole_blocks(held, source.cols) ||
      backend.matrix_format(executor.device(), dtype, &held) != SE_FORMAT_AS_IS)
    return expanded;
  // Panels of a small matrix, padded, may be larger than its values.
  const int64_t rows = source.kind == MatrixKind::kGateUp ? source.rows / 2 : source.rows;
  const auto bytes = [&](const SeMatrixFormat& format) {
    return backend.matrix_bytes(executor.device(), rows, source.cols, dtype, &format);
  };
  if (mode == WeightsMode::kAuto && bytes(held) > bytes(expanded.format)) return expanded;
  return chosen;
}

}  // namespace

std::vector<ChosenFormat> choose_formats(const DeviceExecutor& executor, int32_t dtype,
                                         WeightsMode mode, const std::vector<StoredSource>& sources,
                                         bool is_interleaved) {
  std::vector<ChosenFormat> chosen;
  chosen.reserve(sources.size());
  for (const StoredSource& source : sources)
    chosen.push_back(choose_format(executor, dtype, mode, source, is_interleaved));
  if (executor.backend().mixes_formats != 0) return chosen;
  // Gate and up of the experts of a role are read together, and so are their down matrices.
  std::map<std::pair<MatrixRole, bool>, std::vector<size_t>> matmuls;
  for (size_t i = 0; i < sources.size(); ++i)
    matmuls[{sources[i].role, sources[i].kind == MatrixKind::kDown}].push_back(i);
  for (const auto& [matmul, matrices] : matmuls) {
    const SeMatrixFormat& first = chosen[matrices[0]].format;
    const bool is_one = std::all_of(matrices.begin(), matrices.end(), [&](size_t i) {
      return is_same_format(chosen[i].format, first);
    });
    if (is_one) continue;
    for (const size_t i : matrices) chosen[i] = {expanded_format(executor, dtype), false};
  }
  return chosen;
}

}  // namespace sparse_experts::engine
