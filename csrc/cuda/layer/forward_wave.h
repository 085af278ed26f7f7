// One wave of a forward's tokens, from their routing to their output rows, as launches on a stream:
//   begin        sort slots by expert, with the tile tables of both matmuls; bring the rows into the
//                arithmetic dtype; project into the latent space; weight them (Llama 4)
//   run_all      gate and up, then down, into a row per slot; routed and shared experts in one launch
//   run_chosen   the same of some experts, whose slots are sorted anew; along with the first step the
//                shared ones
//   finish       sum slots in order; project back; add shared experts and bias; round once
// A forward takes begin, run_all and finish at once, a run (forward_run.h) in its caller's time. The
// matmuls' configurations follow from the whole wave, so no bit of a slot's row depends on the experts
// that are computed beside it.
#pragma once

#include <array>
#include <cstdint>

#include "core/status.h"
#include "cuda/layer/forward.h"
#include "cuda/layer/forward_queue.h"
#include "cuda/ops/combine.h"
#include "cuda/ops/expert_matmul.h"

namespace sparse_experts::cuda {

class ForwardWave {
 public:
  // Rows [first, first + num_tokens) of a routed call. The queue outlives the wave.
  ForwardWave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
              int64_t num_tokens);

  int64_t first_token() const { return first_token_; }
  int64_t num_tokens() const { return num_tokens_; }
  // [num_tokens * top_k, width] f32 on the device, row = slot; null where there are no experts.
  float* slot_rows() const;

  Status begin();
  // Every expert that is here.
  Status run_all();
  // Those alone whose entries of `chosen`, [experts] on the device, are not null. All of them are here.
  Status run_chosen(const void* const* chosen);
  Status finish();

 private:
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
  bool has_second_tiles() const {
    return configs_.down.tile_tokens != configs_.gate_up.tile_tokens;
  }

  Status sort_slots(const void* const* present) const;
  Status convert(const Rows& rows, int64_t cols, int32_t dtype, uint64_t offset,
                 Rows* converted) const;
  Status prepare_inputs();
  Status weight_inputs() const;
  CombineKernelArgs slot_sum() const;
  Status normalize_latent(float* rows) const;

  // forward_wave_matmuls.cc
  Status project(const SeMatrixTable& matrix, const Rows& x, void* out, int32_t out_dtype,
                 const MatmulConfig& config, const char* what) const;
  MatmulGroup routed_group(const SeMatrixTable& matrix, int tile_kind) const;
  MatmulGroup shared_group(const SeMatrixTable& matrix) const;
  MatmulGroup routed_gate_up() const;
  MatmulGroup shared_gate_up() const;
  MatmulGroup routed_down() const;
  MatmulGroup shared_down() const;
  enum class Matmul { kGateUp, kDown };
  // Routed experts, shared ones, or both, of one dtype and activation; null: none more.
  using ExpertSets = std::array<const SeExperts*, 2>;
  MatmulGroup group_of(const SeExperts& experts, Matmul matmul) const;
  // One launch.
  Status matmul(const ExpertSets& sets, Matmul matmul, const MatmulConfig& config,
                const char* what) const;
  // The routed experts that are sorted, if they are wanted; the shared ones where they are still to do.
  Status queue_matmuls(bool with_routed);

  const ForwardQueue& queue_;
  const SeMoeLayer& layer_;
  const ForwardPlan& plan_;
  const int64_t first_token_;
  const int64_t num_tokens_;
  const int64_t num_slots_;
  const WaveConfigs configs_;
  const Rows hidden_;
  const int32_t* topk_ids_;
  const float* topk_weights_;
  uint8_t* non_finite_;
  void* output_;
  const int64_t output_stride_;
  bool needs_shared_;
  Rows shared_input_{};
  Rows expert_input_{};
};

// All but the routing of the rows [first, first + num_tokens) of a call.
Status queue_wave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
                  int64_t num_tokens);

}  // namespace sparse_experts::cuda
