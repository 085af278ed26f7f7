// One wave of tokens:
//   sort slots by expert, with the tile tables of both matmuls
//   bring the rows into the arithmetic dtype; project into the latent space; weight them (Llama 4)
//   gate and up of routed and shared experts in one launch; then down of both
//   sum slots in order; project back; add shared experts and bias; round once
#include "cuda/layer/forward_wave.h"

#include "core/dtype.h"
#include "cuda/layer/forward_queue.h"
#include "cuda/ops/combine.h"
#include "cuda/ops/dispatch.h"
#include "cuda/ops/elementwise.h"
#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/router.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

class Wave {
 public:
  Wave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first, int64_t num_tokens)
      : queue_(queue),
        layer_(queue.layer),
        plan_(queue.plan),
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
        output_stride_(arrays.output_stride) {}

  Status queue() {
    SE_RETURN_IF_ERROR(sort_slots());
    SE_RETURN_IF_ERROR(prepare_inputs());
    SE_RETURN_IF_ERROR(queue_matmuls());
    return finish();
  }

 private:
  // Rows that the caller left at odd places are read by kernels that can.
  static BulkReady bulk_ready(const LayerMaps& maps, const ForwardArrays& arrays) {
    BulkReady ready = maps.ready();
    const int64_t row_bytes = arrays.hidden_stride * dtype_bytes(arrays.hidden_dtype);
    const bool aligned =
        (reinterpret_cast<uintptr_t>(arrays.hidden) | static_cast<uintptr_t>(row_bytes)) % 16 == 0;
    ready.gate_up = ready.gate_up && aligned;
    ready.shared_gate_up = ready.shared_gate_up && aligned;
    return ready;
  }

  struct Rows {
    const void* data;
    int32_t dtype;
    int64_t stride;
  };

  template <typename T>
  T* at(uint64_t offset) const {
    return cuda::at<T>(queue_, offset);
  }
  Status launched(cudaError_t error, const char* what) const {
    return cuda::launched(queue_, error, what);
  }
  LaunchStream stream() const { return next_in(queue_); }
  bool has_routed() const { return layer_.experts.num_experts > 0; }
  bool has_shared() const { return layer_.shared.num_experts > 0; }
  bool has_latent() const { return layer_.latent_size > 0; }

  // Slots of experts that hold weights here, of rows that routing left finite.
  Status sort_slots() {
    if (!has_routed()) return Status::ok();
    DispatchKernelArgs dispatch{};
    dispatch.topk_ids = topk_ids_;
    dispatch.non_finite = non_finite_;
    dispatch.present = queue_.present;
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
  bool has_second_tiles() const {
    return configs_.down.tile_tokens != configs_.gate_up.tile_tokens;
  }

  Status convert(const Rows& rows, int64_t cols, int32_t dtype, uint64_t offset,
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

  Status prepare_inputs() {
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
    if (!layer_.weight_on_input || !has_routed()) return Status::ok();
    // Llama 4: each expert reads weight * x. Rows lie in sorted order.
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

  // All rows of the wave times one matrix.
  Status project(const SeMatrixTable& matrix, const Rows& x, void* out, int32_t out_dtype,
                 const MatmulConfig& config, const char* what) const {
    ExpertMatmulKernelArgs args{};
    args.dtype = plan_.dtype;
    args.num_groups = 1;
    MatmulGroup& group = args.groups[0];
    group.num_experts = 1;
    group.up = matrix.data;
    group.weight_stride = matrix.row_stride;
    group.rows = matrix.rows;
    group.cols = matrix.cols;
    group.x = x.data;
    group.x_stride = x.stride;
    group.top_k = 1;
    group.num_rows = num_tokens_;
    group.out = out;
    group.out_dtype = out_dtype;
    group.out_stride = matrix.rows;
    return launched(launch_expert_matmul(args, config, stream()), what);
  }

  // Entry i of the sorted list, or of all rows for the shared expert.
  MatmulGroup routed_group(const SeMatrixTable& matrix, int tile_kind) const {
    MatmulGroup group{};
    group.num_experts = static_cast<int32_t>(layer_.experts.num_experts);
    group.up = matrix.data;
    group.weight_stride = matrix.row_stride;
    group.rows = matrix.rows;
    group.cols = matrix.cols;
    group.slots = at<int32_t>(plan_.sorted_slots);
    group.top_k = layer_.routing.top_k;
    group.tiles = at<TileRecord>(plan_.tiles[tile_kind]);
    group.num_tiles = at<int32_t>(plan_.num_tiles) + tile_kind;
    group.num_rows = num_slots_;
    return group;
  }
  MatmulGroup shared_group(const SeMatrixTable& matrix) const {
    MatmulGroup group{};
    group.num_experts = 1;
    group.up = matrix.data;
    group.weight_stride = matrix.row_stride;
    group.rows = matrix.rows;
    group.cols = matrix.cols;
    group.top_k = 1;
    group.num_rows = num_tokens_;
    return group;
  }
  static void set_gate_up(const SeExperts& experts, MatmulGroup* group) {
    if (experts.activation.gated) group->gate = experts.gate.data;
    if (experts.activation.gated) group->gate_bias = experts.gate_bias.data;
    group->up_bias = experts.up_bias.data;
    group->bias_stride =
        experts.up_bias.data != nullptr ? experts.up_bias.stride : experts.gate_bias.stride;
  }
  static void set_down(const SeExperts& experts, MatmulGroup* group) {
    group->up_bias = experts.down_bias.data;
    group->bias_stride = experts.down_bias.stride;
  }

  MatmulGroup routed_gate_up() const {
    MatmulGroup group = routed_group(layer_.experts.up, 0);
    set_gate_up(layer_.experts, &group);
    group.weight_maps = queue_.maps.gate_up;
    group.x = layer_.weight_on_input ? at<void>(plan_.scaled) : expert_input_.data;
    group.x_stride = layer_.weight_on_input ? plan_.width : expert_input_.stride;
    group.x_index = layer_.weight_on_input ? RowIndex::kSorted : RowIndex::kToken;
    group.out = at<void>(plan_.expert_hidden);
    group.out_dtype = plan_.dtype;
    group.out_stride = plan_.intermediate;
    return group;
  }
  MatmulGroup shared_gate_up() const {
    MatmulGroup group = shared_group(layer_.shared.up);
    set_gate_up(layer_.shared, &group);
    group.weight_maps = queue_.maps.shared_gate_up;
    group.x = shared_input_.data;
    group.x_stride = shared_input_.stride;
    group.out = at<void>(plan_.shared_hidden);
    group.out_dtype = layer_.shared.dtype;
    group.out_stride = plan_.shared_intermediate;
    return group;
  }
  MatmulGroup routed_down() const {
    MatmulGroup group = routed_group(layer_.experts.down, has_second_tiles() ? 1 : 0);
    set_down(layer_.experts, &group);
    group.weight_maps = queue_.maps.down;
    group.x = at<void>(plan_.expert_hidden);
    group.x_stride = plan_.intermediate;
    group.out = at<void>(plan_.expert_output);
    group.out_dtype = SE_F32;
    group.out_stride = plan_.width;
    group.out_index = RowIndex::kSlot;
    if (!layer_.weight_on_input) group.slot_weights = topk_weights_;
    return group;
  }
  MatmulGroup shared_down() const {
    MatmulGroup group = shared_group(layer_.shared.down);
    set_down(layer_.shared, &group);
    group.weight_maps = queue_.maps.shared_down;
    group.x = at<void>(plan_.shared_hidden);
    group.x_stride = plan_.shared_intermediate;
    group.out = at<void>(plan_.shared_output);
    group.out_dtype = SE_F32;
    group.out_stride = layer_.hidden_size;
    return group;
  }

  // `activation`: that of the first matmul; null for the second.
  Status matmul(int32_t dtype, const SeActivationSpec* activation, const MatmulGroup* groups,
                int num_groups, const MatmulConfig& config, const char* what) const {
    ExpertMatmulKernelArgs args{};
    args.dtype = dtype;
    args.apply_activation = activation != nullptr ? 1 : 0;
    if (activation != nullptr) args.activation = *activation;
    for (int i = 0; i < num_groups; ++i) args.groups[i] = groups[i];
    args.num_groups = num_groups;
    return launched(launch_expert_matmul(args, config, stream()), what);
  }

  Status queue_matmuls() const {
    if (has_routed()) {
      MatmulGroup groups[2] = {routed_gate_up(), {}};
      if (plan_.joint_shared) groups[1] = shared_gate_up();
      const int num_groups = plan_.joint_shared ? 2 : 1;
      SE_RETURN_IF_ERROR(matmul(plan_.dtype, &layer_.experts.activation, groups, num_groups,
                                configs_.gate_up, "gate_up"));
      groups[0] = routed_down();
      if (plan_.joint_shared) groups[1] = shared_down();
      SE_RETURN_IF_ERROR(matmul(plan_.dtype, nullptr, groups, num_groups, configs_.down, "down"));
    }
    if (!has_shared() || plan_.joint_shared) return Status::ok();
    MatmulGroup group = shared_gate_up();
    SE_RETURN_IF_ERROR(matmul(layer_.shared.dtype, &layer_.shared.activation, &group, 1,
                              configs_.shared_gate_up, "shared gate_up"));
    group = shared_down();
    return matmul(layer_.shared.dtype, nullptr, &group, 1, configs_.shared_down, "shared down");
  }

  CombineKernelArgs slot_sum() const {
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
  Status normalize_latent(float* rows) const {
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

  Status finish() const {
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

  const ForwardQueue& queue_;
  const SeMoeLayer& layer_;
  const ForwardPlan& plan_;
  const int64_t num_tokens_;
  const int64_t num_slots_;
  const WaveConfigs configs_;
  const Rows hidden_;
  const int32_t* topk_ids_;
  const float* topk_weights_;
  uint8_t* non_finite_;
  void* output_;
  const int64_t output_stride_;
  Rows shared_input_{};
  Rows expert_input_{};
};

}  // namespace

Status queue_wave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
                  int64_t num_tokens) {
  return Wave(queue, arrays, first, num_tokens).queue();
}

}  // namespace sparse_experts::cuda
