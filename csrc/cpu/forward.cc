// One MoE block:
//   1. route all tokens, in chunks of router logits (capacity needs the whole batch), or take the
//   replayed routing
//   2. for each wave of tokens:
//      sort slots by expert; convert activations; project into the latent space
//      gate/up of routed and shared experts in one pass; then down of both
//      sum slots in order; project back; add shared experts and bias; round once (combine.cc)
#include "cpu/forward.h"

#include <algorithm>

#include "core/dtype.h"
#include "cpu/device.h"
#include "cpu/forward_plan.h"
#include "cpu/ops/capacity.h"
#include "cpu/ops/code_rows.h"
#include "cpu/ops/combine.h"
#include "cpu/ops/dispatch.h"
#include "cpu/ops/expert_segments.h"
#include "cpu/ops/gather_columns.h"
#include "cpu/ops/router.h"
#include "ops/checks.h"

namespace sparse_experts::cpu {
namespace {

void route(const RunContext& context, const SeLayer& opened, const SeForwardArgs& args,
           const ForwardPlan& plan, char* workspace) {
  const SeMoeLayer& layer = opened.layer;
  RouterMatmul router;
  router.input = args.router_input.data != nullptr ? &args.router_input : &args.hidden;
  const bool is_bf16 = !opened.router_bf16.empty();
  router.weight = is_bf16 ? static_cast<const void*>(opened.router_bf16.data())
                          : static_cast<const void*>(layer.router_weight);
  router.weight_dtype = is_bf16 ? SE_BF16 : SE_F32;
  router.weight_stride = layer.hidden_size;
  router.num_experts = layer.routing.num_experts;
  router.hidden_size = layer.hidden_size;
  router.bias = layer.router_bias;
  router.input_scale = layer.router_input_scale;
  router.norm_epsilon = layer.router_norm_epsilon;
  float* logits = reinterpret_cast<float*>(workspace + plan.logits);
  float* rows = reinterpret_cast<float*>(workspace + plan.router_rows);
  const int64_t num_tokens = args.select.num_tokens;
  prepare_select(context, layer.routing, args.select);
  for (int64_t first = 0; first < num_tokens && !context.is_cancelled();
       first += plan.route_tokens) {
    const int64_t count = std::min(plan.route_tokens, num_tokens - first);
    router_logits(context, router, first, count, rows, logits);
    select_rows(context, layer.routing, args.select, logits, first, count);
  }
  if (!context.is_cancelled()) apply_capacity(context, layer.routing, args.select);
}

template <typename Body>
void for_slabs(int64_t cols, const Body& body) {
  for (int64_t col = 0; col < cols; col += kSlab) body(col, std::min(kSlab, cols - col));
}

class Wave {
 public:
  Wave(const RunContext& context, const SeMoeLayer& layer, const SeForwardArgs& args,
       const ForwardPlan& plan, char* workspace, int64_t first_token, PhaseClock* clock)
      : context_(context),
        layer_(layer),
        args_(args),
        plan_(plan),
        workspace_(workspace),
        clock_(clock),
        first_token_(first_token),
        num_tokens_(std::min(plan.wave_tokens, args.select.num_tokens - first_token)),
        top_k_(layer.routing.top_k),
        expert_offsets_(at<int32_t>(plan.expert_offsets)),
        sorted_slots_(at<int32_t>(plan.sorted_slots)),
        token_rows_(at<int32_t>(plan.token_rows)) {}

  void run() {
    sort_slots();
    prepare_hidden();
    clock_->ends(Phase::kDispatch);
    if (layer_.latent_size > 0) project_down();
    clock_->ends(Phase::kExperts);
    prepare_expert_input();
    clock_->ends(Phase::kDispatch);
    run_first_matmuls();
    run_second_matmuls();
    clock_->ends(Phase::kExperts);
    finish();
    clock_->ends(Phase::kCombine);
  }

 private:
  template <typename T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(workspace_ + offset);
  }
  // Rows of the activation type.
  struct Rows {
    char* data = nullptr;
    RowLayout layout;
  };
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

  void run_matmuls() {
    gather_columns(context_, at<char>(plan_.gathered));
    run_segments(context_);
  }
  // The same of experts: latent projections read rows as they are.
  void run_expert_matmuls() {
    gather_columns(context_, at<char>(plan_.gathered));
    if (plan_.coded_activations) code_rows(context_, at<char>(plan_.coded));
    run_segments(context_);
  }

