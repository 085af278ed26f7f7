#include "binding/stage_memory.h"

#include "binding/native_buffer.h"
#include "core/numeric.h"

namespace sparse_experts::binding {
namespace {

// What the driver's own allocations are aligned to: kernels see no difference.
constexpr uint64_t kAlignment = 256;

}  // namespace

StageMemory::Array StageMemory::add(const ArrayView& view, bool writes, Sharing sharing) {
  Entry entry;
  entry.host = view.data;
  entry.bytes = view.bytes;
  entry.writes = writes;
  entry.is_temporary = sharing == kPrivate || !executor_->has_host_memory();
  if (!entry.is_temporary) entry.used = view.as<uint8_t>();
  entries_.push_back(entry);
  return static_cast<Array>(entries_.size()) - 1;
}

StageMemory::Array StageMemory::add_buffer(std::shared_ptr<DeviceMemory> memory, const char* name,
                                           uint64_t bytes) {
  if (memory->bytes() != bytes) {
    fail_argument("Expected " + std::to_string(bytes) + " bytes for " + name + ", received " +
                  std::to_string(memory->bytes()));
  }
  Entry entry;
  entry.used = memory->data();
  entry.bytes = bytes;
  entries_.push_back(entry);
  buffers_.push_back(std::move(memory));
  return static_cast<Array>(entries_.size()) - 1;
}

StageMemory::Array StageMemory::read(const Napi::Value& value, const char* name,
                                     napi_typedarray_type type, int64_t length, Sharing sharing) {
  auto memory = NativeBuffer::memory_of(value, name, *executor_);
  if (memory) return add_buffer(std::move(memory), name, array_bytes(type, length));
  return add(array_view(value, name, type, length), false, sharing);
}

StageMemory::Array StageMemory::read_optional(const Napi::Value& value, const char* name,
                                              napi_typedarray_type type, int64_t length,
                                              Sharing sharing) {
  return is_absent(value) ? kAbsent : read(value, name, type, length, sharing);
}

StageMemory::Array StageMemory::read_any_length(const Napi::Value& value, const char* name,
                                                napi_typedarray_type type, int64_t* length) {
  const ArrayView view = array_view_any_length(value, name, type);
  *length = static_cast<int64_t>(view.length);
  return add(view, false, kPrivate);
}

StageMemory::Array StageMemory::write(const Napi::Value& value, const char* name,
                                      napi_typedarray_type type, int64_t length, Sharing sharing) {
  auto memory = NativeBuffer::memory_of(value, name, *executor_);
  if (memory) return add_buffer(std::move(memory), name, array_bytes(type, length));
  return add(array_view(value, name, type, length), true, sharing);
}

StageMemory::Array StageMemory::write_optional(const Napi::Value& value, const char* name,
                                               napi_typedarray_type type, int64_t length) {
  if (!is_absent(value)) return write(value, name, type, length, kPrivate);
  ArrayView nobodys;
  nobodys.length = static_cast<uint64_t>(length);
  nobodys.bytes = array_bytes(type, length);
  return add(nobodys, false, kPrivate);
}

void StageMemory::place() {
  uint64_t bytes = 0;
  for (const Entry& entry : entries_) {
    if (entry.is_temporary) bytes += round_up(entry.bytes, kAlignment);
  }
  if (bytes == 0) return;
  temporaries_ = DeviceMemory::allocate(executor_, bytes);
  uint8_t* next = temporaries_->data();
  for (Entry& entry : entries_) {
    if (!entry.is_temporary || entry.bytes == 0) continue;
    entry.used = next;
    next += round_up(entry.bytes, kAlignment);
    if (!entry.writes && entry.host != nullptr) {
      copy_to_device(*executor_, entry.used, entry.host, entry.bytes);
    }
  }
}

void StageMemory::download() const {
  for (const Entry& entry : entries_) {
    if (entry.is_temporary && entry.writes) {
      copy_to_host(*executor_, entry.host, entry.used, entry.bytes);
    }
  }
}

}  // namespace sparse_experts::binding
