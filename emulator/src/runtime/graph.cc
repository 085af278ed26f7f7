// Capture's two ends, and graphs. A graph runs its nodes one at a time in an order that its edges
// allow and that changes from launch to launch.
#include <algorithm>
#include <utility>

#include "runtime/capture.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

namespace {

cudaError_t run_graph(const GraphData& graph, uint64_t seed) {
  std::vector<size_t> missing(graph.nodes.size());
  std::vector<std::vector<size_t>> followers(graph.nodes.size());
  std::vector<size_t> ready;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    missing[i] = graph.nodes[i].after.size();
    if (missing[i] == 0) ready.push_back(i);
    for (const size_t before : graph.nodes[i].after) followers[before].push_back(i);
  }
  while (!ready.empty()) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(ready[(seed >> 33) % ready.size()], ready.back());
    const size_t node = ready.back();
    ready.pop_back();
    if (graph.nodes[node].work.run) {
      const cudaError_t error = graph.nodes[node].work.run();
      if (error != cudaSuccess) return error;
    }
    for (const size_t follower : followers[node]) {
      if (--missing[follower] == 0) ready.push_back(follower);
    }
  }
  return cudaSuccess;
}

// Whether some node comes before nothing and is not among the stream's last ones.
bool has_unjoined(const CUstream_st& origin) {
  const std::vector<GraphNode>& nodes = origin.capture->graph->nodes;
  std::vector<bool> joined(nodes.size());
  for (const GraphNode& node : nodes) {
    for (const size_t before : node.after) joined[before] = true;
  }
  for (const size_t last : origin.capture_tail) joined[last] = true;
  return std::find(joined.begin(), joined.end(), false) != joined.end();
}

}  // namespace

extern "C" {

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return call(Needs::kNothing, [&](Runtime&, Lock&) -> cudaError_t {
    if (mode == nullptr || *mode < cudaStreamCaptureModeGlobal ||
        *mode > cudaStreamCaptureModeRelaxed) {
      return cudaErrorInvalidValue;
    }
    std::swap(*mode, thread_state().capture_mode);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed) {
      return cudaErrorInvalidValue;
    }
    if (stream->legacy) return cudaErrorStreamCaptureUnsupported;
    if (stream->capture != nullptr) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->graph->device = stream->device;
    capture->members.push_back(stream);
    stream->capture = capture;
    stream->capture_tail.clear();
    state.captures.push_back(std::move(capture));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (graph == nullptr) return cudaErrorInvalidValue;
    *graph = nullptr;
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture == nullptr) return cudaErrorIllegalState;
    if (capture->origin != stream) {
      capture->invalid = true;
      return cudaErrorStreamCaptureUnmatched;
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        capture->thread != std::this_thread::get_id()) {
      capture->invalid = true;
      return cudaErrorStreamCaptureWrongThread;
    }
    const bool unjoined = has_unjoined(*stream);
    end_capture(state, capture);
    const cudaError_t failure = state.devices[static_cast<size_t>(stream->device)]->failure;
    if (failure != cudaSuccess) return failure;
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (unjoined) return cudaErrorStreamCaptureUnjoined;
    auto made = std::make_unique<CUgraph_st>();
    made->data = capture->graph;
    state.graphs.insert(made.get());
    ++state.counters.live_graphs;
    *graph = made.release();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (status == nullptr) return cudaErrorInvalidValue;
    if (stream->legacy) {
      const cudaError_t error = refuse_legacy(state, stream->device);
      if (error != cudaSuccess) return error;
    }
    *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* num_nodes) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.graphs.count(graph) == 0 || num_nodes == nullptr) return cudaErrorInvalidValue;
    std::vector<GraphNode>& all = graph->data->nodes;
    if (nodes != nullptr) {
      for (size_t i = 0; i < *num_nodes; ++i) {
        nodes[i] = i < all.size() ? reinterpret_cast<cudaGraphNode_t>(&all[i]) : nullptr;
      }
    }
    if (nodes == nullptr || *num_nodes > all.size()) *num_nodes = all.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (exec == nullptr || state.graphs.count(graph) == 0) return cudaErrorInvalidValue;
    if (flags != 0) return cudaErrorNotSupported;
    if (fault_due(state, "graph")) return cudaErrorMemoryAllocation;
    auto made = std::make_unique<CUgraphExec_st>();
    made->data = std::make_shared<const GraphData>(*graph->data);
    state.execs.insert(made.get());
    ++state.counters.live_graphs;
    ++state.counters.graphs_instantiated;
    *exec = made.release();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t handle) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.execs.count(exec) == 0) return cudaErrorInvalidValue;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return submit(state, stream, Work(), nullptr);
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    if (state.execs.count(exec) == 0) return cudaErrorInvalidValue;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr || stream->device != exec->data->device) {
      return cudaErrorInvalidResourceHandle;
    }
    if (fault_due(state, "launch")) {
      if (stream->capture != nullptr) stream->capture->invalid = true;
      return cudaErrorLaunchOutOfResources;
    }
    Work work;
    work.kind = "graph";
    for (const GraphNode& node : exec->data->nodes) {
      work.has_host_function = work.has_host_function || node.work.has_host_function;
    }
    const uint64_t seed = ++state.counters.graph_launches;
    work.run = [data = exec->data, seed] { return run_graph(*data, seed); };
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, std::move(work), &queued);
    if (error != cudaSuccess || queued == nullptr) return error;
    if (exec->last_launch != nullptr && !exec->last_launch->done) {
      queued->after.push_back(exec->last_launch);
    }
    exec->last_launch = queued;
    relieve(state, lock, queued);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.execs.erase(exec) == 0) return cudaErrorInvalidValue;
    --state.counters.live_graphs;
    delete exec;  // launches that wait hold what they need
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.graphs.erase(graph) == 0) return cudaErrorInvalidValue;
    --state.counters.live_graphs;
    delete graph;
    return cudaSuccess;
  });
}

}  // extern "C"
