#include "cuda/layer/layer.h"

#include <algorithm>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cuda/layouts/stored_layout.h"
#include "cuda/runtime/device.h"
#include "cuda/stages/stages.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts::cuda {
namespace {

bool is_held(int32_t dtype, const SeMatrixFormat& format) {
  return is_own_dtype(dtype, format) || holds_codes(dtype, format);
}

constexpr std::chrono::nanoseconds kLeastPollTime = std::chrono::microseconds(50);
constexpr std::chrono::nanoseconds kMostPolledWait = std::chrono::milliseconds(1);

// What one launch reads has one format.
Status check_formats(const std::string& name, const SeExperts& experts) {
  if (experts.num_experts == 0) return Status::ok();
  const bool gated = experts.activation.gated != 0;
  SE_CHECK_ARGUMENT(!gated || have_one_format(experts.gate, experts.up),
                    name + ": gate and up must have one format");
  for (const SeMatrixTable* table : {&experts.gate, &experts.up, &experts.down}) {
    if (table->data == nullptr || table->formats == nullptr || table->format_of == nullptr)
      continue;
    const SeMatrixFormat first = format_of(*table, 0, experts.dtype);
    for (int64_t e = 1; e < experts.num_experts; ++e)
      SE_CHECK_ARGUMENT(is_same_format(format_of(*table, e, experts.dtype), first),
                        name + ": the matrices of all experts must have one format");
  }
  return Status::ok();
}

Status check_strides(const char* name, const SeExperts& experts) {
  if (experts.num_experts == 0 || experts.activation.gated == 0) return Status::ok();
  SE_CHECK_ARGUMENT(experts.gate.row_stride == experts.up.row_stride,
                    std::string(name) + ": gate and up must have one row_stride");
  SE_CHECK_ARGUMENT(experts.gate_bias.data == nullptr || experts.up_bias.data == nullptr ||
                        experts.gate_bias.stride == experts.up_bias.stride,
                    std::string(name) + ": gate and up biases must have one stride");
  return Status::ok();
}

}  // namespace

std::chrono::nanoseconds poll_time(std::chrono::nanoseconds last_wait) {
  if (last_wait > kMostPolledWait) return std::chrono::nanoseconds(0);
  return std::max(2 * last_wait, kLeastPollTime);
}

Layer::Layer(Device& device, const SeMoeLayer& layer, const SeLayerOptions& options)
    : device_(device),
      layer_(layer),
      options_(options),
      present_table_(device),
      weight_maps_(device),
      expert_tables_(device),
      chosen_(device),
      graphs_(device) {}

Layer::~Layer() {
  if (!device_.enter().is_ok()) return;
  graphs_.clear();
  if (done_ != nullptr) static_cast<void>(cudaEventDestroy(done_));
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
}

Status Layer::open() {
  SE_RETURN_IF_ERROR(check_layer(layer_, is_held));
  SE_RETURN_IF_ERROR(validate_layer(layer_));
  SE_RETURN_IF_ERROR(check_formats("experts", layer_.experts));
  SE_RETURN_IF_ERROR(check_formats("shared experts", layer_.shared));
  SE_RETURN_IF_ERROR(check_strides("experts", layer_.experts));
  SE_RETURN_IF_ERROR(check_strides("shared experts", layer_.shared));
  SE_RETURN_IF_ERROR(device_.enter());
  SE_RETURN_IF_ERROR(check_tables());
  SE_RETURN_IF_ERROR(weight_maps_.open(layer_, !is_cached()));
  maps_ = weight_maps_.maps();
  if (is_cached() && layer_.experts.num_experts > 0)
    SE_RETURN_IF_ERROR(expert_tables_.open(&layer_.experts, &maps_));
  if (layer_.routing.hash_routed != 0)
    SE_RETURN_IF_ERROR(check_hash_table(device_, layer_.routing));
  SE_RETURN_IF_ERROR(device_.check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                   "cudaStreamCreateWithFlags"));
  return device_.check(
      cudaEventCreateWithFlags(&done_, cudaEventBlockingSync | cudaEventDisableTiming),
      "cudaEventCreateWithFlags");
}

// The same rules as check_layer_contents, on copies of the tables.
Status Layer::check_tables() {
  SeMoeLayer on_host = layer_;
  const void* first[5] = {};
  int num_tables = 0;
  const auto fetch_first = [&](SeMatrixTable* table) -> Status {
    if (table->data == nullptr) return Status::ok();
    const void** entry = &first[num_tables++];
    SE_RETURN_IF_ERROR(device_.copier().to_host(entry, table->data, sizeof(void*)));
    table->data = entry;
    return Status::ok();
  };
  if (layer_.latent_size > 0) {
    SE_RETURN_IF_ERROR(fetch_first(&on_host.latent_down));
    SE_RETURN_IF_ERROR(fetch_first(&on_host.latent_up));
  }
  if (layer_.shared.num_experts > 0) {
    SE_RETURN_IF_ERROR(fetch_first(&on_host.shared.gate));
    SE_RETURN_IF_ERROR(fetch_first(&on_host.shared.up));
    SE_RETURN_IF_ERROR(fetch_first(&on_host.shared.down));
  }
  SE_RETURN_IF_ERROR(check_layer_contents(on_host));
  if (layer_.experts.num_experts == 0 || is_cached()) return Status::ok();
  return make_present_table(layer_.experts);
}

