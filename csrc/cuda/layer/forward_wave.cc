// See forward_wave.h. Its matmuls: forward_wave_matmuls.cc.
#include "cuda/layer/forward_wave.h"

#include "core/dtype.h"
#include "cuda/ops/dispatch.h"
#include "cuda/ops/elementwise.h"
#include "cuda/ops/router.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Rows that the caller left at odd places are read by kernels that can.
BulkReady bulk_ready(const LayerMaps& maps, const ForwardArrays& arrays) {
  BulkReady ready = maps.ready();
  const int64_t row_bytes = arrays.hidden_stride * dtype_bytes(arrays.hidden_dtype);
  const bool aligned =
      (reinterpret_cast<uintptr_t>(arrays.hidden) | static_cast<uintptr_t>(row_bytes)) % 16 == 0;
  ready.gate_up = ready.gate_up && aligned;
  ready.shared_gate_up = ready.shared_gate_up && aligned;
  return ready;
}

}  // namespace

ForwardWave::ForwardWave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
                         int64_t num_tokens)
    : queue_(queue),
      layer_(queue.layer),
      plan_(queue.plan),
      first_token_(first),
      num_tokens_(num_tokens),
      num_slots_(num_tokens * queue.layer.routing.top_k),
      configs_(choose_wave_configs(queue.layer, queue.options, queue.plan,
                                   queue.device.limits().device, bulk_ready(queue.maps, arrays),
                                   num_tokens)),
      hidden_{row_of(arrays.hidden, arrays.hidden_dtype, arrays.hidden_stride, first),
              arrays.hidden_dtype, arrays.hidden_stride},
      topk_ids_(arrays.topk_ids + first * queue.layer.routing.top_k),
      topk_weights_(arrays.topk_weights + first * queue.layer.routing.top_k),
      non_finite_(arrays.non_finite + first),
      output_(const_cast<void*>(
          row_of(arrays.output, arrays.hidden_dtype, arrays.output_stride, first))),
      output_stride_(arrays.output_stride),
      needs_shared_(queue.layer.shared.num_experts > 0) {}

float* ForwardWave::slot_rows() const { return at<float>(plan_.expert_output); }

Status ForwardWave::begin() {
  SE_RETURN_IF_ERROR(sort_slots(queue_.present));
  return prepare_inputs();
}

Status ForwardWave::run_all() { return queue_matmuls(has_routed()); }

Status ForwardWave::run_chosen(const void* const* chosen) {
  SE_RETURN_IF_ERROR(sort_slots(chosen));
  SE_RETURN_IF_ERROR(weight_inputs());
  return queue_matmuls(has_routed());
}

// Slots of experts that count, of rows that routing left finite.
Status ForwardWave::sort_slots(const void* const* present) const {
  if (!has_routed()) return Status::ok();
  DispatchKernelArgs dispatch{};
  dispatch.topk_ids = topk_ids_;
  dispatch.non_finite = non_finite_;
  dispatch.present = present;
  dispatch.num_slots = num_slots_;
  dispatch.top_k = layer_.routing.top_k;
  dispatch.num_experts = layer_.experts.num_experts;
  dispatch.expert_offsets = at<int32_t>(plan_.expert_offsets);
  dispatch.sorted_slots = at<int32_t>(plan_.sorted_slots);
  dispatch.tile_tokens[0] = configs_.gate_up.tile_tokens;
  dispatch.tiles[0] = at<TileRecord>(plan_.tiles[0]);
  dispatch.num_tiles = at<int32_t>(plan_.num_tiles);
  if (has_second_tiles()) {
    dispatch.tile_tokens[1] = configs_.down.tile_tokens;
    dispatch.tiles[1] = at<TileRecord>(plan_.tiles[1]);
  }
  dispatch.scratch = at<void>(plan_.dispatch_scratch);
  return launched(launch_dispatch(dispatch, stream()), "dispatch");
}

Status ForwardWave::convert(const Rows& rows, int64_t cols, int32_t dtype, uint64_t offset,
                            Rows* converted) const {
  ConvertArgs args{};
  args.from = rows.data;
  args.from_dtype = rows.dtype;
  args.from_stride = rows.stride;
  args.to = at<void>(offset);
  args.to_dtype = dtype;
  args.to_stride = cols;
  args.rows = num_tokens_;
  args.cols = cols;
  *converted = {args.to, dtype, args.to_stride};
  return launched(launch_convert(args, stream()), "convert");
}

Status ForwardWave::prepare_inputs() {
  Rows act = hidden_;
  if (hidden_.dtype != plan_.dtype && (has_routed() || has_latent()))
    SE_RETURN_IF_ERROR(convert(hidden_, layer_.hidden_size, plan_.dtype, plan_.hidden, &act));
  shared_input_ = act;
  if (has_shared() && layer_.shared.dtype != act.dtype) {
    if (layer_.shared.dtype == hidden_.dtype) {
      shared_input_ = hidden_;
    } else {
      const bool own = plan_.shared_input != ForwardPlan::kNone;
      SE_RETURN_IF_ERROR(convert(hidden_, layer_.hidden_size, layer_.shared.dtype,
                                 own ? plan_.shared_input : plan_.hidden, &shared_input_));
    }
  }
  expert_input_ = act;
  if (has_latent()) {
    expert_input_ = {at<void>(plan_.latent), plan_.dtype, plan_.width};
    SE_RETURN_IF_ERROR(project(layer_.latent_down, act, at<void>(plan_.latent), plan_.dtype,
                               configs_.latent_down, "latent_down"));
  }
  return weight_inputs();
}

