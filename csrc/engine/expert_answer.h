// Rows of a peer's call, computed by the experts of this rank: a task of the device. Requests that wait for
// the same layer are computed together where the layer allows that for calls (layer_task.h): each expert's
// weights are read once for them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/executor.h"
#include "engine/layer.h"
#include "engine/run_workspaces.h"
#include "transport/messages.h"

namespace sparse_experts::engine {

class ExpertAnswer final : public DeviceTask {
 public:
  // The request points into memory that stays until the task has run.
  ExpertAnswer(std::shared_ptr<LayerState> layer, RunWorkspaces& workspaces,
               const transport::RequestView& request, const transport::Envelope& envelope);

  void run(DeviceExecutor& executor) noexcept override;
  bool begin_turn() override;
  Joining ask(const DeviceTask& next) override;
  void run_turn(DeviceExecutor& executor, const DeviceTasks& turn,
                const std::atomic<int32_t>& all_cancelled) noexcept override;

  // Once it has run: the answer as it is sent, a refusal where it failed. Empty: there was no memory for
  // either.
  std::vector<uint8_t> take_message() { return std::move(message_); }
  // Its rows were not computed by a turn of another.
  bool is_first() const { return is_first_; }

 private:
  using Answers = std::vector<ExpertAnswer*>;

  // Of one layer and dtype. Throws FailureException.
  static void compute(const Answers& answers, const std::atomic<int32_t>& cancel);
  static void compute_or_refuse(const Answers& answers,
                                const std::atomic<int32_t>& cancel) noexcept;
  void refuse(const Failure& failure) noexcept;
  // The rows of a request among those of a run, from `first_row` on.
  void place_slots(int64_t first_row, std::vector<int32_t>* ids, std::vector<float>* weights);
  // Of the tokens of a wave.
  void copy_rows(const SeForwardWave& wave, const SeTensor& rows);

  const std::shared_ptr<LayerState> layer_;
  RunWorkspaces& workspaces_;
  const transport::RequestView request_;
  transport::Envelope envelope_;
  int64_t turn_rows_ = 0;
  bool is_first_ = true;
  std::vector<int64_t>
      slot_of_;  // by slot of the request: its place among [rows of the run, top_k]
  std::vector<uint8_t> message_;
};

}  // namespace sparse_experts::engine
