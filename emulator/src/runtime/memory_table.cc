#include "runtime/memory_table.h"

#include <cstdlib>
#include <cstring>

#include "simt/memory.h"

namespace simt::runtime {

namespace {

constexpr size_t kAlignment = 256;
// Freed memory is overwritten up to here, so that a late reader sees NaN even without a sanitizer.
constexpr size_t kMaxBytesToSpoil = 16 << 20;

}  // namespace

Located locate(const Runtime& state, const void* pointer, size_t bytes) {
  const uintptr_t start = reinterpret_cast<uintptr_t>(pointer);
  const uintptr_t end = start + bytes;
  auto next = state.allocations.upper_bound(start);
  if (next != state.allocations.begin()) {
    const auto& [address, allocation] = *std::prev(next);
    if (start < address + allocation.bytes) {
      if (end <= address + allocation.bytes) return {Place::kInside, allocation};
      return {Place::kAcross, {}};
    }
  }
  if (next != state.allocations.end() && end > next->first) return {Place::kAcross, {}};
  return {};
}

void* allocate(Runtime& state, MemoryKind kind, int device, size_t bytes) {
  Device& owner = *state.devices[static_cast<size_t>(device)];
  const bool on_device = kind == MemoryKind::kDevice;
  if (on_device && bytes > owner.model.memory_bytes - owner.used_bytes) return nullptr;
  void* pointer = nullptr;
  if (posix_memalign(&pointer, kAlignment, bytes) != 0) return nullptr;
  std::memset(pointer, 0xFF, bytes);
  state.allocations[reinterpret_cast<uintptr_t>(pointer)] = {bytes, kind, device};
  register_allocation(pointer, bytes);
  ++state.counters.live_allocations;
  if (on_device) {
    owner.used_bytes += bytes;
    state.counters.live_device_bytes += bytes;
    ++state.counters.allocations;
  } else {
    state.counters.live_host_bytes += bytes;
    ++state.counters.host_allocations;
  }
  return pointer;
}

void release(Runtime& state, uintptr_t address) {
  const auto found = state.allocations.find(address);
  if (found == state.allocations.end()) return;
  const Allocation allocation = found->second;
  state.allocations.erase(found);
  void* pointer = reinterpret_cast<void*>(address);
  unregister_allocation(pointer);
  if (allocation.kind == MemoryKind::kRegistered) return;
  --state.counters.live_allocations;
  if (allocation.kind == MemoryKind::kDevice) {
    state.devices[static_cast<size_t>(allocation.device)]->used_bytes -= allocation.bytes;
    state.counters.live_device_bytes -= allocation.bytes;
  } else {
    state.counters.live_host_bytes -= allocation.bytes;
  }
  std::memset(pointer, 0xFF, std::min(allocation.bytes, kMaxBytesToSpoil));
  std::free(pointer);
}

bool side_allows(const Runtime& state, Side side, const void* pointer, size_t bytes) {
  const Located located = locate(state, pointer, bytes);
  if (located.place == Place::kAcross) return false;
  const bool on_device =
      located.place == Place::kInside && located.allocation.kind == MemoryKind::kDevice;
  if (side == Side::kDevice) return on_device;
  if (side == Side::kHost) return !on_device;
  return true;
}

}  // namespace simt::runtime
