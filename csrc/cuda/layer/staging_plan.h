// The arrays of one forward in one block: inputs first, results last, the same offsets in pinned and
// in device memory, so that a small call is one copy each way.
#pragma once

#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::cuda {

// Above this a call's arrays go through the device's copier: pinned memory is the host's scarcest, and a
// call of this size takes far longer than a few extra copies.
constexpr uint64_t kMostStagedBytes = 4 << 20;

// Offsets in bytes. An array that is not staged (absent, or in device memory) has none.
struct StagingPlan {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t hidden = kNone;            // [T, H] of hidden's dtype, dense rows
  uint64_t router_input = kNone;      // [T, H] of its dtype, dense rows
  uint64_t token_ids = kNone;         // [T]
  uint64_t row_top_k = kNone;         // [T]
  uint64_t row_top_p = kNone;         // [T]
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

}  // namespace sparse_experts::cuda
