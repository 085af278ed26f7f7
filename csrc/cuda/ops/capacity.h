// Expert capacity: after selection, families that bound an expert's tokens drop the slots beyond it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/launch_stream.h"

namespace sparse_experts::cuda {

struct CapacityKernelArgs {
  SeRouting routing;
  int64_t num_tokens;
  const int32_t* sequence_lengths;  // [num_sequences] summing to num_tokens, or null: one sequence
  int64_t num_sequences;
  int32_t* topk_ids;    // in/out
  float* topk_weights;  // in/out
  const uint8_t* non_finite;
  double* slot_scores;        // SE_CAPACITY_BATCH: from launch_select; overwritten
  const double* best_scores;  // likewise
  uint8_t* scratch;           // capacity_scratch_bytes, aligned to 4 bytes
};
uint64_t capacity_scratch_bytes(const SeRouting& routing, int64_t num_tokens);
// Over all tokens of a call; does nothing for families without capacity.
cudaError_t launch_capacity(const CapacityKernelArgs& args, LaunchStream stream);

}  // namespace sparse_experts::cuda
