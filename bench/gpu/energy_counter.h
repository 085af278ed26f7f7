// The energy that the GPU says it has used since its driver was loaded: nvmlDeviceGetTotalEnergyConsumption
// of NVIDIA's management library, which comes with the driver and is looked for at run time.
#pragma once

#include <cstdint>
#include <string>

namespace sparse_experts::bench {

class EnergyCounter {
 public:
  // Of the current CUDA device. `library`: file name of the management library.
  explicit EnergyCounter(const std::string& library);
  ~EnergyCounter();
  EnergyCounter(const EnergyCounter&) = delete;
  EnergyCounter& operator=(const EnergyCounter&) = delete;

  bool is_there() const { return problem_.empty(); }
  // Why not.
  const std::string& problem() const { return problem_; }
  // Millijoules. The counter moves every few tens of milliseconds: windows of two seconds and more.
  uint64_t millijoules() const;

 private:
  using Device = void*;
  std::string open(const std::string& library);

  std::string problem_;
  void* library_ = nullptr;
  Device device_ = nullptr;
  int (*read_)(Device device, unsigned long long* millijoules) = nullptr;
};

}  // namespace sparse_experts::bench
