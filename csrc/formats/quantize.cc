#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/matrix_format.h"
#include "formats/scalars.h"

namespace sparse_experts {
namespace {

constexpr int64_t kBlock = 32;

struct Extremes {
  float magnitude = 0;
  float value = 0;  // of that magnitude, the first one
  bool has_nan = false;
};

Extremes extremes_of(const float* values, int64_t count) {
  Extremes found;
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(values[i]);
    found.has_nan = found.has_nan || std::isnan(magnitude);
    if (magnitude > found.magnitude) {
      found.magnitude = magnitude;
      found.value = values[i];
    }
  }
  return found;
}

// A block that is not finite stays so: its scale is NaN, and so are its weights.
constexpr uint16_t kNanF16 = 0x7e00;

uint16_t quantize8(const float* values, int64_t count, uint8_t* codes) {
  const Extremes extremes = extremes_of(values, count);
  if (extremes.has_nan || std::isinf(extremes.magnitude)) {
    std::fill_n(codes, count, uint8_t{1});
    return kNanF16;
  }
  const float scale = extremes.magnitude / 127.0f;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(static_cast<int8_t>(std::round(values[i] * inverse)));
  return encode_f16(scale);
}

uint16_t quantize4(const float* values, int64_t count, uint8_t* codes) {
  const Extremes extremes = extremes_of(values, count);
  if (extremes.has_nan || std::isinf(extremes.magnitude)) {
    std::fill_n(codes, count, uint8_t{0});
    return kNanF16;
  }
  const float scale = extremes.value / -8.0f;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const auto shifted = static_cast<int>(values[i] * inverse + 8.5f);
    codes[i] = static_cast<uint8_t>(std::min(15, shifted));
  }
  return encode_f16(scale);
}

}  // namespace

SeMatrixFormat quantized_format(QuantizedBits bits, int64_t cols) {
  SeMatrixFormat format = {};
  format.code = bits == QuantizedBits::k8 ? SE_CODE_I8 : SE_CODE_U4;
  format.table = bits == QuantizedBits::k8 ? SE_TABLE_NONE : SE_TABLE_Q8;
  format.scale = SE_SCALE_F16;
  format.block_rows = 1;
  format.block_cols = std::min(kBlock, cols);
  return format;
}

void quantize_rows(QuantizedBits bits, const float* rows, int64_t num_rows, int64_t cols,
                   CanonicalRows* out) {
  const SeMatrixFormat format = quantized_format(bits, cols);
  const int64_t blocks = num_blocks(format, cols);
  out->codes.resize(static_cast<size_t>(num_rows * cols));
  out->scales.resize(static_cast<size_t>(num_rows * blocks) * sizeof(uint16_t));
  out->offsets.clear();
  out->super_scales.clear();
  out->super_offsets.clear();
  out->global = 1;
  const auto quantize = bits == QuantizedBits::k8 ? quantize8 : quantize4;
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = row * cols + block * kBlock;
      const int64_t count = std::min(kBlock, cols - block * kBlock);
      const uint16_t scale = quantize(rows + first, count, out->codes.data() + first);
      std::memcpy(out->scales.data() + (row * blocks + block) * 2, &scale, sizeof scale);
    }
  }
}

}  // namespace sparse_experts
