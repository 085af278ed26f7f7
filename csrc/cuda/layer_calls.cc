// The calls of a layer: small ones through its own staging and graphs, large ones through the
// device's copier.
#include <cstring>

#include "cuda/device.h"
#include "cuda/layer.h"
#include "ops/checks.h"
#include "ops/validate.h"

namespace sparse_experts::cuda {
namespace {

// Above this a call's arrays go through the device's copier: pinned memory is the host's scarcest
// and a model has many layers, and a call of this size takes far longer than a few extra copies.
constexpr uint64_t kLayerStagingBytes = 4 << 20;
// The block grows by doubling: a batch that grows token by token moves it (and drops the graphs)
// only a few times.
constexpr uint64_t kLeastStagingBytes = 64 << 10;
// Above this the launches of a call cost little beside its kernels, and sizes seldom repeat.
constexpr int64_t kGraphTokens = 256;

int64_t stride_of(const SeTensor& tensor) {
  return tensor.shape[0] == 1 ? tensor.shape[1] : tensor.strides[0];
}

// Device addresses of a call's arrays: the staging block at `base`, or the caller's own.
ForwardArrays place_arrays(const SeMoeLayer& layer, const SeForwardArgs& args,
                           const StagingPlan& staging, char* base) {
  const auto staged = [&](uint64_t offset) -> char* {
    return offset == StagingPlan::kNone ? nullptr : base + offset;
  };
  ForwardArrays arrays;
  const bool own_hidden = staging.hidden == StagingPlan::kNone;
  arrays.hidden = own_hidden ? args.hidden.data : staged(staging.hidden);
  arrays.hidden_dtype = args.hidden.dtype;
  arrays.hidden_stride = own_hidden ? stride_of(args.hidden) : layer.hidden_size;
  arrays.router_input = arrays.hidden;
  arrays.router_input_dtype = arrays.hidden_dtype;
  arrays.router_input_stride = arrays.hidden_stride;
  if (args.router_input.data != nullptr && args.replay == 0) {
    const bool own = staging.router_input == StagingPlan::kNone;
    arrays.router_input = own ? args.router_input.data : staged(staging.router_input);
    arrays.router_input_dtype = args.router_input.dtype;
    arrays.router_input_stride = own ? stride_of(args.router_input) : layer.hidden_size;
  }
  arrays.token_ids = reinterpret_cast<const int32_t*>(staged(staging.token_ids));
  arrays.row_top_k = reinterpret_cast<const uint8_t*>(staged(staging.row_top_k));
  arrays.sequence_lengths = reinterpret_cast<const int32_t*>(staged(staging.sequence_lengths));
  arrays.topk_ids = reinterpret_cast<int32_t*>(base + staging.topk_ids);
  arrays.topk_weights = reinterpret_cast<float*>(base + staging.topk_weights);
  arrays.non_finite = reinterpret_cast<uint8_t*>(base + staging.non_finite);
  const bool own_output = staging.output == StagingPlan::kNone;
  arrays.output = own_output ? args.output.data : staged(staging.output);
  arrays.output_stride = own_output ? stride_of(args.output) : layer.hidden_size;
  return arrays;
}

}  // namespace

Status Layer::forward(const SeForwardArgs& args, void* workspace, uint64_t workspace_bytes) {
  SE_RETURN_IF_ERROR(validate_forward(layer_, args));
  SE_RETURN_IF_ERROR(validate_select_arrays(layer_.routing, args.select, args.replay != 0));
  SE_RETURN_IF_ERROR(device_.enter());
  const int64_t num_tokens = args.select.num_tokens;
  if (num_tokens == 0) return Status::ok();
  const ForwardPlan plan = plan_forward(layer_, device_.limits(), num_tokens);
  SE_CHECK_ARGUMENT(workspace != nullptr && workspace_bytes >= plan.total_bytes,
                    "forward: the workspace has " + std::to_string(workspace_bytes) + " bytes, " +
                        std::to_string(plan.total_bytes) + " are needed");
  if (args.cancel != nullptr && __atomic_load_n(args.cancel, __ATOMIC_RELAXED) != 0)
    return Status::cancelled();
  const StagingPlan staging = plan_staging(layer_, args);
  std::lock_guard<std::mutex> lock(mutex_);
  return staging.total_bytes <= kLayerStagingBytes
             ? run_small(args, staging, plan, static_cast<char*>(workspace))
             : run_large(args, staging, plan, static_cast<char*>(workspace));
}

Status Layer::reserve_staging(uint64_t bytes) {
  if (bytes <= pinned_.bytes() && bytes <= staging_.bytes()) return Status::ok();
  uint64_t grown = kLeastStagingBytes;
  while (grown < bytes) grown *= 2;
  graphs_.clear();
  SE_RETURN_IF_ERROR(pinned_.reserve(grown));
  SE_RETURN_IF_ERROR(staging_.reserve(grown));
  // Results are copied back as one block, with the gaps between arrays and what a call does not
  // ask for.
  return device_.check(cudaMemsetAsync(staging_.data(), 0, staging_.bytes(), stream_),
                       "cudaMemsetAsync");
}

ForwardQueue Layer::queue_of(const ForwardPlan& plan, char* workspace, bool is_recorded) const {
  return {device_, layer_, options_, present_, stream_, plan, workspace, is_recorded};
}

Status Layer::finish(const Status& status) {
  if (device_.is_lost()) return status;
  const Status ended = device_.synchronize(stream_, done_, "forward");
  return status.is_ok() ? ended : status;
}

Status Layer::queue_small(const SeForwardArgs& args, const StagingPlan& staging,
                          const ForwardPlan& plan, char* workspace, bool is_recorded) {
  if (staging.input_bytes > 0)
    SE_RETURN_IF_ERROR(
        device_.check(cudaMemcpyAsync(staging_.data(), pinned_.data(), staging.input_bytes,
                                      cudaMemcpyHostToDevice, stream_),
                      "copy of the inputs"));
  SE_RETURN_IF_ERROR(queue_forward(queue_of(plan, workspace, is_recorded), args,
                                   place_arrays(layer_, args, staging, staging_.data())));
  return device_.check(
      cudaMemcpyAsync(pinned_.data() + staging.result_begin, staging_.data() + staging.result_begin,
                      staging.total_bytes - staging.result_begin, cudaMemcpyDeviceToHost, stream_),
      "copy of the results");
}

// Leaves a graph in the entry, or bars its key; a failure here is no failure of the call unless the
// device is lost. Nothing has run in either case.
Status Layer::capture(const SeForwardArgs& args, const StagingPlan& staging,
                      const ForwardPlan& plan, char* workspace, GraphCache::Entry* entry) {
  entry->is_forbidden = true;
  // Other threads may allocate meanwhile: only this one's calls are restricted.
  Status status = device_.check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                                "cudaStreamBeginCapture");
  if (!status.is_ok()) return device_.is_lost() ? status : Status::ok();
  // A cancellation that arrives meanwhile would leave half a graph.
  SeForwardArgs recorded = args;
  recorded.cancel = nullptr;
  status = queue_small(recorded, staging, plan, workspace, true);
  cudaGraph_t graph = nullptr;
  const Status ended = device_.check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  if (status.is_ok()) status = ended;
  cudaGraphExec_t executable = nullptr;
  if (status.is_ok())
    status = device_.check(cudaGraphInstantiateWithFlags(&executable, graph, 0),
                           "cudaGraphInstantiateWithFlags");
  if (graph != nullptr && !device_.is_lost())
    static_cast<void>(device_.check(cudaGraphDestroy(graph), "cudaGraphDestroy"));
  if (device_.is_lost()) return device_.enter();
  if (!status.is_ok()) return Status::ok();
  entry->graph = executable;
  entry->is_forbidden = false;
  device_.counters().graph_captures += 1;
  return Status::ok();
}

