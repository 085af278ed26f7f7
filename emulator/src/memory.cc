// The list of registered allocations, by address.
#include "simt/memory.h"

#include <cstdint>
#include <map>
#include <mutex>

namespace simt {
namespace {

struct Allocations {
  std::mutex mutex;
  std::map<uintptr_t, size_t> bytes_at;
};

Allocations& allocations() {
  static Allocations* const kept = new Allocations;
  return *kept;
}

}  // namespace

void register_allocation(const void* pointer, size_t bytes) {
  if (pointer == nullptr) return;
  const std::lock_guard<std::mutex> lock(allocations().mutex);
  allocations().bytes_at[reinterpret_cast<uintptr_t>(pointer)] = bytes;
}

void unregister_allocation(const void* pointer) {
  const std::lock_guard<std::mutex> lock(allocations().mutex);
  allocations().bytes_at.erase(reinterpret_cast<uintptr_t>(pointer));
}

bool find_allocation(const void* address, const void** start, size_t* bytes) {
  const uintptr_t wanted = reinterpret_cast<uintptr_t>(address);
  const std::lock_guard<std::mutex> lock(allocations().mutex);
  auto found = allocations().bytes_at.upper_bound(wanted);
  if (found == allocations().bytes_at.begin()) return false;
  --found;
  if (wanted - found->first >= found->second) return false;
  *start = reinterpret_cast<const void*>(found->first);
  *bytes = found->second;
  return true;
}

}  // namespace simt
