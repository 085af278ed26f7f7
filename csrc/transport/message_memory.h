// The memory of a message, aligned as its readers' vectors are.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "platform/memory.h"

namespace sparse_experts::transport {

struct FreeMessage {
  void operator()(void* data) const { platform::free_aligned(data); }
};
using MessageMemory = std::unique_ptr<void, FreeMessage>;

inline MessageMemory allocate_message(uint64_t bytes) {
  constexpr uint64_t kAlignment = 64;
  MessageMemory memory(platform::allocate_aligned(bytes, kAlignment));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace sparse_experts::transport
