// How host arrays reach the device and results come back.
//   - StagingPlan: the arrays of one forward in one block, inputs first, results last, the same
//     offsets in pinned and in device memory: a small call is one copy each way.
//   - Copier: any size through two pinned halves, one being filled or emptied while the other
//     travels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/memory.h"

namespace sparse_experts::cuda {

// Offsets in bytes. An array that is not staged (absent, or in device memory) has none.
struct StagingPlan {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t hidden = kNone;            // [T, H] of hidden's dtype, dense rows
  uint64_t router_input = kNone;      // [T, H] of its dtype, dense rows
  uint64_t token_ids = kNone;         // [T]
  uint64_t row_top_k = kNone;         // [T]
  uint64_t sequence_lengths = kNone;  // [num_sequences]
  uint64_t topk_ids = 0;              // [T, K]; with replay an input, else a result
  uint64_t topk_weights = 0;          // [T, K]; likewise
  uint64_t non_finite = 0;            // [T]
  uint64_t output = kNone;            // [T, H] of hidden's dtype, dense rows
  uint64_t input_bytes = 0;           // [0, input_bytes) travels to the device
  uint64_t result_begin = 0;          // [result_begin, total_bytes) travels back
  uint64_t total_bytes = 0;
};
StagingPlan plan_staging(const SeMoeLayer& layer, const SeForwardArgs& args);

// Rows of a host tensor, which may lie apart, to or from dense memory of the host.
void pack_rows(const SeTensor& tensor, char* dense);
void unpack_rows(const char* dense, const SeTensor& tensor);

class Device;

// Synchronous copies; one at a time.
class Copier {
 public:
  explicit Copier(Device& device);
  ~Copier();
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  Status open();

  Status to_device(void* to, const void* from, uint64_t bytes);
  Status to_host(void* to, const void* from, uint64_t bytes);
  // Between the rows of a host tensor and dense rows of the device.
  Status rows_to_device(void* to, const SeTensor& from);
  Status rows_to_host(const SeTensor& to, const void* from);

 private:
  Status copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind);
  Status copy_chunks(char* to, const char* from, uint64_t bytes, cudaMemcpyKind kind);
  Status queue_chunk(int half, char* to, const char* from, uint64_t bytes, cudaMemcpyKind kind);
  Status finish(const Status& status);

  Device& device_;
  std::mutex mutex_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t events_[2] = {nullptr, nullptr};
  PinnedBuffer pinned_;
};

}  // namespace sparse_experts::cuda
