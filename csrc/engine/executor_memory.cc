// Memory that belongs to a device and to no task: what nobody uses any more, the workspace of all forwards, and
// the threads that read experts.
#include <exception>
#include <utility>

#include "engine/executor.h"
#include "engine/reader_pool.h"

namespace sparse_experts::engine {

void DeviceExecutor::discard(SeLayer* layer, void* data, uint64_t bytes, bool is_pinned) noexcept {
  if (layer == nullptr && data == nullptr) return;
  try {
    std::lock_guard<std::mutex> lock(mutex_);
    discarded_.push_back({layer, data, bytes, is_pinned});
    if (busy_) return;
    busy_ = true;
  } catch (const std::exception&) {
    return;  // without memory to remember it, it stays until the process ends
  }
  end_busy();
}

void DeviceExecutor::free_discarded(const Discarded& item) noexcept {
  if (item.layer != nullptr) backend_->layer_close(item.layer);
  if (item.data == nullptr) return;
  const auto free = item.is_pinned ? backend_->pinned_free : backend_->memory_free;
  free(device_, item.data, item.bytes);
}

void DeviceExecutor::add_layer() {
  std::lock_guard<std::mutex> lock(workspace_mutex_);
  ++num_layers_;
}

void DeviceExecutor::remove_layer() noexcept {
  // Without layers no forward runs, so nobody uses the workspace.
  void* unused = nullptr;
  uint64_t bytes = 0;
  {
    std::lock_guard<std::mutex> lock(workspace_mutex_);
    if (--num_layers_ > 0) return;
    unused = std::exchange(workspace_, nullptr);
    bytes = workspace_bytes_.exchange(0, std::memory_order_relaxed);
  }
  discard(nullptr, unused, bytes);
}

std::shared_ptr<ReaderPool> DeviceExecutor::reader_pool() {
  const std::lock_guard<std::mutex> lock(readers_mutex_);
  std::shared_ptr<ReaderPool> pool = readers_.lock();
  if (pool == nullptr) {
    pool = std::make_shared<ReaderPool>();
    readers_ = pool;
  }
  return pool;
}

Failure DeviceExecutor::reserve_workspace(uint64_t bytes, void** data, uint64_t* held_bytes) {
  std::lock_guard<std::mutex> lock(workspace_mutex_);
  if (bytes > workspace_bytes_.load(std::memory_order_relaxed)) {
    if (workspace_ != nullptr) free_discarded({nullptr, workspace_, workspace_bytes_, false});
    workspace_ = nullptr;
    workspace_bytes_.store(0, std::memory_order_relaxed);
    void* allocated = nullptr;
    Failure failure = call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
      return backend.memory_allocate(device, bytes, &allocated, status);
    });
    if (!failure.is_ok()) return failure;
    workspace_ = allocated;
    workspace_bytes_.store(bytes, std::memory_order_relaxed);
  }
  *data = workspace_;
  *held_bytes = workspace_bytes_.load(std::memory_order_relaxed);
  return {};
}

}  // namespace sparse_experts::engine
