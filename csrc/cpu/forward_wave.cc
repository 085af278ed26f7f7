#include "cpu/forward_wave.h"

#include <algorithm>

#include "core/dtype.h"
#include "cpu/ops/code_rows.h"
#include "cpu/ops/combine.h"
#include "cpu/ops/dispatch.h"
#include "cpu/ops/expert_segments.h"
#include "cpu/ops/gather_columns.h"

namespace sparse_experts::cpu {
namespace {

template <typename Body>
void for_slabs(int64_t cols, const Body& body) {
  for (int64_t col = 0; col < cols; col += kSlab) body(col, std::min(kSlab, cols - col));
}

}  // namespace

ForwardWave::ForwardWave(const RunContext& context, const SeLayer& opened,
                         const SeForwardArgs& args, const ForwardPlan& plan, char* workspace,
                         int64_t first_token)
    : context_(context),
      layer_(opened.layer),
      counts_absent_(opened.options.cached != 0),
      args_(args),
      plan_(plan),
      workspace_(workspace),
      first_token_(first_token),
      num_tokens_(std::min(plan.wave_tokens, args.select.num_tokens - first_token)),
      top_k_(layer_.routing.top_k),
      expert_offsets_(at<int32_t>(plan.expert_offsets)),
      sorted_slots_(at<int32_t>(plan.sorted_slots)),
      token_rows_(at<int32_t>(plan.token_rows)),
      needs_shared_(layer_.shared.num_experts > 0) {}

void ForwardWave::begin(PhaseClock* clock) {
  sort_slots();
  prepare_hidden();
  clock->ends(Phase::kDispatch);
  if (layer_.latent_size > 0) project_down();
  clock->ends(Phase::kExperts);
  prepare_expert_input();
  expert_hidden_ = {at<char>(plan_.expert_hidden), RowLayout::slabs(num_sorted_)};
  shared_hidden_ = {at<char>(plan_.shared_hidden), RowLayout::slabs(num_tokens_)};
  clock->ends(Phase::kDispatch);
}

// Calls body(expert, first sorted slot, number of slots) for those of the choice that have tokens.
template <typename Body>
void ForwardWave::for_chosen(const ExpertChoice& choice, const Body& body) const {
  const int64_t count = choice.is_all ? layer_.experts.num_experts : choice.num_experts;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t e = choice.is_all ? i : choice.experts[i];
    const int64_t first = expert_offsets_[e];
    if (expert_offsets_[e + 1] > first) body(e, first, expert_offsets_[e + 1] - first);
  }
}

int64_t ForwardWave::find_absent(const ExpertChoice& choice) const {
  int64_t absent = -1;
  for_chosen(choice, [&](int64_t e, int64_t, int64_t) {
    if (absent < 0 && !is_present(layer_.experts, e)) absent = e;
  });
  return absent;
}

void ForwardWave::run_experts(const ExpertChoice& choice, PhaseClock* clock) {
  run_first_matmuls(choice, needs_shared_);
  run_second_matmuls(choice, needs_shared_);
  needs_shared_ = false;
  clock->ends(Phase::kExperts);
}

void ForwardWave::run_matmuls() {
  gather_columns(context_, at<char>(plan_.gathered));
  run_segments(context_);
}

// The same of experts: latent projections read rows as they are.
void ForwardWave::run_expert_matmuls() {
  gather_columns(context_, at<char>(plan_.gathered));
  if (plan_.coded_activations) code_rows(context_, at<char>(plan_.coded));
  run_segments(context_);
}

