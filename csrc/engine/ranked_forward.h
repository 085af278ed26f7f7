// A forward of a layer whose experts lie on several ranks. It runs in steps on the device's thread, and
// between them it holds nothing but memory while peers compute their rows:
//
//   route, ask peers, compute own experts │ wait │ take their rows, sum │ the next wave of tokens …
//
// The rows come back one for each slot, and the sum is that of a layer with all experts, in the order of
// the slots: which rank computed a row changes no bit.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/completion.h"
#include "engine/layer.h"
#include "engine/run_workspaces.h"
#include "engine/wave_split.h"
#include "transport/transport.h"

namespace sparse_experts::engine {

class RankedForward {
 public:
  // args and its arrays stay until the call has ended; its `cancel` is replaced.
  RankedForward(std::shared_ptr<LayerState> layer, const SeForwardArgs& args);
  ~RankedForward();
  RankedForward(const RankedForward&) = delete;
  RankedForward& operator=(const RankedForward&) = delete;

  const std::shared_ptr<LayerState>& layer() const { return layer_; }
  // Once it has ended.
  const Failure& failure() const { return peer_failure_.is_ok() ? failure_ : peer_failure_; }

  // Who hears kDone, and of which call.
  std::shared_ptr<CompletionQueue> completions;
  uint64_t call_id = 0;

 private:
  friend class RankGroup;
  using Clock = std::chrono::steady_clock;

  // On the device's thread. `ask` sends the parts of a wave to their owners; what it throws ends the call.
  void step(RunWorkspaces& workspaces, const std::vector<int32_t>& owner_of, int32_t rank,
            const std::function<void()>& ask) noexcept;
  bool has_ended() const { return has_ended_; }

  void begin(RunWorkspaces& workspaces);
  bool next_wave(const std::vector<int32_t>& owner_of, int32_t rank);
  void compute_own();
  void take_rows();
  void finish_wave();
  void end_run() noexcept;

  const std::shared_ptr<LayerState> layer_;
  SeForwardArgs args_;
  std::atomic<int32_t> cancel_{0};

  // Of the step that runs, or of nobody.
  RunWorkspaces* workspaces_ = nullptr;
  std::shared_ptr<DeviceMemory> workspace_;
  SeForwardRun* run_ = nullptr;
  WaveSplit split_;
  bool has_ended_ = false;
  Failure failure_;

  // Of the group, under its lock.
  bool is_running_ = false;    // a step is queued or runs
  size_t num_unanswered_ = 0;  // parts
  Clock::time_point deadline_;
  std::vector<const float*> rows_;            // by part
  std::vector<SeTransportMessage> messages_;  // that the rows lie in
  Failure peer_failure_;
};

}  // namespace sparse_experts::engine