// An expert counts only when all of its matrices are here. Where the tables agree about that, one
// of them serves as the list; else a table of its own is made.
Status Layer::make_present_table(const SeExperts& experts) {
  const auto num_experts = static_cast<size_t>(experts.num_experts);
  const uint64_t bytes = num_experts * sizeof(void*);
  std::vector<const void*> present(num_experts);
  std::vector<const void*> other(num_experts);
  SE_RETURN_IF_ERROR(device_.copier().to_host(present.data(), experts.up.data, bytes));
  bool agree = true;
  for (const SeMatrixTable* table : {&experts.down, &experts.gate}) {
    if (table->data == nullptr || (table == &experts.gate && experts.activation.gated == 0))
      continue;
    SE_RETURN_IF_ERROR(device_.copier().to_host(other.data(), table->data, bytes));
    for (size_t e = 0; e < num_experts; ++e) {
      agree = agree && (present[e] == nullptr) == (other[e] == nullptr);
      if (other[e] == nullptr) present[e] = nullptr;
    }
  }
  here_.resize(num_experts);
  for (size_t e = 0; e < num_experts; ++e) here_[e] = present[e] != nullptr ? 1 : 0;
  present_ = experts.up.data;
  if (agree) return Status::ok();
  SE_RETURN_IF_ERROR(present_table_.reserve(bytes));
  SE_RETURN_IF_ERROR(device_.copier().to_device(present_table_.data(), present.data(), bytes));
  present_ = reinterpret_cast<const void* const*>(present_table_.data());
  return Status::ok();
}

Status Layer::plan_call(const SeForwardArgs& args, const void* workspace, uint64_t workspace_bytes,
                        ForwardPlan* plan) const {
  SE_RETURN_IF_ERROR(check_forward(layer_, args));
  SE_RETURN_IF_ERROR(check_select_arrays(layer_.routing, args.select, args.replay != 0));
  SE_RETURN_IF_ERROR(validate_forward(args));
  SE_RETURN_IF_ERROR(device_.enter());
  if (args.select.num_tokens == 0) return Status::ok();
  *plan = plan_forward(layer_, device_.limits(), args.select.num_tokens);
  if (workspace == nullptr || workspace_bytes < plan->total_bytes)
    return Status::workspace_too_small(workspace_bytes, plan->total_bytes);
  return is_cancelled(args) ? Status::cancelled() : Status::ok();
}

Status Layer::check_staged(const SeForwardArgs& args, const StagingPlan& staging) const {
  SE_CHECK_ARGUMENT(args.is_staged == 0 || device_.call_staging().has_lent(staging.total_bytes),
                    "forward: nobody staged this call");
  return Status::ok();
}

Status Layer::forward(const SeForwardArgs& args, void* workspace, uint64_t workspace_bytes) {
  ForwardPlan plan;
  SE_RETURN_IF_ERROR(plan_call(args, workspace, workspace_bytes, &plan));
  if (args.select.num_tokens == 0) return Status::ok();
  if (is_cached()) return run_steps(args, static_cast<char*>(workspace), plan);
  const StagingPlan staging = plan_staging(layer_, args);
  SE_RETURN_IF_ERROR(check_staged(args, staging));
  std::lock_guard<std::mutex> lock(mutex_);
  return staging.total_bytes <= kMostStagedBytes
             ? run_small(args, staging, plan, static_cast<char*>(workspace))
             : run_large(args, staging, plan, static_cast<char*>(workspace));
}

Status Layer::set_experts(const int32_t* experts, int64_t num_experts,
                          const SeExpertMatrices* matrices) {
  SE_RETURN_IF_ERROR(
      check_expert_matrices(layer_.experts, options_, experts, num_experts, matrices));
  std::lock_guard<std::mutex> lock(mutex_);
  // Once it is gone from here its memory may be written to.
  if (expert_tables_.has_any(experts, num_experts)) SE_RETURN_IF_ERROR(settle());
  return expert_tables_.set(experts, num_experts, matrices);
}

ForwardQueue Layer::queue_of(const ForwardPlan& plan, char* workspace, bool is_recorded) const {
  return {device_, layer_, options_, present_, maps_, stream_, plan, workspace, is_recorded};
}

Status Layer::finish(const Status& status) {
  if (device_.is_lost()) return status;
  const auto began = std::chrono::steady_clock::now();
  const Status ended = device_.synchronize(stream_, done_, "forward", poll_time(last_wait_));
  last_wait_ = std::chrono::steady_clock::now() - began;
  has_queued_ = false;
  return status.is_ok() ? ended : status;
}

void Layer::unstage() { device_.call_staging().take_back(); }

Status Layer::settle() { return has_queued_ ? finish(Status::ok()) : Status::ok(); }

}  // namespace sparse_experts::cuda
