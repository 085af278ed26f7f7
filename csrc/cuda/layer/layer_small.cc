// A small call: its arrays travel as one block through staging memory of the device, and what it
// queues is recorded into a graph where the same call comes again.
#include <type_traits>

#include "cuda/layer/call_arrays.h"
#include "cuda/layer/layer.h"
#include "cuda/layer/place_arrays.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts::cuda {
namespace {

// Above this the launches of a call cost nothing beside its kernels, and sizes seldom repeat.
constexpr int64_t kGraphTokens = 8192;

}  // namespace

Status Layer::reserve_staging(uint64_t bytes, bool is_staged) {
  CallStaging& staging = device_.call_staging();
  Status status = staging.reserve(bytes, !is_staged, stream_);
  if (graphs_generation_ != staging.generation()) graphs_.clear();
  graphs_generation_ = staging.generation();
  return status;
}

char* Layer::block_of(const SeForwardArgs& args) const {
  const CallStaging& staging = device_.call_staging();
  return args.is_staged != 0 ? staging.lent() : staging.pinned();
}

Status Layer::stage(SeForwardArgs* args) {
  args->is_staged = 0;
  if (args->select.num_tokens == 0 || !check_forward(layer_, *args).is_ok()) return Status::ok();
  const StagingPlan staging = plan_staging(layer_, *args);
  if (staging.total_bytes > kMostStagedBytes) return Status::ok();
  bool is_lent = false;
  SE_RETURN_IF_ERROR(device_.call_staging().lend(staging.total_bytes, &is_lent));
  if (!is_lent) return Status::ok();
  char* const block = device_.call_staging().lent();
  // An array that the caller does not have stays absent, and so is refused where one is needed.
  const auto place = [&](auto** array, uint64_t offset) {
    if (offset == StagingPlan::kNone) *array = nullptr;
    if (*array != nullptr)
      *array = reinterpret_cast<std::decay_t<decltype(*array)>>(block + offset);
  };
  const auto place_rows = [&](SeTensor* rows, uint64_t offset, uint32_t device_bit) {
    if (rows->data == nullptr || (args->device_arrays & device_bit) != 0) return;
    rows->data = offset == StagingPlan::kNone ? nullptr : block + offset;
    rows->strides[0] = rows->shape[1];
  };
  place_rows(&args->hidden, staging.hidden, SE_ARRAY_HIDDEN);
  place_rows(&args->router_input, staging.router_input, SE_ARRAY_ROUTER_INPUT);
  place_rows(&args->output, staging.output, SE_ARRAY_OUTPUT);
  SeSelectArgs& select = args->select;
  place(&select.token_ids, staging.token_ids);
  place(&select.row_top_k, staging.row_top_k);
  place(&select.row_top_p, staging.row_top_p);
  place(&select.sequence_lengths, staging.sequence_lengths);
  place(&select.topk_ids, staging.topk_ids);
  place(&select.topk_weights, staging.topk_weights);
  place(&select.non_finite, staging.non_finite);
  args->is_staged = 1;
  return Status::ok();
}

Status Layer::queue_small(const SeForwardArgs& args, const StagingPlan& staging,
                          const ForwardPlan& plan, char* workspace, bool is_recorded) {
  char* const block = block_of(args);
  char* const on_device = device_.call_staging().block();
  if (staging.input_bytes > 0)
    SE_RETURN_IF_ERROR(device_.check(
        cudaMemcpyAsync(on_device, block, staging.input_bytes, cudaMemcpyHostToDevice, stream_),
        "copy of the inputs"));
  SE_RETURN_IF_ERROR(queue_forward(queue_of(plan, workspace, is_recorded), args,
                                   place_arrays(layer_, args, staging, on_device)));
  return device_.check(
      cudaMemcpyAsync(block + staging.result_begin, on_device + staging.result_begin,
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
  std::lock_guard<std::mutex> lock(device_.call_staging().mutex);
  SE_RETURN_IF_ERROR(reserve_staging(staging.total_bytes, args.is_staged != 0));
  char* const block = block_of(args);
  const int64_t num_tokens = args.select.num_tokens;
  if (args.is_staged == 0) bring_in(layer_, args, staging, block);

  GraphCache::Entry* entry = nullptr;
  GraphCache::Action action = GraphCache::Action::kPlain;
  if (device_.graphs_enabled() && num_tokens <= kGraphTokens && plan.wave_tokens >= num_tokens)
    action = graphs_.look_up(make_graph_key(args, workspace, block), &entry);
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
  if (args.is_staged == 0) {
    hand_out_routing(layer_, args, staging, block);
    hand_out_rows(args, staging, block, 0, num_tokens);
  }
  return Status::ok();
}

}  // namespace sparse_experts::cuda
