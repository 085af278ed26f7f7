// The launches of each capacity rule. What depends on the routing alone is settled here, so nothing
// is read back.
#include <cmath>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/capacity.cuh"
#include "cuda/ops/capacity.h"

namespace sparse_experts::cuda {
namespace {

unsigned blocks_of(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// Parts of the scratch: the queue's order, per-slot flags, and where sequences begin.
struct CapacityScratch {
  uint64_t order_bytes = 0;
  uint64_t full_bytes = 0;
  uint64_t start_bytes = 0;
};

CapacityScratch scratch_of(const SeRouting& routing, int64_t num_tokens) {
  CapacityScratch scratch;
  if (routing.capacity == SE_CAPACITY_NONE) return scratch;
  const uint64_t tokens = static_cast<uint64_t>(num_tokens);
  scratch.full_bytes = tokens * static_cast<uint64_t>(routing.top_k);
  if (routing.capacity == SE_CAPACITY_PER_SEQUENCE) scratch.start_bytes = tokens;
  if (routing.capacity == SE_CAPACITY_BATCH && routing.batch_prioritized)
    scratch.order_bytes = tokens * sizeof(int32_t);
  return scratch;
}

int64_t batch_capacity(const SeRouting& routing, int64_t num_tokens) {
  if (routing.capacity_token_fraction > 0)
    return static_cast<int64_t>(
        std::ceil(routing.capacity_token_fraction * static_cast<double>(num_tokens)));
  if (routing.expert_capacity > 0) return routing.expert_capacity;
  return 2 * ((num_tokens + routing.num_experts - 1) / routing.num_experts);
}

cudaError_t launch_per_sequence(const CapacityKernelArgs& args, LaunchStream stream) {
  const CapacityScratch scratch = scratch_of(args.routing, args.num_tokens);
  uint8_t* const full = args.scratch;
  uint8_t* starts = nullptr;
  cudaError_t error = cudaSuccess;
  if (args.sequence_lengths != nullptr) {
    starts = full + scratch.full_bytes;
    error = launch(mark_sequences_kernel, dim3(1), dim3(kSequenceThreads), 0, stream, args, starts);
    if (error != cudaSuccess) return error;
  }
  error =
      launch(queue_per_sequence_kernel, dim3(blocks_of(args.routing.num_experts, kCapacityWarps)),
             dim3(32 * kCapacityWarps), 0, stream, args, starts, full);
  if (error != cudaSuccess) return error;
  return launch(drop_slots_kernel, dim3(blocks_of(args.num_tokens, kTokenThreads)),
                dim3(kTokenThreads), 0, stream, args, full);
}

cudaError_t launch_over_batch(const CapacityKernelArgs& args, LaunchStream stream) {
  const CapacityScratch scratch = scratch_of(args.routing, args.num_tokens);
  const dim3 token_blocks(blocks_of(args.num_tokens, kTokenThreads));
  uint8_t* const full = args.scratch + scratch.order_bytes;
  int32_t* order = nullptr;
  cudaError_t error = cudaSuccess;
  if (args.routing.batch_prioritized) {
    order = reinterpret_cast<int32_t*>(args.scratch);
    error = launch(queue_order_kernel, token_blocks, dim3(kTokenThreads), 0, stream, args, order);
    if (error != cudaSuccess) return error;
  }
  if (args.routing.normalize_before_dropping) {
    error = launch(normalize_slots_kernel, token_blocks, dim3(kTokenThreads), 0, stream, args);
    if (error != cudaSuccess) return error;
  }
  error = launch(queue_over_batch_kernel, dim3(blocks_of(args.routing.num_experts, kCapacityWarps)),
                 dim3(32 * kCapacityWarps), 0, stream, args,
                 batch_capacity(args.routing, args.num_tokens), order, full);
  if (error != cudaSuccess) return error;
  return launch(finish_slots_kernel, token_blocks, dim3(kTokenThreads), 0, stream, args, full);
}

}  // namespace

uint64_t capacity_scratch_bytes(const SeRouting& routing, int64_t num_tokens) {
  const CapacityScratch scratch = scratch_of(routing, num_tokens);
  return scratch.order_bytes + scratch.full_bytes + scratch.start_bytes;
}

cudaError_t launch_capacity(const CapacityKernelArgs& args, LaunchStream stream) {
  if (args.num_tokens == 0) return cudaSuccess;
  if (args.num_tokens > INT32_MAX / args.routing.top_k) return cudaErrorInvalidValue;
  if (args.routing.capacity == SE_CAPACITY_PER_SEQUENCE) return launch_per_sequence(args, stream);
  if (args.routing.capacity == SE_CAPACITY_BATCH) return launch_over_batch(args, stream);
  return cudaSuccess;
}

}  // namespace sparse_experts::cuda