Status Layer::run_small(const SeForwardArgs& args, const StagingPlan& staging,
                        const ForwardPlan& plan, char* workspace) {
  SE_RETURN_IF_ERROR(reserve_staging(staging.total_bytes));
  char* const block = pinned_.data();
  const SeSelectArgs& select = args.select;
  const int64_t num_tokens = select.num_tokens;
  const int64_t num_slots = num_tokens * layer_.routing.top_k;
  const auto put = [&](uint64_t offset, const void* from, int64_t bytes) {
    if (offset != StagingPlan::kNone) std::memcpy(block + offset, from, bytes);
  };
  if (staging.hidden != StagingPlan::kNone) pack_rows(args.hidden, block + staging.hidden);
  if (staging.router_input != StagingPlan::kNone)
    pack_rows(args.router_input, block + staging.router_input);
  put(staging.token_ids, select.token_ids, num_tokens * 4);
  put(staging.row_top_k, select.row_top_k, num_tokens);
  put(staging.sequence_lengths, select.sequence_lengths, select.num_sequences * 4);
  if (args.replay != 0) {
    put(staging.topk_ids, select.topk_ids, num_slots * 4);
    put(staging.topk_weights, select.topk_weights, num_slots * 4);
  }

  GraphCache::Entry* entry = nullptr;
  GraphCache::Action action = GraphCache::Action::kPlain;
  if (device_.graphs_enabled() && num_tokens <= kGraphTokens && plan.wave_tokens >= num_tokens)
    action = graphs_.look_up(make_graph_key(args, workspace), &entry);
  if (action == GraphCache::Action::kCapture)
    SE_RETURN_IF_ERROR(capture(args, staging, plan, workspace, entry));
  Status status;
  if (entry != nullptr && entry->graph != nullptr) {
    status = device_.check(cudaGraphLaunch(entry->graph, stream_), "cudaGraphLaunch");
    if (status.is_ok()) device_.counters().graph_replays += 1;
  } else {
    status = queue_small(args, staging, plan, workspace, false);
  }
  SE_RETURN_IF_ERROR(finish(status));
  device_.counters().copied_to_device_bytes += staging.input_bytes;
  device_.counters().copied_to_host_bytes += staging.total_bytes - staging.result_begin;

  const auto get = [&](void* to, uint64_t offset, int64_t bytes) {
    if (to != nullptr) std::memcpy(to, block + offset, bytes);
  };
  if (args.replay == 0) {
    get(select.topk_ids, staging.topk_ids, num_slots * 4);
    get(select.topk_weights, staging.topk_weights, num_slots * 4);
  }
  get(select.non_finite, staging.non_finite, num_tokens);
  if (staging.output != StagingPlan::kNone) unpack_rows(block + staging.output, args.output);
  return Status::ok();
}