// Llama 4: each expert reads weight * x. Rows lie in sorted order.
Status ForwardWave::weight_inputs() const {
  if (!layer_.weight_on_input || !has_routed()) return Status::ok();
  ScaleRowsArgs scale{};
  scale.from = expert_input_.data;
  scale.from_stride = expert_input_.stride;
  scale.to = at<void>(plan_.scaled);
  scale.dtype = plan_.dtype;
  scale.weights = topk_weights_;
  scale.slots = at<int32_t>(plan_.sorted_slots);
  scale.num_sorted = at<int32_t>(plan_.expert_offsets) + layer_.experts.num_experts;
  scale.num_slots = num_slots_;
  scale.top_k = layer_.routing.top_k;
  scale.cols = plan_.width;
  return launched(launch_scale_rows(scale, stream()), "scale_rows");
}

CombineKernelArgs ForwardWave::slot_sum() const {
  CombineKernelArgs combine{};
  combine.num_tokens = num_tokens_;
  combine.top_k = layer_.routing.top_k;
  combine.expert_output = at<float>(plan_.expert_output);
  combine.topk_ids = topk_ids_;
  combine.topk_weights = topk_weights_;
  combine.weights_applied = 1;
  combine.num_experts = layer_.experts.num_experts;
  combine.present = queue_.present;
  combine.hidden = hidden_.data;
  combine.hidden_dtype = hidden_.dtype;
  combine.hidden_stride = hidden_.stride;
  combine.non_finite = non_finite_;
  return combine;
}

// The norm of the latent sums, f32, and their rounding to the experts' dtype.
Status ForwardWave::normalize_latent(float* rows) const {
  RowNormArgs norm{};
  norm.input = rows;
  norm.input_dtype = SE_F32;
  norm.input_stride = plan_.width;
  norm.scale = layer_.latent_norm;
  norm.epsilon = layer_.latent_norm_epsilon;
  norm.gain = 1;
  norm.num_tokens = num_tokens_;
  norm.hidden_size = plan_.width;
  norm.rows = rows;
  SE_RETURN_IF_ERROR(launched(launch_row_norm(norm, stream()), "latent norm"));
  if (plan_.dtype == SE_F32) return Status::ok();
  Rows sums{};
  return convert({rows, SE_F32, plan_.width}, plan_.width, plan_.dtype, plan_.latent_sum, &sums);
}

Status ForwardWave::finish() {
  if (needs_shared_) SE_RETURN_IF_ERROR(queue_matmuls(false));
  CombineKernelArgs combine = slot_sum();
  if (has_latent()) {
    combine.hidden_size = plan_.width;
    const bool has_rows = plan_.latent_rows != ForwardPlan::kNone;
    combine.output = at<void>(has_rows ? plan_.latent_rows : plan_.latent_sum);
    combine.output_dtype = has_rows ? static_cast<int32_t>(SE_F32) : plan_.dtype;
    combine.output_stride = plan_.width;
    SE_RETURN_IF_ERROR(launched(launch_combine(combine, stream()), "latent sum"));
    if (layer_.latent_norm != nullptr)
      SE_RETURN_IF_ERROR(normalize_latent(static_cast<float*>(combine.output)));
    const Rows sums = {at<void>(plan_.latent_sum), plan_.dtype, plan_.width};
    SE_RETURN_IF_ERROR(project(layer_.latent_up, sums, at<void>(plan_.projected), SE_F32,
                               configs_.latent_up, "latent_up"));
    combine.projected = at<float>(plan_.projected);
  }
  combine.hidden_size = layer_.hidden_size;
  combine.output = output_;
  combine.output_dtype = hidden_.dtype;
  combine.output_stride = output_stride_;
  combine.output_bias = layer_.output_bias;
  if (has_shared()) {
    combine.shared_output = at<float>(plan_.shared_output);
    combine.shared_gate_mode = layer_.shared_gate_mode;
    if (layer_.shared_gate_mode != SE_SHARED_PLAIN) {
      auto* coefficients = at<float>(plan_.shared_coefficients);
      combine.shared_coefficients = coefficients;
      SE_RETURN_IF_ERROR(launched(
          launch_shared_coefficients(hidden_.data, hidden_.dtype, hidden_.stride,
                                     layer_.shared_gate, layer_.shared_logit_bias, num_tokens_,
                                     layer_.hidden_size, coefficients, stream()),
          "shared_coefficients"));
    }
  }
  return launched(launch_combine(combine, stream()), "combine");
}

Status queue_wave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
                  int64_t num_tokens) {
  ForwardWave wave(queue, arrays, first, num_tokens);
  SE_RETURN_IF_ERROR(wave.begin());
  SE_RETURN_IF_ERROR(wave.run_all());
  return wave.finish();
}

}  // namespace sparse_experts::cuda
