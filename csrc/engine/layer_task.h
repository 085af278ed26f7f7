// A forward of a layer as a task of its device. Where the layer allows it, calls that wait for the
// same layer run in one turn, as one forward over the rows of all: each expert's weights are read
// once for them. Nobody sees that in a result, because a row's bits do not depend on the rows beside
// it, and a call that fails does so alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "engine/executor.h"
#include "engine/layer.h"

namespace sparse_experts::engine {

class LayerTask : public DeviceTask {
 public:
  // When a call waited and ran. A turn is the device's time for one task, or for several at once.
  struct Times {
    std::chrono::nanoseconds waited{0};  // from the task's construction to its turn
    std::chrono::nanoseconds ran{0};     // its turn
    int64_t rows = 0;                    // of all calls of the turn
    bool is_first = false;               // of the turn
    uint64_t fetched_bytes = 0;          // read for it, and for the calls that ran as one with it
  };

  // `may_join`: it may run with others that wait.
  LayerTask(std::shared_ptr<LayerState> layer, bool may_join);

  void run(DeviceExecutor& executor) noexcept final;
  bool begin_turn() final;
  Joining ask(const DeviceTask& next) final;
  void run_turn(DeviceExecutor& executor, const DeviceTasks& turn,
                const std::atomic<int32_t>& all_cancelled) noexcept final;

  const std::shared_ptr<LayerState>& layer() const { return layer_; }
  // Once it has run.
  const Failure& failure() const { return failure_; }
  const Times& times() const { return times_; }

 protected:
  // Returns when the arrays of args_ hold the call's inputs.
  virtual void wait_for_inputs() noexcept = 0;

  // Complete once the task is submitted.
  SeForwardArgs args_ = {};

 private:
  using Clock = std::chrono::steady_clock;

  int64_t num_rows() const { return args_.select.num_tokens; }
  bool is_cancelled() const { return cancel.load(std::memory_order_relaxed) != 0; }
  void begin(Clock::time_point now);
  void run_alone() noexcept;
  // Runs tasks as one forward; where that fails, each half by itself, so that who fails in the end
  // fails alone.
  static void run_as_one(LayerTask* const* tasks, size_t count,
                         const std::atomic<int32_t>& all_cancelled) noexcept;

  const std::shared_ptr<LayerState> layer_;
  const bool may_join_;
  const Clock::time_point made_ = Clock::now();
  Clock::time_point begun_;
  int64_t turn_rows_ = 0;
  Failure failure_;
  Times times_;
};

}  // namespace sparse_experts::engine
