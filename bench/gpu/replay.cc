#include "replay.h"

#include <algorithm>

#include "bench_layer.h"

namespace sparse_experts::bench {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

Replay::Replay(cudaStream_t stream, const std::function<void()>& queue) : stream_(stream) {
  cudaGraph_t graph = nullptr;
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  queue();
  must(cudaStreamEndCapture(stream, &graph), "capture");
  instantiate(graph);
  must(cudaGraphDestroy(graph), "graph");
}

Replay::Replay(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) { instantiate(graph); }

Replay::~Replay() {
  static_cast<void>(cudaGraphExecDestroy(exec_));
  static_cast<void>(cudaEventDestroy(begin_));
  static_cast<void>(cudaEventDestroy(end_));
}

void Replay::instantiate(cudaGraph_t graph) {
  must(cudaGraphInstantiate(&exec_, graph, 0), "graph");
  must(cudaEventCreate(&begin_), "event");
  must(cudaEventCreate(&end_), "event");
}

double Replay::microseconds() {
  must(cudaEventRecord(begin_, stream_), "event");
  queue();
  must(cudaEventRecord(end_, stream_), "event");
  must(cudaEventSynchronize(end_), "replay");
  float milliseconds = 0;
  must(cudaEventElapsedTime(&milliseconds, begin_, end_), "event");
  return static_cast<double>(milliseconds) * 1e3;
}

double Replay::median_microseconds(int count) {
  std::vector<double> times;
  for (int i = 0; i < count + 2; ++i) {
    const double time = microseconds();
    if (i >= 2) times.push_back(time);
  }
  return median(times);
}

void Replay::queue() { must(cudaGraphLaunch(exec_, stream_), "replay"); }

void Replay::wait() { must(cudaStreamSynchronize(stream_), "replay"); }

}  // namespace sparse_experts::bench
