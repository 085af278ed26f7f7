#include "cpu/stages.h"

#include <algorithm>
#include <cstring>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpu/device.h"
#include "cpu/host_buffer.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/ops/capacity.h"
#include "cpu/ops/dispatch.h"
#include "cpu/ops/router.h"
#include "ops/checks.h"

namespace sparse_experts::cpu {
namespace {

Status end_of(const RunContext& context) {
  return context.is_cancelled() ? Status::cancelled() : Status::ok();
}

// Weights, biases and activation of expert e as a segment; x, rows and output are left to the
// caller.
MatmulSegment expert_segment(const SeExpertMatmulArgs& args, int64_t e) {
  const SeTensor& weights = args.weights;
  const bool gated = args.apply_activation && args.activation.gated;
  const int64_t row_stride = weights.strides[1];
  MatmulSegment segment;
  segment.gate_format = segment.up_format = float_format(weights.dtype);
  segment.n = gated ? weights.shape[1] / 2 : weights.shape[1];
  segment.k = weights.shape[2];
  segment.activation = args.apply_activation ? &args.activation : nullptr;
  const int64_t element_bytes = dtype_bytes(weights.dtype);
  const char* base =
      static_cast<const char*>(weights.data) + e * weights.strides[0] * element_bytes;
  const float* bias = args.bias.data == nullptr
                          ? nullptr
                          : static_cast<const float*>(args.bias.data) + e * args.bias.strides[0];
  segment.up = base;
  segment.up_stride = row_stride;
  segment.up_bias = bias;
  if (!gated) return segment;
  // First row of "up", and the step between rows of one kind.
  const int64_t first_up = args.interleaved ? 1 : segment.n;
  const int64_t step = args.interleaved ? 2 : 1;
  segment.gate = base;
  segment.gate_stride = row_stride * step;
  segment.up = base + first_up * row_stride * element_bytes;
  segment.up_stride = row_stride * step;
  segment.gate_bias = bias;
  segment.up_bias = bias == nullptr ? nullptr : bias + first_up;
  segment.gate_bias_stride = step;
  segment.up_bias_stride = step;
  return segment;
}

}  // namespace

Status gate_stage(const RunContext& context, const SeGateArgs& args) {
  RouterMatmul router;
  router.input = &args.hidden;
  router.weight = args.router_weight.data;
  router.weight_dtype = args.router_weight.dtype;
  router.weight_stride = args.router_weight.strides[0];
  router.num_experts = args.router_weight.shape[0];
  router.hidden_size = args.hidden.shape[1];
  router.bias = args.bias;
  const int64_t num_tokens = args.hidden.shape[0];
  const int64_t chunk_tokens = std::clamp<int64_t>((8 << 20) / (router.hidden_size + 1), 64, 4096);
  HostBuffer buffer;
  if (router.needs_buffer())
    SE_RETURN_IF_ERROR(
        buffer.allocate(std::min(num_tokens, chunk_tokens) * router.hidden_size * 4));
  for (int64_t first = 0; first < num_tokens; first += chunk_tokens)
    router_logits(context, router, first, std::min(chunk_tokens, num_tokens - first),
                  buffer.as<float>(), args.router_logits + first * router.num_experts);
  return end_of(context);
}

Status select_stage(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args) {
  prepare_select(context, routing, args);
  select_rows(context, routing, args, args.router_logits, 0, args.num_tokens);
  apply_capacity(context, routing, args);
  return end_of(context);
}

Status dispatch_stage(const SeDispatchArgs& args) {
  counting_sort(
      args.num_slots, args.num_experts, [&](int64_t slot) { return args.topk_ids[slot]; },
      args.expert_offsets, args.sorted_slots);
  return Status::ok();
}

Status expert_matmul_stage(const RunContext& context, const SeExpertMatmulArgs& args) {
  const SeTensor& x = args.x;
  const SeTensor& output = args.output;
  const int64_t num_experts = args.weights.shape[0];
  const int64_t num_dispatched = args.expert_offsets[num_experts];
  float* out = static_cast<float*>(output.data);
  context.for_rows(args.num_slots, output.shape[1], [&](int64_t first, int64_t last) {
    for (int64_t slot = first; slot < last; ++slot)
      std::memset(out + slot * output.strides[0], 0, output.shape[1] * sizeof(float));
  });
  if (num_dispatched == 0) return end_of(context);

  // Rows of x in the type that the kernels multiply.
  const bool bf16 = has_bf16_product(*context.kernels) && args.weights.dtype == SE_BF16;
  const int64_t width = x.shape[1];
  const void* rows = x.data;
  int64_t row_stride = x.strides[0];
  HostBuffer converted;
  if (x.dtype != (bf16 ? SE_BF16 : SE_F32)) {
    const int64_t wide_bytes = bf16 ? 2 : 4;
    SE_RETURN_IF_ERROR(converted.allocate(x.shape[0] * width * wide_bytes));
    const char* from = static_cast<const char*>(x.data);
    const int64_t from_bytes = x.strides[0] * dtype_bytes(x.dtype);
    context.for_rows(x.shape[0], width, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        convert_row(*context.kernels, from + row * from_bytes, x.dtype,
                    converted.as<char>() + row * width * wide_bytes, bf16 ? SE_BF16 : SE_F32,
                    width);
    });
    rows = converted.as<void>();
    row_stride = width;
  }
  HostBuffer tokens;
  const int32_t* x_rows = args.sorted_slots;
  if (args.gather) {
    SE_RETURN_IF_ERROR(tokens.allocate(num_dispatched * sizeof(int32_t)));
    int32_t* token_rows = tokens.as<int32_t>();
    for (int64_t i = 0; i < num_dispatched; ++i)
      token_rows[i] = static_cast<int32_t>(args.sorted_slots[i] / args.top_k);
    x_rows = token_rows;
  }
  std::vector<MatmulSegment>& segments = context.device->segments;
  segments.clear();
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t first = args.expert_offsets[e];
    const int64_t num_rows = args.expert_offsets[e + 1] - first;
    if (num_rows == 0) continue;
    MatmulSegment segment = expert_segment(args, e);
    segment.num_rows = num_rows;
    segment.x = {rows, RowLayout::whole(row_stride), x_rows + first};
    segment.x_is_bf16 = bf16;
    segment.out = out;
    segment.out_layout = RowLayout::whole(output.strides[0]);
    segment.out_rows = args.sorted_slots + first;
    segments.push_back(segment);
  }
  run_segments(context);
  return end_of(context);
}

