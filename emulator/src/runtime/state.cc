// The runtime's one instance: set up from the environment at first use, reset and revived for
// tests.
#include "runtime/state.h"

#include <cstdio>

#include "runtime/memory_table.h"
#include "runtime/queue.h"

namespace simt::runtime {

namespace {

Runtime& instance() {
  static Runtime* const state = new Runtime;
  return *state;
}

}  // namespace

void configure(Runtime& state) {
  if (state.configured) return;
  state.configured = true;
  const Environment environment = read_environment();
  state.driver_version = environment.driver_version;
  state.has_driver = environment.driver_version >= CUDART_VERSION / 1000 * 1000;
  state.polls = environment.polls;
  for (size_t i = 0; i < environment.devices.size(); ++i) {
    auto device = std::make_unique<Device>();
    device->model = environment.devices[i];
    device->legacy.device = static_cast<int>(i);
    device->legacy.legacy = true;
    state.devices.push_back(std::move(device));
  }
}

Runtime& runtime() {
  Runtime& state = instance();
  const Lock lock(state.mutex);
  configure(state);
  return state;
}

ThreadState& thread_state() {
  static thread_local ThreadState thread;
  const uint64_t generation = instance().generation;
  if (thread.generation != generation) {
    const bool in_host_function = thread.in_host_function;
    thread = ThreadState();
    thread.generation = generation;
    thread.in_host_function = in_host_function;
  }
  return thread;
}

Device& current_device(Runtime& state) {
  return *state.devices[static_cast<size_t>(thread_state().device)];
}

CUstream_st* find_stream(Runtime& state, cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) return &current_device(state).legacy;
  return state.streams.count(handle) != 0 ? handle : nullptr;
}

void report(Runtime& state, const std::string& text) {
  ++state.counters.defects;
  if (!state.reported.insert(text).second) return;
  const bool named = text.compare(0, 5, "simt:") == 0;
  std::fprintf(stderr, "%s%s\n", named ? "" : "simt: ", text.c_str());
}

cudaError_t admit(Runtime& state, Needs needs) {
  if (thread_state().in_host_function) return cudaErrorNotPermitted;
  if (needs == Needs::kNothing) return cudaSuccess;
  if (!state.has_driver) return cudaErrorInsufficientDriver;
  if (state.devices.empty()) return cudaErrorNoDevice;
  return needs == Needs::kHealthy ? current_device(state).failure : cudaSuccess;
}

cudaError_t recorded(Runtime& state, cudaError_t error) {
  if (error == cudaSuccess) return error;
  const bool sticky = !state.devices.empty() && current_device(state).failure == error;
  if (!sticky) thread_state().last_error = error;
  return error;
}

}  // namespace simt::runtime

namespace simt {

void revive_devices() {
  runtime::Runtime& state = runtime::runtime();
  const runtime::Lock execution(state.execution);
  const runtime::Lock lock(state.mutex);
  for (size_t i = 0; i < state.devices.size(); ++i) {
    runtime::Device& device = *state.devices[i];
    if (device.failure == cudaSuccess) continue;
    runtime::abandon_work(state, static_cast<int>(i));
    device.failure = cudaSuccess;
  }
}

void reset_runtime() {
  runtime::Runtime& state = runtime::runtime();
  const runtime::Lock execution(state.execution);
  const runtime::Lock lock(state.mutex);
  for (const auto& capture : state.captures) capture->ended = true;
  state.captures.clear();
  for (size_t i = 0; i < state.devices.size(); ++i) {
    runtime::abandon_work(state, static_cast<int>(i));
  }
  while (!state.allocations.empty()) runtime::release(state, state.allocations.begin()->first);
  for (CUstream_st* stream : state.streams) delete stream;
  for (CUevent_st* event : state.events) delete event;
  for (CUgraph_st* graph : state.graphs) delete graph;
  for (CUgraphExec_st* exec : state.execs) delete exec;
  state.streams.clear();
  state.events.clear();
  state.graphs.clear();
  state.execs.clear();
  state.devices.clear();
  state.faults.clear();
  state.faults_from_environment = true;
  state.counters = RuntimeCounters();
  state.reported.clear();
  state.configured = false;
  ++state.generation;
}

}  // namespace simt
