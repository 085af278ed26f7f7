// The native tests' layers in device memory, through the backend's ABI alone: weights and pointer
// tables are uploaded into allocations of exactly their size, a forward runs in a poisoned
// workspace of exactly the size asked for.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "oracle/fixture.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace native_test {

// Memory of a device, freed at the end of the scope.
class DeviceMemory {
 public:
  DeviceMemory(SeDevice* device, uint64_t bytes);
  DeviceMemory(SeDevice* device, const void* from, uint64_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  DeviceMemory& operator=(DeviceMemory&&) = delete;

  template <typename T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void upload(const void* from, uint64_t bytes) const;
  std::vector<char> download() const;
  template <typename T>
  std::vector<T> download_as() const {
    const std::vector<char> bytes = download();
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  SeDevice* device_;
  void* data_ = nullptr;
  uint64_t bytes_;
};

template <typename T>
DeviceMemory to_device(SeDevice* device, const std::vector<T>& values) {
  return DeviceMemory(device, values.data(), values.size() * sizeof(T));
}

// A device for the length of a scope. Environment variables given count while it opens.
class OpenDevice {
 public:
  explicit OpenDevice(const char* variable = nullptr, const char* value = nullptr);
  ~OpenDevice();
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;
  SeDevice* get() const { return device_; }
  SeDeviceCounters counters() const;

 private:
  SeDevice* device_ = nullptr;
};

// A copy of a host layer on a device, opened there.
class DeviceLayer {
 public:
  // `quantised`: what stands in for matrices of the host's tables, by their pointers; all of a table, or
  // none.
  DeviceLayer(SeDevice* device, const SeMoeLayer& host, int32_t batch_invariant = 0,
              const QuantisedMatrices& quantised = {});
  ~DeviceLayer();
  DeviceLayer(const DeviceLayer&) = delete;
  DeviceLayer& operator=(const DeviceLayer&) = delete;

  SeDevice* device() const { return device_; }
  SeLayer* get() const { return opened_; }
  const SeMoeLayer& description() const { return layer_; }
  const SeLayerOptions& options() const { return options_; }
  int32_t code = SE_OK;
  SeStatus status{};

 private:
  const void* put(const void* from, uint64_t bytes);
  const float* put_floats(const float* from, int64_t count);
  void put_table(SeMatrixTable* table, int64_t count, int32_t dtype);
  bool put_quantised(SeMatrixTable* table, int64_t count, int32_t dtype);
  void put_table(SeBiasTable* table, int64_t count, int64_t size);
  void put_gate_and_up(SeExperts* experts);
  void put_experts(SeExperts* experts);

  SeDevice* device_;
  const QuantisedMatrices& quantised_;
  std::deque<std::vector<SeMatrixFormat>> formats_;
  std::deque<std::vector<uint8_t>> format_of_;
  SeMoeLayer layer_;
  SeLayerOptions options_{};
  SeLayer* opened_ = nullptr;
  std::vector<DeviceMemory> memory_;
};

// One forward with poisoned outputs. `workspace` null: one of its own.
ForwardResult run_on_device(const DeviceLayer& layer, const ForwardCall& call,
                            const DeviceMemory* workspace = nullptr, uint64_t workspace_bytes = 0);
uint64_t workspace_bytes_of(const DeviceLayer& layer, int64_t num_tokens);

}  // namespace native_test
