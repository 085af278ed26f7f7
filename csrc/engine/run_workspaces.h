// Workspaces of runs that are open at the same time on a device: a call that waits for its peers keeps
// one, while others compute with theirs. Memory is kept for the next, because touching new memory takes
// longer than a small call.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/device_memory.h"

namespace sparse_experts::engine {

class RunWorkspaces {
 public:
  // At least `bytes` of the executor's device. Throws FailureException.
  std::shared_ptr<DeviceMemory> take(const std::shared_ptr<DeviceExecutor>& executor,
                                     uint64_t bytes);
  void give_back(std::shared_ptr<DeviceMemory> memory) noexcept;

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<DeviceMemory>> kept_;
};

// A workspace for the length of a scope.
class TakenWorkspace {
 public:
  TakenWorkspace(RunWorkspaces& workspaces, const std::shared_ptr<DeviceExecutor>& executor,
                 uint64_t bytes)
      : workspaces_(workspaces), memory_(workspaces.take(executor, bytes)) {}
  ~TakenWorkspace() { workspaces_.give_back(std::move(memory_)); }
  TakenWorkspace(const TakenWorkspace&) = delete;
  TakenWorkspace& operator=(const TakenWorkspace&) = delete;

  void* data() const { return memory_->data(); }
  uint64_t bytes() const { return memory_->bytes(); }

 private:
  RunWorkspaces& workspaces_;
  std::shared_ptr<DeviceMemory> memory_;
};

}  // namespace sparse_experts::engine
