// One wave of a forward's tokens, from their routing to their output rows:
//   begin        sort slots by expert; convert activations; project into the latent space
//   run_experts  gate and up, then down, of some experts into a row per slot; along with the first
//                of them the shared experts
//   finish       sum the slots of each token in order; project back; add shared experts and bias;
//                round once (ops/combine.cc)
// A forward takes the three at once, a run (forward_run.h) in its caller's time. No bit of a slot's
// row depends on the experts that are computed beside it, and the sum's order is that of the slots.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "cpu/device.h"
#include "cpu/forward_plan.h"
#include "cpu/ops/expert_matmul.h"
#include "cpu/phase_times.h"

namespace sparse_experts::cpu {

// Which of a wave's experts a step computes.
struct ExpertChoice {
  const int32_t* experts = nullptr;
  int64_t num_experts = 0;
  bool is_all = false;  // whatever the list says

  static ExpertChoice all() { return {nullptr, 0, true}; }
};

class ForwardWave {
 public:
  // Of the tokens from `first_token` on. All of them outlive the wave.
  ForwardWave(const RunContext& context, const SeLayer& opened, const SeForwardArgs& args,
              const ForwardPlan& plan, char* workspace, int64_t first_token);

  int64_t first_token() const { return first_token_; }
  int64_t num_tokens() const { return num_tokens_; }
  // [experts + 1]: where the slots of an expert begin among those of all.
  const int32_t* expert_offsets() const { return expert_offsets_; }
  bool has_slots(int64_t expert) const {
    return expert_offsets_[expert + 1] > expert_offsets_[expert];
  }
  // [num_tokens * top_k, width], row = slot.
  float* slot_rows() const { return at<float>(plan_.expert_output); }

  void begin(PhaseClock* clock);
  // The first of them that has slots and is not here; -1: none.
  int64_t find_absent(const ExpertChoice& choice) const;
  // Each expert once. Those that have slots are here.
  void run_experts(const ExpertChoice& choice, PhaseClock* clock);
  void finish(PhaseClock* clock);

 private:
  // Rows of the activation type.
  struct Rows {
    char* data = nullptr;
    RowLayout layout;
  };

  template <typename T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(workspace_ + offset);
  }
  int32_t activation_dtype() const { return plan_.bf16_activations ? SE_BF16 : SE_F32; }
  char* element(const Rows& rows, int64_t row, int64_t col) const {
    return rows.data + rows.layout.offset(row, col) * plan_.activation_bytes;
  }
  void read_rows(const Rows& rows, int64_t first, MatmulSegment* segment) const {
    segment->x = {element(rows, first, 0), rows.layout};
  }
  void write_rows(const Rows& rows, int64_t first, MatmulSegment* segment) const {
    segment->out = element(rows, first, 0);
    segment->out_layout = rows.layout;
  }

  void run_matmuls();
  void run_expert_matmuls();
  void sort_slots();
  void prepare_hidden();
  void project_down();
  void prepare_expert_input();
  template <typename Body>
  void for_chosen(const ExpertChoice& choice, const Body& body) const;
  void run_first_matmuls(const ExpertChoice& choice, bool with_shared);
  void run_second_matmuls(const ExpertChoice& choice, bool with_shared);

  const RunContext& context_;
  const SeMoeLayer& layer_;
  // Experts that are not here now have been, or will be: none is left out.
  const bool counts_absent_;
  const SeForwardArgs& args_;
  const ForwardPlan& plan_;
  char* const workspace_;
  const int64_t first_token_;
  const int64_t num_tokens_;
  const int64_t top_k_;
  int32_t* const expert_offsets_;
  int32_t* const sorted_slots_;
  int32_t* const token_rows_;
  int64_t num_sorted_ = 0;
  bool needs_shared_;  // they are still to be computed
  Rows hidden_;
  Rows expert_input_;
  Rows expert_hidden_;
  Rows shared_hidden_;
  const int32_t* expert_input_rows_ = nullptr;
};

}  // namespace sparse_experts::cpu
