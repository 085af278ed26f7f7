// The matmuls of a wave: which rows, matrices and tables each launch is given.
#include <utility>

#include "cuda/layer/forward_wave.h"
#include "cuda/layouts/stored_layout.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

void set_gate_up(const SeExperts& experts, MatmulGroup* group) {
  if (experts.activation.gated) group->gate = experts.gate.data;
  if (experts.activation.gated) group->gate_bias = experts.gate_bias.data;
  group->up_bias = experts.up_bias.data;
  group->bias_stride =
      experts.up_bias.data != nullptr ? experts.up_bias.stride : experts.gate_bias.stride;
}
void set_down(const SeExperts& experts, MatmulGroup* group) {
  group->up_bias = experts.down_bias.data;
  group->bias_stride = experts.down_bias.stride;
}

}  // namespace

// All rows of the wave times one matrix.
Status ForwardWave::project(const SeMatrixTable& matrix, const Rows& x, void* out,
                            int32_t out_dtype, const MatmulConfig& config, const char* what) const {
  ExpertMatmulKernelArgs args{};
  args.dtype = plan_.dtype;
  args.stored[0] = codes_of(matrix);
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
MatmulGroup ForwardWave::routed_group(const SeMatrixTable& matrix, int tile_kind) const {
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
MatmulGroup ForwardWave::shared_group(const SeMatrixTable& matrix) const {
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
MatmulGroup ForwardWave::routed_gate_up() const {
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
MatmulGroup ForwardWave::shared_gate_up() const {
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
MatmulGroup ForwardWave::routed_down() const {
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
MatmulGroup ForwardWave::shared_down() const {
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

Status ForwardWave::matmul(const ExpertSets& sets, Matmul matmul, const MatmulConfig& config,
                           const char* what) const {
  const SeExperts& first = *sets[0];
  ExpertMatmulKernelArgs args{};
  args.dtype = first.dtype;
  args.apply_activation = matmul == Matmul::kGateUp ? 1 : 0;
  if (matmul == Matmul::kGateUp) args.activation = first.activation;
  for (const SeExperts* experts : sets) {
    if (experts == nullptr) continue;
    args.stored[args.num_groups] =
        codes_of(matmul == Matmul::kGateUp ? experts->up : experts->down);
    args.groups[args.num_groups++] = group_of(*experts, matmul);
  }
  return launched(launch_expert_matmul(args, config, stream()), what);
}

MatmulGroup ForwardWave::group_of(const SeExperts& experts, Matmul matmul) const {
  if (&experts == &layer_.shared)
    return matmul == Matmul::kGateUp ? shared_gate_up() : shared_down();
  return matmul == Matmul::kGateUp ? routed_gate_up() : routed_down();
}

Status ForwardWave::queue_matmuls(bool with_routed) {
  const bool with_shared = std::exchange(needs_shared_, false);
  const bool joins_shared = with_shared && plan_.joint_shared;
  if (with_routed || joins_shared) {
    const SeExperts* const shared = joins_shared ? &layer_.shared : nullptr;
    const ExpertSets sets = {with_routed ? &layer_.experts : shared,
                             with_routed ? shared : nullptr};
    SE_RETURN_IF_ERROR(matmul(sets, Matmul::kGateUp, configs_.gate_up, "gate_up"));
    SE_RETURN_IF_ERROR(matmul(sets, Matmul::kDown, configs_.down, "down"));
  }
  if (!with_shared || plan_.joint_shared) return Status::ok();
  const ExpertSets shared = {&layer_.shared, nullptr};
  SE_RETURN_IF_ERROR(matmul(shared, Matmul::kGateUp, configs_.shared_gate_up, "shared gate_up"));
  return matmul(shared, Matmul::kDown, configs_.shared_down, "shared down");
}

}  // namespace sparse_experts::cuda
