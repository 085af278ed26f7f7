// The executors of the process: one per device, the devices that are lost, and what happens to them
// when the process exits.
#include <map>
#include <vector>

#include "engine/backend_registry.h"
#include "engine/executor.h"
#include "platform/process_exit.h"

namespace sparse_experts::engine {
namespace {

// Executors by device id. Never destroyed: at process exit their threads may still be looking.
struct Registry {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<DeviceExecutor>> executors;
  std::map<std::string, Failure> losses;  // by device id
  bool at_exit_registered = false;
  // Kept until the process is gone: the last owner would have to end them, in the middle of
  // exit(3).
  std::vector<std::shared_ptr<DeviceExecutor>> at_exit;
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

}  // namespace

std::shared_ptr<DeviceExecutor> DeviceExecutor::acquire(const std::string& name) {
  const auto [backend, index] = parse_device_id(name);
  const std::string id = engine::device_id(*backend.row, index);
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  if (auto existing = all.executors[id].lock()) return existing;
  const auto lost = all.losses.find(id);
  if (lost != all.losses.end()) throw_if_failed(lost->second);
  auto executor = std::make_shared<DeviceExecutor>(backend.table, index, id);
  all.executors[id] = executor;
  if (!all.at_exit_registered) {
    // process.exit() runs no cleanup hooks on the main thread, only exit(3): see prepare_for_exit.
    platform::at_process_exit(stop_all_at_exit);
    all.at_exit_registered = true;
  }
  return executor;
}

Failure DeviceExecutor::loss_of(const std::string& device_id) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto lost = all.losses.find(device_id);
  return lost == all.losses.end() ? Failure() : lost->second;
}

Failure DeviceExecutor::loss() const {
  return is_lost_.load(std::memory_order_acquire) ? loss_of(device_id_) : Failure();
}

// The first loss is the cause of all that follow.
Failure DeviceExecutor::note(Failure failure) {
  if (failure.code != ErrorCode::kDeviceLost) return failure;
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  const Failure& first = all.losses.emplace(device_id_, std::move(failure)).first->second;
  is_lost_.store(true, std::memory_order_release);
  return first;
}

void DeviceExecutor::stop_all_at_exit() {
  Registry& all = registry();
  std::map<std::string, std::weak_ptr<DeviceExecutor>> executors;
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    executors = all.executors;
  }
  for (const auto& [id, weak] : executors) {
    auto executor = weak.lock();
    if (!executor) continue;
    executor->prepare_for_exit();
    std::lock_guard<std::mutex> lock(all.mutex);
    all.at_exit.push_back(std::move(executor));
  }
}

}  // namespace sparse_experts::engine
