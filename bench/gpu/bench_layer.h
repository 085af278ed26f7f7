// A layer of random bf16 weights on the GPU, in as many copies as make its reads cold: successive
// forwards then read weights that no cache still holds.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "abi/backend.h"

namespace sparse_experts::bench {

// Ends the program: a benchmark without its device says nothing.
void must(cudaError_t error, const char* what);

struct Shape {
  std::string name;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  int64_t shared_size = 0;  // 0: no shared expert
};

struct DeviceFree {
  void operator()(void* pointer) const { static_cast<void>(cudaFree(pointer)); }
};
using DeviceMemory = std::unique_ptr<char, DeviceFree>;
DeviceMemory allocate(uint64_t bytes, const char* what);

// Values of a counter-based generator: the same for the same seed on every machine. Sum of two
// uniform values, deviation `scale`.
void fill_bf16(void* data, int64_t count, float scale, uint32_t seed, cudaStream_t stream);
void fill_f32(float* data, int64_t count, float scale, uint32_t seed, cudaStream_t stream);

class BenchLayer {
 public:
  // Copies as fit into `bytes_at_most`, at least one. With `one_expert` all routed experts are the
  // same matrices: what kernels read is counted all the same, and little is stored.
  BenchLayer(const Shape& shape, int max_copies, uint64_t bytes_at_most, bool one_expert = false);

  int num_copies() const { return static_cast<int>(layers_.size()); }
  const SeMoeLayer& layer(int copy) const { return layers_[static_cast<size_t>(copy)]; }
  const void* const* expert_table(int copy) const { return layer(copy).experts.up.data; }
  // Weights that one copy holds.
  uint64_t expert_bytes() const;  // of one routed expert
  uint64_t shared_bytes() const;
  // Uniform: no bias. Zipf: the logarithm of 1 / (1 + rank), ranks in a fixed random order.
  void set_zipf(bool zipf);
  // Copy 0: router.bin, gate.bin, up.bin, down.bin, shared_gate.bin, shared_up.bin,
  // shared_down.bin, bias.bin.
  void dump(const std::string& directory) const;

 private:
  void add_copy(int number, bool one_expert);

  const Shape shape_;
  std::vector<DeviceMemory> memory_;
  std::vector<SeMoeLayer> layers_;
  float* bias_ = nullptr;  // shared by all copies
  float* router_ = nullptr;
};

// Writes device memory to a file.
void dump_array(const std::string& file, const void* data, uint64_t bytes);

// What this machine can do, measured: bytes read and written per second of a device-to-device copy,
// and FLOP/s of mma.sync on registers alone.
double measure_copy_bandwidth();
double measure_mma_rate();

}  // namespace sparse_experts::bench
