// A forward between JavaScript and a device: the memory rules of its arrays, the task, the hand-over,
// and the methods of a layer that make one.
//
// Memory rules. A buffer of JavaScript may be transferred at any moment of an asynchronous call, and
// be freed or moved by its new owner: Node-API cannot pin it. So other threads touch nothing but
// copies, and results are copied back on JavaScript's thread into arrays that are still there. They
// are staged where the device copies from and to by itself, if it has such a place for the call,
// else in memory of the task. Hidden states, router input and output are used in place where the
// request says that nobody can take their memory away (`inPlace`: arrays that only the library
// holds, and shared memory), and in synchronous calls, during which no JavaScript runs. Any of these
// three may be a NativeBuffer instead: the device uses its memory in place, and the call keeps it.
//
// Inputs are copied after the task has been queued: waking the device's thread takes as long as
// copying a mebibyte, and so both happen at once. The task waits for its inputs.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "binding/environment.h"
#include "binding/forward_request.h"
#include "engine/layer_task.h"

namespace sparse_experts::binding {

// Arrays up to this size make a call that a device may stage as one block.
constexpr uint64_t kSmallBytes = uint64_t{1} << 20;

// What a forward reads and writes, on its way to the device. Nothing of JavaScript.
class ForwardTask final : public LayerTask {
 public:
  // Finds the place of each array as the rules say.
  ForwardTask(const ForwardRequest& request, std::shared_ptr<LayerState> layer, bool is_async);

  ~ForwardTask() override;

  // Of the inputs that take_inputs() copies.
  uint64_t input_bytes() const;
  // JS thread, once, in the same call of JavaScript's in which the request was read: copies the
  // inputs and lets run() begin. What they hold is the backend's to check, which sees the copies
  // that nobody else can change.
  void take_inputs() noexcept;

  // JS thread, after run(): what was staged and not yet copied goes into the caller's arrays.
  void copy_staged_results() const;
  bool is_in_place(int array) const { return memory_[array].staged == nullptr; }

 private:
  struct Memory {
    void* original = nullptr;
    void* staged = nullptr;  // null: the original is used
    uint64_t bytes = 0;
    bool writes = false;
  };

  // Waits for take_inputs().
  void wait_for_inputs() noexcept override;
  void stage_here(const std::array<bool, kNumForwardArrays>& is_staged, uint64_t staging_bytes);

  std::array<Memory, kNumForwardArrays> memory_;
  std::array<std::shared_ptr<DeviceMemory>, kNumForwardArrays> device_memory_;
  std::unique_ptr<uint8_t[]> staging_;  // null where the layer staged the call
  std::vector<ForwardRequest::Copy> copies_;

  std::atomic<bool> has_inputs_{false};
  std::mutex inputs_mutex_;
  std::condition_variable inputs_are_there_;
};

// The JavaScript side of an asynchronous forward.
class ForwardCall final : public PendingCall {
 public:
  ForwardCall(Napi::Env env, const Napi::Function& done, const ForwardRequest& request,
              std::shared_ptr<ForwardTask> task);
  ~ForwardCall() override;

  bool uses(const LayerState* layer) const override { return task_->layer().get() == layer; }
  const ForwardTask& task() const { return *task_; }
  Failure complete() override;
  // Milliseconds that it waited and ran, rows of its turn, and whether it was the turn's first call.
  std::vector<double> figures() const override;
  void stop() override {}  // drop_all has waited for the task

 private:
  struct Lease {
    napi_ref reference = nullptr;
    void* data = nullptr;
    uint64_t bytes = 0;
    int array = 0;
  };
  bool is_intact(const Lease& lease) const;

  std::shared_ptr<ForwardTask> task_;
  std::array<Lease, kNumForwardArrays> leases_;
  int num_leases_ = 0;
  bool completed_ = false;
};

}  // namespace sparse_experts::binding
