#include "engine/run_workspaces.h"

#include <algorithm>
#include <utility>

namespace sparse_experts::engine {
namespace {

// More calls than so many seldom wait at once.
constexpr size_t kMostKept = 4;

}  // namespace

std::shared_ptr<DeviceMemory> RunWorkspaces::take(const std::shared_ptr<DeviceExecutor>& executor,
                                                  uint64_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto fits = std::find_if(kept_.begin(), kept_.end(), [&](const auto& memory) {
      return &memory->executor() == executor.get() && memory->bytes() >= bytes;
    });
    if (fits != kept_.end()) {
      std::shared_ptr<DeviceMemory> memory = std::move(*fits);
      kept_.erase(fits);
      return memory;
    }
  }
  return DeviceMemory::allocate(executor, bytes);
}

void RunWorkspaces::give_back(std::shared_ptr<DeviceMemory> memory) noexcept {
  if (memory == nullptr) return;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.push_back(std::move(memory));
    if (kept_.size() <= kMostKept) return;
    const auto smallest =
        std::min_element(kept_.begin(), kept_.end(),
                         [](const auto& a, const auto& b) { return a->bytes() < b->bytes(); });
    kept_.erase(smallest);
  } catch (...) {
    // Without memory for the list it is freed.
  }
}

}  // namespace sparse_experts::engine
