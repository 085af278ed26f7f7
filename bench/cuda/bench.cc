// cuda_bench --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing uniform,zipf] [--replays N]
//            [--forwards N] [--dump DIRECTORY] [--limits]
//
// Times the CUDA backend's forward of one shape in bf16, by CUDA events around graph replays:
//   cold  each forward of the graph reads another copy of the weights
//   warm  all forwards read one copy
//   host  wall time of a call through the C ABI, arrays on the device
// Prints one JSON object per line. --dump leaves inputs and outputs for
// bench/cuda/torch_baseline.py. Exit status 3: no CUDA device.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "bench_layer.h"
#include "cuda/device.h"
#include "cuda/forward.h"
#include "cuda/forward_plan.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace sparse_experts::bench {
namespace {

struct Options {
  Shape shape;
  std::vector<int64_t> tokens = {1, 8, 64, 512, 4096};
  std::vector<std::string> routings = {"uniform", "zipf"};
  int replays = 15;
  int forwards = 16;  // per graph
  std::string dump;
  bool limits = false;
};

void require(int32_t code, const SeStatus& status, const char* what) {
  if (code == SE_OK) return;
  std::fprintf(stderr, "cuda_bench: %s: %s\n", what, status.message);
  std::exit(code == SE_DEVICE_UNAVAILABLE ? 3 : 1);
}

void require(const Status& status, const char* what) {
  SeStatus plain{};
  require(status.write_to(&plain), plain, what);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Arrays of one call.
struct CallArrays {
  CallArrays(const Shape& shape, int64_t num_tokens, uint64_t workspace_bytes)
      : hidden(allocate(static_cast<uint64_t>(num_tokens * shape.hidden_size) * 2, "hidden")),
        output(allocate(static_cast<uint64_t>(num_tokens * shape.hidden_size) * 2, "output")),
        ids(allocate(static_cast<uint64_t>(num_tokens * shape.top_k) * 4, "ids")),
        weights(allocate(static_cast<uint64_t>(num_tokens * shape.top_k) * 4, "weights")),
        non_finite(allocate(static_cast<uint64_t>(num_tokens), "flags")),
        workspace(allocate(workspace_bytes, "workspace")) {
    fill_bf16(hidden.get(), num_tokens * shape.hidden_size, 1.0f, 100, nullptr);
    must(cudaDeviceSynchronize(), "hidden");
  }
  DeviceMemory hidden, output, ids, weights, non_finite, workspace;
};

class Case {
 public:
  Case(const SeBackend& backend, SeDevice& device, const Shape& shape, const BenchLayer& weights,
       int64_t num_tokens)
      : backend_(backend),
        device_(device),
        shape_(shape),
        weights_(weights),
        num_tokens_(num_tokens),
        plan_(cuda::plan_forward(weights.layer(0), device.limits(), num_tokens)),
        arrays_(shape, num_tokens, plan_.total_bytes) {
    must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    must(cudaEventCreate(&begin_), "event");
    must(cudaEventCreate(&end_), "event");
  }
  ~Case() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  // Microseconds of one forward; `copies` of the weights are read in turn.
  double graph_microseconds(int forwards, int copies, int replays) {
    cudaGraph_t graph = capture(forwards, copies);
    const double time = replay_microseconds(graph, replays) / forwards;
    must(cudaGraphDestroy(graph), "graph");
    return time;
  }

  // Microseconds of each kernel of a forward: a graph of that kernel alone, once per forward, so
  // its weights are as cold as in the layer. Empty where graphs cannot be taken apart.
  std::vector<std::pair<std::string, double>> kernel_microseconds(int forwards, int copies,
                                                                  int replays) {
    std::vector<std::pair<std::string, double>> times;
#if !defined(SIMT_EMULATOR)
    cudaGraph_t graph = capture(forwards, copies);
    size_t num_nodes = 0;
    must(cudaGraphGetNodes(graph, nullptr, &num_nodes), "nodes");
    std::vector<cudaGraphNode_t> nodes(num_nodes);
    must(cudaGraphGetNodes(graph, nodes.data(), &num_nodes), "nodes");
    const size_t period = num_nodes / static_cast<size_t>(forwards);
    for (size_t place = 0; place < period && num_nodes % period == 0; ++place) {
      cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
      must(cudaGraphNodeGetType(nodes[place], &type), "node");
      if (type != cudaGraphNodeTypeKernel) continue;
      cudaGraph_t single = nullptr;
      must(cudaGraphCreate(&single, 0), "graph");
      cudaGraphNode_t last = nullptr;
      const char* name = "";
      for (size_t at = place; at < num_nodes; at += period) {
        cudaKernelNodeParams parameters{};
        must(cudaGraphKernelNodeGetParams(nodes[at], &parameters), "node");
        must(cudaFuncGetName(&name, parameters.func), "name");
        cudaGraphNode_t added = nullptr;
        must(cudaGraphAddKernelNode(&added, single, last == nullptr ? nullptr : &last,
                                    last == nullptr ? 0 : 1, &parameters),
             "node");
        last = added;
      }
      times.emplace_back(name, replay_microseconds(single, replays) / forwards);
      must(cudaGraphDestroy(single), "graph");
    }
    must(cudaGraphDestroy(graph), "graph");
#else
    static_cast<void>(forwards + copies + replays);
#endif
    return times;
  }

  // Wall time of a call through the ABI, the backend's own graphs and waits included.
  double host_microseconds(int calls) {
    SeStatus status{};
    SeLayer* opened = nullptr;
    const SeLayerOptions options{};
    require(backend_.layer_open(&device_, &weights_.layer(0), &options, &opened, &status), status,
            "layer");
    const auto slots = static_cast<size_t>(num_tokens_ * shape_.top_k);
    std::vector<int32_t> ids(slots);
    std::vector<float> routing_weights(slots);
    std::vector<uint8_t> non_finite(static_cast<size_t>(num_tokens_));
    SeForwardArgs args = scalars();
    args.device_arrays = SE_ARRAY_HIDDEN | SE_ARRAY_OUTPUT;
    args.hidden = tensor(arrays_.hidden.get());
    args.output = tensor(arrays_.output.get());
    args.select.topk_ids = ids.data();
    args.select.topk_weights = routing_weights.data();
    args.select.non_finite = non_finite.data();
    std::vector<double> times;
    for (int i = 0; i < calls + 3; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      require(backend_.forward(opened, &args, arrays_.workspace.get(), plan_.total_bytes, &status),
              status, "forward");
      const std::chrono::duration<double, std::micro> time =
          std::chrono::steady_clock::now() - begin;
      if (i >= 3) times.push_back(time.count());
    }
    backend_.layer_close(opened);
    return median(times);
  }

  // Experts that have a token, after any forward.
  int64_t experts_hit() const {
    std::vector<int32_t> ids(static_cast<size_t>(num_tokens_ * shape_.top_k));
    must(cudaMemcpy(ids.data(), arrays_.ids.get(), ids.size() * 4, cudaMemcpyDeviceToHost), "ids");
    const std::set<int32_t> distinct(ids.begin(), ids.end());
    return static_cast<int64_t>(distinct.size());
  }

  void run_once() {
    queue(0);
    must(cudaStreamSynchronize(stream_), "forward");
  }

  void dump(const std::string& directory, const std::string& routing) const {
    const std::string suffix = "-" + std::to_string(num_tokens_) + "-" + routing + ".bin";
    const auto bytes = static_cast<uint64_t>(num_tokens_ * shape_.hidden_size) * 2;
    dump_array(directory + "/hidden" + suffix, arrays_.hidden.get(), bytes);
    dump_array(directory + "/output" + suffix, arrays_.output.get(), bytes);
    dump_array(directory + "/ids" + suffix, arrays_.ids.get(),
               static_cast<uint64_t>(num_tokens_ * shape_.top_k) * 4);
  }

 private:
  SeTensor tensor(void* data) const {
    return {data, SE_BF16, 2, {num_tokens_, shape_.hidden_size}, {shape_.hidden_size, 1}};
  }

  cudaGraph_t capture(int forwards, int copies) {
    cudaGraph_t graph = nullptr;
    must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < forwards; ++i) queue(i % copies);
    must(cudaStreamEndCapture(stream_, &graph), "capture");
    return graph;
  }

  // Median time of a whole graph, after two replays that are not counted.
  double replay_microseconds(cudaGraph_t graph, int replays) {
    cudaGraphExec_t exec = nullptr;
    must(cudaGraphInstantiate(&exec, graph, 0), "graph");
    std::vector<double> times;
    for (int i = 0; i < replays + 2; ++i) {
      must(cudaEventRecord(begin_, stream_), "event");
      must(cudaGraphLaunch(exec, stream_), "replay");
      must(cudaEventRecord(end_, stream_), "event");
      must(cudaEventSynchronize(end_), "replay");
      float milliseconds = 0;
      must(cudaEventElapsedTime(&milliseconds, begin_, end_), "event");
      if (i >= 2) times.push_back(milliseconds * 1e3);
    }
    must(cudaGraphExecDestroy(exec), "graph");
    return median(times);
  }

  SeForwardArgs scalars() const {
    SeForwardArgs args{};
    args.select.num_tokens = num_tokens_;
    args.select.call_top_k = shape_.top_k;
    args.select.top_p = 1;
    args.select.num_sequences = 1;
    return args;
  }

  void queue(int copy) {
    cuda::ForwardArrays arrays;
    arrays.hidden = arrays_.hidden.get();
    arrays.hidden_dtype = SE_BF16;
    arrays.hidden_stride = shape_.hidden_size;
    arrays.router_input = arrays.hidden;
    arrays.router_input_dtype = SE_BF16;
    arrays.router_input_stride = shape_.hidden_size;
    arrays.topk_ids = reinterpret_cast<int32_t*>(arrays_.ids.get());
    arrays.topk_weights = reinterpret_cast<float*>(arrays_.weights.get());
    arrays.non_finite = reinterpret_cast<uint8_t*>(arrays_.non_finite.get());
    arrays.output = arrays_.output.get();
    arrays.output_stride = shape_.hidden_size;
    const SeLayerOptions options{};
    const cuda::ForwardQueue queue{
        device_, weights_.layer(copy),    options, weights_.expert_table(copy), stream_,
        plan_,   arrays_.workspace.get(), true};
    require(cuda::queue_forward(queue, scalars(), arrays), "queue");
  }

  const SeBackend& backend_;
  SeDevice& device_;
  const Shape& shape_;
  const BenchLayer& weights_;
  const int64_t num_tokens_;
  const cuda::ForwardPlan plan_;
  CallArrays arrays_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

void run(const Options& options) {
  const SeBackend* backend = se_backend_entry();
  SeStatus status{};
  SeDevice* device = nullptr;
  require(backend->device_open(0, &device, &status), status, "device");
  require(device->enter(), "device");
  SeDeviceInfo info{};
  require(backend->device_info(0, &info, &status), status, "device");
  if (options.limits) {
    const double copy = measure_copy_bandwidth();
    std::printf(
        "{\"gpu\":\"%s\",\"architecture\":\"%s\",\"multiprocessors\":%d,\"copyGBs\":%.1f,"
        "\"mmaSyncTflops\":%.1f}\n",
        info.name, info.architecture, info.compute_units, copy * 1e-9, measure_mma_rate() * 1e-12);
    std::fflush(stdout);
  }
  if (options.shape.name.empty()) return;

  // Cold: what lies between two reads of the same weights is several times the cache. At one token
  // few experts are read, so copies are many.
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  must(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
  BenchLayer weights(options.shape, options.forwards, free_bytes / 10 * 6);
  for (const std::string& routing : options.routings) {
    weights.set_zipf(routing == "zipf");
    for (const int64_t num_tokens : options.tokens) {
      Case run(*backend, *device, options.shape, weights, num_tokens);
      run.run_once();
      const int64_t hit = run.experts_hit();
      const uint64_t weight_bytes =
          static_cast<uint64_t>(hit) * weights.expert_bytes() + weights.shared_bytes();
      const double flops =
          2.0 * 3 * static_cast<double>(options.shape.hidden_size) *
          static_cast<double>(num_tokens) *
          static_cast<double>(options.shape.top_k * options.shape.intermediate_size +
                              options.shape.shared_size);
      const double cold =
          run.graph_microseconds(options.forwards, weights.num_copies(), options.replays);
      const double warm = run.graph_microseconds(options.forwards, 1, options.replays);
      const double host = run.host_microseconds(options.replays);
      std::printf(
          "{\"shape\":\"%s\",\"tokens\":%lld,\"routing\":\"%s\",\"dtype\":\"bf16\","
          "\"expertsHit\":%lld,\"weightBytes\":%llu,\"flops\":%.6g,\"copies\":%d,"
          "\"coldUs\":%.2f,\"warmUs\":%.2f,\"hostUs\":%.2f,\"kernels\":[",
          options.shape.name.c_str(), static_cast<long long>(num_tokens), routing.c_str(),
          static_cast<long long>(hit), static_cast<unsigned long long>(weight_bytes), flops,
          weights.num_copies(), cold, warm, host);
      const char* separator = "";
      for (const auto& [name, time] :
           run.kernel_microseconds(options.forwards, weights.num_copies(), options.replays)) {
        std::printf("%s{\"name\":\"%s\",\"coldUs\":%.2f}", separator, name.c_str(), time);
        separator = ",";
      }
      std::printf("]}\n");
      std::fflush(stdout);
      if (!options.dump.empty()) run.dump(options.dump, routing);
    }
  }
  if (!options.dump.empty()) weights.dump(options.dump);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--limits") {
      options->limits = true;
      continue;
    }
    if (++i >= argc) return false;
    const std::string value = argv[i];
    if (name == "--shape") {
      const std::vector<std::string> parts = split(value, ':');
      if (parts.size() != 6) return false;
      options->shape = {parts[0],
                        std::atoll(parts[1].c_str()),
                        std::atoll(parts[2].c_str()),
                        std::atoll(parts[3].c_str()),
                        std::atoll(parts[4].c_str()),
                        std::atoll(parts[5].c_str())};
    } else if (name == "--tokens") {
      options->tokens.clear();
      for (const std::string& part : split(value, ','))
        options->tokens.push_back(std::atoll(part.c_str()));
    } else if (name == "--routing") {
      options->routings = split(value, ',');
    } else if (name == "--replays") {
      options->replays = std::atoi(value.c_str());
    } else if (name == "--forwards") {
      options->forwards = std::atoi(value.c_str());
    } else if (name == "--dump") {
      options->dump = value;
    } else {
      return false;
    }
  }
  return options->limits || !options->shape.name.empty();
}

}  // namespace
}  // namespace sparse_experts::bench

int main(int argc, char** argv) {
  sparse_experts::bench::Options options;
  if (!sparse_experts::bench::parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: cuda_bench --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing "
                 "uniform,zipf] [--replays N] [--forwards N] [--dump DIRECTORY] [--limits]\n");
    return 2;
  }
  sparse_experts::bench::run(options);
  return 0;
}
