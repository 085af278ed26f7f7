// A graph of launches that is replayed again and again, and how long that takes.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

namespace sparse_experts::bench {

double median(std::vector<double> values);

class Replay {
 public:
  // Records what `queue` puts on the stream. The stream outlives the replay.
  Replay(cudaStream_t stream, const std::function<void()>& queue);
  // Of a graph that stays the caller's.
  Replay(cudaStream_t stream, cudaGraph_t graph);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // Of one replay, by events on the stream.
  double microseconds();
  // Of `count` replays, after two that are not counted.
  double median_microseconds(int count);

  // Queues a replay and does not wait.
  void queue();
  void wait();

 private:
  void instantiate(cudaGraph_t graph);

  cudaStream_t stream_;
  cudaGraphExec_t exec_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace sparse_experts::bench