Status Layer::run_large(const SeForwardArgs& args, const StagingPlan& staging,
                        const ForwardPlan& plan, char* workspace) {
  std::lock_guard<std::mutex> lock(device_.bulk_mutex);
  SE_RETURN_IF_ERROR(device_.bulk().reserve(staging.total_bytes));
  char* const block = device_.bulk().data();
  Copier& copier = device_.copier();
  const SeSelectArgs& select = args.select;
  const int64_t num_tokens = select.num_tokens;
  const int64_t num_slots = num_tokens * layer_.routing.top_k;
  const auto put = [&](uint64_t offset, const void* from, int64_t bytes) {
    return offset == StagingPlan::kNone ? Status::ok()
                                        : copier.to_device(block + offset, from, bytes);
  };
  if (staging.hidden != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.hidden, args.hidden));
  if (staging.router_input != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.router_input, args.router_input));
  SE_RETURN_IF_ERROR(put(staging.token_ids, select.token_ids, num_tokens * 4));
  SE_RETURN_IF_ERROR(put(staging.row_top_k, select.row_top_k, num_tokens));
  SE_RETURN_IF_ERROR(
      put(staging.sequence_lengths, select.sequence_lengths, select.num_sequences * 4));
  if (args.replay != 0) {
    SE_RETURN_IF_ERROR(put(staging.topk_ids, select.topk_ids, num_slots * 4));
    SE_RETURN_IF_ERROR(put(staging.topk_weights, select.topk_weights, num_slots * 4));
  }
  SE_RETURN_IF_ERROR(finish(queue_forward(queue_of(plan, workspace, false), args,
                                          place_arrays(layer_, args, staging, block))));
  const auto get = [&](void* to, uint64_t offset, int64_t bytes) {
    return to == nullptr ? Status::ok() : copier.to_host(to, block + offset, bytes);
  };
  if (args.replay == 0) {
    SE_RETURN_IF_ERROR(get(select.topk_ids, staging.topk_ids, num_slots * 4));
    SE_RETURN_IF_ERROR(get(select.topk_weights, staging.topk_weights, num_slots * 4));
  }
  SE_RETURN_IF_ERROR(get(select.non_finite, staging.non_finite, num_tokens));
  if (staging.output == StagingPlan::kNone) return Status::ok();
  return copier.rows_to_host(args.output, block + staging.output);
}

}  // namespace sparse_experts::cuda
