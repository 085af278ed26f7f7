// Where the arrays of one stage call lie. A typed array is used in place, or through a temporary:
//   - on a device with memory of its own, always: uploaded before the stage, downloaded after it
//   - on the host, where the stage reads what it has checked or written before (ids, offsets,
//     slots), and nobody may change them meanwhile
// A NativeBuffer is used in place. All temporaries of a call are one block.
#pragma once

#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/device_memory.h"

namespace sparse_experts::binding {

class StageMemory {
 public:
  // What another thread may do to an array of the host meanwhile.
  enum Sharing { kShared, kPrivate };
  // The number of an array of this call; kAbsent: none.
  using Array = int;
  static constexpr Array kAbsent = -1;

  explicit StageMemory(std::shared_ptr<DeviceExecutor> executor) : executor_(std::move(executor)) {}

  // Adding arrays runs no JavaScript. `length` elements of `type`.
  Array read(const Napi::Value& value, const char* name, napi_typedarray_type type, int64_t length,
             Sharing sharing = kShared);
  Array read_optional(const Napi::Value& value, const char* name, napi_typedarray_type type,
                      int64_t length, Sharing sharing = kShared);
  // Typed arrays of any length; *length says how many elements.
  Array read_any_length(const Napi::Value& value, const char* name, napi_typedarray_type type,
                        int64_t* length);
  Array write(const Napi::Value& value, const char* name, napi_typedarray_type type, int64_t length,
              Sharing sharing = kShared);
  // As write; null or undefined: the stage writes it, and nobody reads it.
  Array write_optional(const Napi::Value& value, const char* name, napi_typedarray_type type,
                       int64_t length);

  // Uploads, runs body(backend, device, &status) → SeCode alone on the device, and downloads.
  // Pointers are valid from place() on.
  void place();
  template <typename Body>
  void run(Body&& body) {
    Failure failure;
    executor_->run_exclusive([&] { failure = executor_->call(body); });
    throw_if_failed(failure);
    download();
  }

  // Null when absent or empty.
  template <typename T>
  T* pointer(Array array) const {
    if (array == kAbsent) return nullptr;
    return reinterpret_cast<T*>(entries_[static_cast<size_t>(array)].used);
  }

 private:
  struct Entry {
    void* host = nullptr;  // of the typed array
    uint8_t* used = nullptr;
    uint64_t bytes = 0;
    bool is_temporary = false;
    bool writes = false;
  };

  Array add(const ArrayView& view, bool writes, Sharing sharing);
  Array add_buffer(std::shared_ptr<DeviceMemory> memory, const char* name, uint64_t bytes);
  void download() const;

  std::shared_ptr<DeviceExecutor> executor_;
  std::vector<Entry> entries_;
  std::vector<std::shared_ptr<DeviceMemory>> buffers_;
  std::shared_ptr<DeviceMemory> temporaries_;
};

}  // namespace sparse_experts::binding
