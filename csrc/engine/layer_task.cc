#include "engine/layer_task.h"

#include <utility>
#include <vector>

#include "engine/joint_forward.h"

namespace sparse_experts::engine {

LayerTask::LayerTask(std::shared_ptr<LayerState> layer, bool may_join)
    : layer_(std::move(layer)), may_join_(may_join && layer_->max_joint_rows() > 0) {}

void LayerTask::begin(Clock::time_point now) {
  begun_ = now;
  times_.waited = now - made_;
  wait_for_inputs();
}

void LayerTask::run_alone() noexcept {
  try {
    if (is_cancelled()) throw_if_failed(Failure::from(Status::cancelled()));
    if (num_rows() == 0) return;
    times_.fetched_bytes = layer_->forward(args_);
  } catch (...) {
    failure_ = current_failure();
  }
}

void LayerTask::run(DeviceExecutor& /*executor*/) noexcept {
  begin(Clock::now());
  run_alone();
  times_.ran = Clock::now() - begun_;
  times_.rows = num_rows();
  times_.is_first = true;
}

bool LayerTask::begin_turn() {
  turn_rows_ = num_rows();
  return may_join_ && turn_rows_ < layer_->max_joint_rows();
}

Joining LayerTask::ask(const DeviceTask& next) {
  const auto* other = dynamic_cast<const LayerTask*>(&next);
  if (other == nullptr) return Joining::kStops;
  if (other->layer_ != layer_) return Joining::kPasses;
  const int64_t rows = turn_rows_ + other->num_rows();
  // A call that cannot join must not be overtaken: calls of a layer run in their order.
  if (!other->may_join_ || rows > layer_->max_joint_rows() ||
      !can_run_as_one(*layer_, args_, other->args_)) {
    return Joining::kStops;
  }
  turn_rows_ = rows;
  return Joining::kJoins;
}

void LayerTask::run_turn(DeviceExecutor& /*executor*/, const DeviceTasks& turn,
                         const std::atomic<int32_t>& all_cancelled) noexcept {
  const Clock::time_point now = Clock::now();
  std::vector<LayerTask*> tasks;
  for (const std::shared_ptr<DeviceTask>& task : turn) {
    tasks.push_back(static_cast<LayerTask*>(task.get()));
    tasks.back()->begin(now);
  }
  run_as_one(tasks.data(), tasks.size(), all_cancelled);
  const Clock::duration ran = Clock::now() - now;
  for (LayerTask* task : tasks) {
    task->times_.ran = ran;
    task->times_.rows = turn_rows_;
    task->times_.is_first = task == this;
  }
}

void LayerTask::run_as_one(LayerTask* const* tasks, size_t count,
                           const std::atomic<int32_t>& all_cancelled) noexcept {
  if (count == 1) return tasks[0]->run_alone();
  LayerState& layer = *tasks[0]->layer_;
  try {
    std::vector<const SeForwardArgs*> calls;
    for (size_t i = 0; i < count; ++i) {
      if (!tasks[i]->is_cancelled()) calls.push_back(&tasks[i]->args_);
    }
    if (calls.empty()) throw_if_failed(Failure::from(Status::cancelled()));
    const JointForward joint(layer, std::move(calls), all_cancelled);
    if (joint.args().select.num_tokens > 0)
      tasks[0]->times_.fetched_bytes = layer.forward(joint.args());
    joint.hand_out();
    return;
  } catch (...) {
    const Failure failure = current_failure();
    if (failure.code == ErrorCode::kDeviceLost || failure.code == ErrorCode::kCancelled) {
      for (size_t i = 0; i < count; ++i) tasks[i]->failure_ = failure;
      return;
    }
  }
  run_as_one(tasks, count / 2, all_cancelled);
  run_as_one(tasks + count / 2, count - count / 2, all_cancelled);
}

}  // namespace sparse_experts::engine