  // Slots of experts that hold weights here, of rows that routing left finite.
  void sort_slots() {
    const int32_t* ids = args_.select.topk_ids + first_token_ * top_k_;
    const uint8_t* flags = args_.select.non_finite;
    const int64_t num_real = layer_.experts.num_experts;
    const auto expert_of_slot = [&](int64_t slot) -> int64_t {
      const int32_t expert = ids[slot];
      if (expert < 0 || expert >= num_real || !is_present(layer_.experts, expert)) return -1;
      if (flags != nullptr && flags[first_token_ + slot / top_k_] != 0) return -1;
      return expert;
    };
    counting_sort(num_tokens_ * top_k_, num_real, expert_of_slot, expert_offsets_, sorted_slots_);
    num_sorted_ = expert_offsets_[num_real];
    for (int64_t i = 0; i < num_sorted_; ++i)
      token_rows_[i] = static_cast<int32_t>(sorted_slots_[i] / top_k_);
  }

  // Hidden rows in the activation type and in slabs.
  void prepare_hidden() {
    const SeTensor& hidden = args_.hidden;
    const int64_t row_bytes = hidden.strides[0] * dtype_bytes(hidden.dtype);
    const char* from = static_cast<const char*>(hidden.data) + first_token_ * row_bytes;
    hidden_ = {at<char>(plan_.hidden), RowLayout::slabs(num_tokens_)};
    context_.for_rows(num_tokens_, layer_.hidden_size, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        for_slabs(layer_.hidden_size, [&](int64_t col, int64_t n) {
          convert_row(*context_.kernels, from + row * row_bytes + col * dtype_bytes(hidden.dtype),
                      hidden.dtype, element(hidden_, row, col), activation_dtype(), n);
        });
      }
    });
    expert_input_ = hidden_;
  }

  void project_down() {
    MatmulSegment segment =
        latent_segment(layer_.latent_down, layer_.experts.dtype, plan_.bf16_activations);
    segment.num_rows = num_tokens_;
    read_rows(hidden_, 0, &segment);
    expert_input_ = {at<char>(plan_.latent), RowLayout::slabs(num_tokens_)};
    write_rows(expert_input_, 0, &segment);
    segment.out_is_bf16 = plan_.bf16_activations;
    context_.device->segments.assign(1, segment);
    run_matmuls();
  }

  // Llama 4: each expert reads weight * x. Rows lie in sorted order.
  void prepare_expert_input() {
    expert_input_rows_ = token_rows_;
    if (!layer_.weight_on_input) return;
    const float* weights = args_.select.topk_weights + first_token_ * top_k_;
    const Rows scaled = {at<char>(plan_.scaled), RowLayout::slabs(num_sorted_)};
    context_.for_rows(num_sorted_, plan_.width, [&](int64_t first, int64_t last) {
      float piece[kSlab];
      for (int64_t i = first; i < last; ++i) {
        for_slabs(plan_.width, [&](int64_t col, int64_t n) {
          context_.kernels->widen(piece, element(expert_input_, token_rows_[i], col),
                                  activation_dtype(), n);
          context_.kernels->scale(piece, piece, weights[sorted_slots_[i]], n);
          context_.kernels->narrow(element(scaled, i, col), activation_dtype(), piece, n);
        });
      }
    });
    expert_input_ = scaled;
    expert_input_rows_ = nullptr;
  }

  // Calls body(expert, first sorted slot, number of slots) for the experts that have tokens.
  template <typename Body>
  void for_active_experts(const Body& body) const {
    for (int64_t e = 0; e < layer_.experts.num_experts; ++e) {
      const int64_t first = expert_offsets_[e];
      if (expert_offsets_[e + 1] > first) body(e, first, expert_offsets_[e + 1] - first);
    }
  }

  void run_first_matmuls() {
    std::vector<MatmulSegment>& segments = context_.device->segments;
    segments.clear();
    expert_hidden_ = {at<char>(plan_.expert_hidden), RowLayout::slabs(num_sorted_)};
    shared_hidden_ = {at<char>(plan_.shared_hidden), RowLayout::slabs(num_tokens_)};
    for_active_experts([&](int64_t e, int64_t first, int64_t count) {
      MatmulSegment segment = first_segment(layer_.experts, e, plan_.bf16_activations);
      segment.num_rows = count;
      const bool is_gathered = expert_input_rows_ != nullptr;
      read_rows(expert_input_, is_gathered ? 0 : first, &segment);
      if (is_gathered) segment.x.rows = expert_input_rows_ + first;
      write_rows(expert_hidden_, first, &segment);
      segments.push_back(segment);
    });
    if (layer_.shared.num_experts > 0) {
      MatmulSegment segment = first_segment(layer_.shared, 0, plan_.bf16_activations);
      segment.num_rows = num_tokens_;
      read_rows(hidden_, 0, &segment);
      write_rows(shared_hidden_, 0, &segment);
      segments.push_back(segment);
    }
    run_expert_matmuls();
  }

  void run_second_matmuls() {
    std::vector<MatmulSegment>& segments = context_.device->segments;
    segments.clear();
    for_active_experts([&](int64_t e, int64_t first, int64_t count) {
      MatmulSegment segment = second_segment(layer_.experts, e, plan_.bf16_activations);
      segment.num_rows = count;
      read_rows(expert_hidden_, first, &segment);
      segment.out = at<float>(plan_.expert_output);
      segment.out_rows = sorted_slots_ + first;
      segments.push_back(segment);
    });
    if (layer_.shared.num_experts > 0) {
      MatmulSegment segment = second_segment(layer_.shared, 0, plan_.bf16_activations);
      segment.num_rows = num_tokens_;
      read_rows(shared_hidden_, 0, &segment);
      segment.out = at<float>(plan_.shared_output);
      segments.push_back(segment);
    }
    run_expert_matmuls();
  }

  void finish() {
    CombineWave wave{context_, layer_, args_, first_token_, num_tokens_, plan_.width};
    wave.expert_output = at<float>(plan_.expert_output);
    if (layer_.shared.num_experts > 0) wave.shared_output = at<float>(plan_.shared_output);
    if (layer_.latent_size > 0) {
      const Rows sums = {at<char>(plan_.latent_sum), RowLayout::slabs(num_tokens_)};
      sum_latent(wave, sums.data, sums.layout, activation_dtype());
      clock_->ends(Phase::kCombine);
      MatmulSegment segment =
          latent_segment(layer_.latent_up, layer_.experts.dtype, plan_.bf16_activations);
      segment.num_rows = num_tokens_;
      read_rows(sums, 0, &segment);
      segment.out = at<float>(plan_.projected);
      segment.out_layout = RowLayout::whole(layer_.hidden_size);
      context_.device->segments.assign(1, segment);
      run_matmuls();
      clock_->ends(Phase::kExperts);
      wave.projected = at<float>(plan_.projected);
    }
    combine_rows(wave);
  }

  const RunContext& context_;
  const SeMoeLayer& layer_;
  const SeForwardArgs& args_;
  const ForwardPlan& plan_;
  char* workspace_;
  PhaseClock* clock_;
  int64_t first_token_;
  int64_t num_tokens_;
  int64_t top_k_;
  int32_t* expert_offsets_;
  int32_t* sorted_slots_;
  int32_t* token_rows_;
  int64_t num_sorted_ = 0;
  Rows hidden_;
  Rows expert_input_;
  Rows expert_hidden_;
  Rows shared_hidden_;
  const int32_t* expert_input_rows_ = nullptr;
};

}  // namespace

Status forward(const RunContext& context, SeLayer* opened, const SeForwardArgs& args,
               char* workspace, uint64_t workspace_bytes) {
  const SeMoeLayer& layer = opened->layer;
  const int64_t num_tokens = args.select.num_tokens;
  if (num_tokens == 0) return Status::ok();
  const ForwardPlan plan = plan_forward(*context.kernels, layer, opened->options, num_tokens);
  if (workspace == nullptr || workspace_bytes < plan.total_bytes)
    return Status::workspace_too_small(workspace_bytes, plan.total_bytes);
  PhaseClock clock(&opened->phases);
  if (args.replay) {
    if (args.select.non_finite != nullptr)
      std::fill_n(args.select.non_finite, num_tokens, uint8_t{0});
  } else {
    route(context, *opened, args, plan, workspace);
  }
  clock.ends(Phase::kRouting);
  for (int64_t first = 0; first < num_tokens && !context.is_cancelled(); first += plan.wave_tokens)
    Wave(context, layer, args, plan, workspace, first, &clock).run();
  return context.is_cancelled() ? Status::cancelled() : Status::ok();
}

}  // namespace sparse_experts::cpu