// Slots of rows that routing left finite; of experts that hold weights here, where others are left
// out.
void ForwardWave::sort_slots() {
  const int32_t* ids = args_.select.topk_ids + first_token_ * top_k_;
  const uint8_t* flags = args_.select.non_finite;
  const int64_t num_real = layer_.experts.num_experts;
  const auto expert_of_slot = [&](int64_t slot) -> int64_t {
    const int32_t expert = ids[slot];
    if (expert < 0 || expert >= num_real) return -1;
    if (!counts_absent_ && !is_present(layer_.experts, expert)) return -1;
    if (flags != nullptr && flags[first_token_ + slot / top_k_] != 0) return -1;
    return expert;
  };
  counting_sort(num_tokens_ * top_k_, num_real, expert_of_slot, expert_offsets_, sorted_slots_);
  num_sorted_ = expert_offsets_[num_real];
  for (int64_t i = 0; i < num_sorted_; ++i)
    token_rows_[i] = static_cast<int32_t>(sorted_slots_[i] / top_k_);
}

// Hidden rows in the activation type and in slabs.
void ForwardWave::prepare_hidden() {
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

void ForwardWave::project_down() {
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
void ForwardWave::prepare_expert_input() {
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

void ForwardWave::run_first_matmuls(const ExpertChoice& choice, bool with_shared) {
  std::vector<MatmulSegment>& segments = context_.device->segments;
  segments.clear();
  for_chosen(choice, [&](int64_t e, int64_t first, int64_t count) {
    MatmulSegment segment = first_segment(layer_.experts, e, plan_.bf16_activations);
    segment.num_rows = count;
    const bool is_gathered = expert_input_rows_ != nullptr;
    read_rows(expert_input_, is_gathered ? 0 : first, &segment);
    if (is_gathered) segment.x.rows = expert_input_rows_ + first;
    write_rows(expert_hidden_, first, &segment);
    segments.push_back(segment);
  });
  if (with_shared) {
    MatmulSegment segment = first_segment(layer_.shared, 0, plan_.bf16_activations);
    segment.num_rows = num_tokens_;
    read_rows(hidden_, 0, &segment);
    write_rows(shared_hidden_, 0, &segment);
    segments.push_back(segment);
  }
  run_expert_matmuls();
}

void ForwardWave::run_second_matmuls(const ExpertChoice& choice, bool with_shared) {
  std::vector<MatmulSegment>& segments = context_.device->segments;
  segments.clear();
  for_chosen(choice, [&](int64_t e, int64_t first, int64_t count) {
    MatmulSegment segment = second_segment(layer_.experts, e, plan_.bf16_activations);
    segment.num_rows = count;
    read_rows(expert_hidden_, first, &segment);
    segment.out = slot_rows();
    segment.out_rows = sorted_slots_ + first;
    segments.push_back(segment);
  });
  if (with_shared) {
    MatmulSegment segment = second_segment(layer_.shared, 0, plan_.bf16_activations);
    segment.num_rows = num_tokens_;
    read_rows(shared_hidden_, 0, &segment);
    segment.out = at<float>(plan_.shared_output);
    segments.push_back(segment);
  }
  run_expert_matmuls();
}

void ForwardWave::finish(PhaseClock* clock) {
  if (needs_shared_) run_experts(ExpertChoice{}, clock);
  CombineWave wave{context_, layer_, args_, first_token_, num_tokens_, plan_.width};
  wave.counts_absent = counts_absent_;
  wave.expert_output = slot_rows();
  if (layer_.shared.num_experts > 0) wave.shared_output = at<float>(plan_.shared_output);
  if (layer_.latent_size > 0) {
    const Rows sums = {at<char>(plan_.latent_sum), RowLayout::slabs(num_tokens_)};
    sum_latent(wave, sums.data, sums.layout, activation_dtype());
    clock->ends(Phase::kCombine);
    MatmulSegment segment =
        latent_segment(layer_.latent_up, layer_.experts.dtype, plan_.bf16_activations);
    segment.num_rows = num_tokens_;
    read_rows(sums, 0, &segment);
    segment.out = at<float>(plan_.projected);
    segment.out_layout = RowLayout::whole(layer_.hidden_size);
    context_.device->segments.assign(1, segment);
    run_matmuls();
    clock->ends(Phase::kExperts);
    wave.projected = at<float>(plan_.projected);
  }
  combine_rows(wave);
  clock->ends(Phase::kCombine);
}

}  // namespace sparse_experts::cpu
