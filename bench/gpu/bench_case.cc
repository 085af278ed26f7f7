#include "bench_case.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>

#include "cuda/layer/forward.h"

namespace sparse_experts::bench {
namespace {

void require_ok(const Status& status, const char* what) {
  SeStatus plain{};
  require(status.write_to(&plain), plain, what);
}

}  // namespace

void require(int32_t code, const SeStatus& status, const char* what) {
  if (code == SE_OK) return;
  std::fprintf(stderr, "cuda_bench: %s: %s\n", what, status.message);
  std::exit(code == SE_DEVICE_UNAVAILABLE ? 3 : 1);
}

SeDevice& open_device(const SeBackend& backend) {
  SeStatus status{};
  SeDevice* device = nullptr;
  require(backend.device_open(0, &device, &status), status, "device");
  require_ok(device->enter(), "device");
  return *device;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::vector<int64_t> parse_numbers(const std::string& text) {
  std::vector<int64_t> numbers;
  for (const std::string& part : split(text, ',')) numbers.push_back(std::atoll(part.c_str()));
  return numbers;
}

bool parse_shape(const std::string& text, Shape* shape) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() != 6) return false;
  const auto number = [&](size_t i) { return std::atoll(parts[i].c_str()); };
  *shape = {parts[0], number(1), number(2), number(3), number(4), number(5)};
  return true;
}

CallArrays::CallArrays(const Shape& shape, int64_t num_tokens, uint64_t workspace_bytes)
    : hidden(allocate(static_cast<uint64_t>(num_tokens * shape.hidden_size) * 2, "hidden")),
      output(allocate(static_cast<uint64_t>(num_tokens * shape.hidden_size) * 2, "output")),
      ids(allocate(static_cast<uint64_t>(num_tokens * shape.top_k) * 4, "ids")),
      weights(allocate(static_cast<uint64_t>(num_tokens * shape.top_k) * 4, "weights")),
      non_finite(allocate(static_cast<uint64_t>(num_tokens), "flags")),
      workspace(allocate(workspace_bytes, "workspace")) {
  fill_bf16(hidden.get(), num_tokens * shape.hidden_size, 1.0f, 100, nullptr);
  must(cudaDeviceSynchronize(), "hidden");
}

BenchCase::BenchCase(const SeBackend& backend, SeDevice& device, const Shape& shape,
                     const BenchLayer& weights, int64_t num_tokens, const SeLayerOptions& options)
    : backend_(backend),
      device_(device),
      shape_(shape),
      weights_(weights),
      num_tokens_(num_tokens),
      options_(options),
      plan_(cuda::plan_forward(weights.layer(0), device.limits(), num_tokens)),
      arrays_(shape, num_tokens, plan_.total_bytes) {
  must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  for (int copy = 0; copy < weights.num_copies(); ++copy) {
    maps_.push_back(std::make_unique<cuda::WeightMaps>(device));
    require_ok(maps_.back()->open(weights.layer(copy), true), "tensor maps");
  }
}
BenchCase::~BenchCase() { static_cast<void>(cudaStreamDestroy(stream_)); }

double BenchCase::graph_microseconds(int forwards, int copies, int replays) {
  return record(forwards, copies)->median_microseconds(replays) / forwards;
}

std::unique_ptr<Replay> BenchCase::record(int forwards, int copies) {
  return std::make_unique<Replay>(stream_, [&] {
    for (int i = 0; i < forwards; ++i) queue(i % copies);
  });
}

std::vector<std::pair<std::string, double>> BenchCase::kernel_microseconds(int forwards, int copies,
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
    // The kernels before this one, alone and again and again, left nothing that it could work on.
    run_once();
    times.emplace_back(name, Replay(stream_, single).median_microseconds(replays) / forwards);
    must(cudaGraphDestroy(single), "graph");
  }
  must(cudaGraphDestroy(graph), "graph");
#else
  static_cast<void>(forwards + copies + replays);
#endif
  return times;
}

double BenchCase::host_microseconds(int calls) {
  SeStatus status{};
  SeLayer* opened = nullptr;
  require(backend_.layer_open(&device_, &weights_.layer(0), &options_, &opened, &status), status,
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
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    if (i >= 3) times.push_back(time.count());
  }
  backend_.layer_close(opened);
  return median(times);
}

int64_t BenchCase::experts_hit() const {
  std::vector<int32_t> ids(static_cast<size_t>(num_tokens_ * shape_.top_k));
  must(cudaMemcpy(ids.data(), arrays_.ids.get(), ids.size() * 4, cudaMemcpyDeviceToHost), "ids");
  const std::set<int32_t> distinct(ids.begin(), ids.end());
  return static_cast<int64_t>(distinct.size());
}

void BenchCase::run_once() {
  queue(0);
  must(cudaStreamSynchronize(stream_), "forward");
}

void BenchCase::dump(const std::string& directory, const std::string& routing) const {
  const std::string suffix = "-" + std::to_string(num_tokens_) + "-" + routing + ".bin";
  const auto bytes = static_cast<uint64_t>(num_tokens_ * shape_.hidden_size) * 2;
  dump_array(directory + "/hidden" + suffix, arrays_.hidden.get(), bytes);
  dump_array(directory + "/output" + suffix, arrays_.output.get(), bytes);
  dump_array(directory + "/ids" + suffix, arrays_.ids.get(),
             static_cast<uint64_t>(num_tokens_ * shape_.top_k) * 4);
}

BenchCase::Row BenchCase::row(int64_t token) const {
  const auto download = [&](const DeviceMemory& memory, int64_t width, auto* values) {
    values->resize(static_cast<size_t>(width));
    const uint64_t bytes = values->size() * sizeof(values->front());
    must(cudaMemcpy(values->data(), memory.get() + static_cast<uint64_t>(token) * bytes, bytes,
                    cudaMemcpyDeviceToHost),
         "row");
  };
  Row row;
  download(arrays_.hidden, shape_.hidden_size, &row.hidden);
  download(arrays_.output, shape_.hidden_size, &row.output);
  download(arrays_.ids, shape_.top_k, &row.ids);
  download(arrays_.weights, shape_.top_k, &row.weights);
  return row;
}

SeTensor BenchCase::tensor(void* data) const {
  return {data, SE_BF16, 2, {num_tokens_, shape_.hidden_size}, {shape_.hidden_size, 1}};
}

cudaGraph_t BenchCase::capture(int forwards, int copies) {
  cudaGraph_t graph = nullptr;
  must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < forwards; ++i) queue(i % copies);
  must(cudaStreamEndCapture(stream_, &graph), "capture");
  return graph;
}

SeForwardArgs BenchCase::scalars() const {
  SeForwardArgs args{};
  args.select.num_tokens = num_tokens_;
  args.select.call_top_k = shape_.top_k;
  args.select.top_p = 1;
  args.select.num_sequences = 1;
  return args;
}

void BenchCase::queue(int copy) {
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
  const cuda::ForwardQueue queue{device_,
                                 weights_.layer(copy),
                                 options_,
                                 weights_.expert_table(copy),
                                 maps_[static_cast<size_t>(copy)]->maps(),
                                 stream_,
                                 plan_,
                                 arrays_.workspace.get(),
                                 true};
  require_ok(cuda::queue_forward(queue, scalars(), arrays), "queue");
}

}  // namespace sparse_experts::bench