Status combine_stage(const RunContext& context, const SeCombineArgs& args) {
  constexpr int64_t kColumns = 1024;
  const SeTensor& rows = args.expert_output;
  const int64_t hidden_size = rows.shape[1];
  const int64_t out_bytes = dtype_bytes(args.output.dtype);
  const float* from = static_cast<const float*>(rows.data);
  std::vector<bool> listed;
  if (args.expert_offsets != nullptr) {
    listed.resize(static_cast<size_t>(args.num_tokens * args.top_k));
    for (int64_t i = 0; i < args.expert_offsets[args.num_experts]; ++i)
      listed[args.sorted_slots[i]] = true;
  }
  const auto counts = [&](int64_t slot) {
    if (args.expert_offsets != nullptr) return static_cast<bool>(listed[slot]);
    return args.topk_ids == nullptr || args.topk_ids[slot] >= 0;
  };
  context.for_rows(args.num_tokens, hidden_size * args.top_k, [&](int64_t first, int64_t last) {
    float sum[kColumns];
    for (int64_t token = first; token < last; ++token) {
      for (int64_t col = 0; col < hidden_size; col += kColumns) {
        const int64_t n = std::min(kColumns, hidden_size - col);
        std::memset(sum, 0, n * sizeof(float));
        for (int64_t slot = token * args.top_k; slot < (token + 1) * args.top_k; ++slot) {
          if (!counts(slot)) continue;
          context.kernels->axpy(sum, from + slot * rows.strides[0] + col, args.topk_weights[slot],
                                n);
        }
        char* out = static_cast<char*>(args.output.data) +
                    (token * args.output.strides[0] + col) * out_bytes;
        context.kernels->narrow(out, args.output.dtype, sum, n);
      }
    }
  });
  return end_of(context);
}

}  // namespace sparse_experts::cpu
