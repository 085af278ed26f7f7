#include "cpu/ops/router.h"

#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpu/device.h"

namespace sparse_experts::cpu {
namespace {

// q = r / sqrt(mean(r^2) + epsilon) * scale * hidden_size^-0.5, in place (Gemma 4).
void normalize_row(const RouterMatmul& router, float* row) {
  const int64_t n = router.hidden_size;
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(row[i]) * row[i];
  const double size = static_cast<double>(n);
  const double factor = 1 / (std::sqrt(squares / size + router.norm_epsilon) * std::sqrt(size));
  for (int64_t i = 0; i < n; ++i)
    row[i] = static_cast<float>(row[i] * factor * router.input_scale[i]);
}

}  // namespace

std::vector<uint16_t> bf16_router(const SeMoeLayer& layer) {
  std::vector<uint16_t> halves;
  if (layer.router_weight == nullptr) return halves;
  const int64_t count = layer.routing.num_experts * layer.hidden_size;
  halves.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, layer.router_weight + i, sizeof bits);
    if ((bits & 0xffffu) != 0) return {};
    halves.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return halves;
}

void router_logits(const RunContext& context, const RouterMatmul& router, int64_t first,
                   int64_t num_rows, float* buffer, float* logits) {
  const SeTensor& input = *router.input;
  const int64_t hidden_size = router.hidden_size;
  const int64_t row_bytes = input.strides[0] * dtype_bytes(input.dtype);
  const char* rows = static_cast<const char*>(input.data) + first * row_bytes;
  MatmulSegment segment;
  segment.x = {rows, RowLayout::whole(input.strides[0])};
  if (router.needs_buffer()) {
    context.for_rows(num_rows, hidden_size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float* wide = buffer + row * hidden_size;
        context.kernels->widen(wide, rows + row * row_bytes, input.dtype, hidden_size);
        if (router.input_scale != nullptr) normalize_row(router, wide);
      }
    });
    segment.x = {buffer, RowLayout::whole(hidden_size)};
  }
  segment.num_rows = num_rows;
  segment.n = router.num_experts;
  segment.k = hidden_size;
  segment.up_format = float_format(router.weight_dtype);
  segment.up = router.weight;
  segment.up_stride = router.weight_stride;
  segment.up_bias = router.bias;
  segment.out = logits;
  segment.out_layout = RowLayout::whole(router.num_experts);
  context.device->segments.assign(1, segment);
  run_segments(context);
}

}  // namespace sparse_experts::cpu
