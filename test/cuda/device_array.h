// Memory of the CUDA runtime for tests, real or emulated: uploads, downloads, and a poison of 0xFF
// (NaN in every float type, -1 in integers).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace sparse_experts::testing {

// Ends the program: without a working runtime no test says anything.
inline void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t count) : count_(count) {
    must(cudaMalloc(reinterpret_cast<void**>(&data_), allocated_bytes()), "cudaMalloc");
    poison();
  }
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<int64_t>(values.size())) {
    upload(values);
  }
  ~DeviceArray() { static_cast<void>(cudaFree(data_)); }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray& operator=(DeviceArray&&) = delete;

  T* data() const { return data_; }
  operator T*() const { return data_; }
  int64_t size() const { return count_; }
  uint64_t bytes() const { return static_cast<uint64_t>(count_) * sizeof(T); }

  void poison() { must(cudaMemset(data_, 0xFF, allocated_bytes()), "cudaMemset"); }
  void upload(const std::vector<T>& values) {
    must(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<T> download() const {
    std::vector<T> values(static_cast<size_t>(count_));
    must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    must(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "download");
    return values;
  }

 private:
  // The emulator is told the exact end. A GPU copies 16 bytes to shared memory at once where fewer
  // are asked for and throws the rest away: no access to other memory, but memcheck sees it as one.
  uint64_t allocated_bytes() const {
#if defined(SIMT_EMULATOR)
    return bytes() > 0 ? bytes() : 1;
#else
    return (bytes() / 16 + 1) * 16;
#endif
  }

  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace sparse_experts::testing
