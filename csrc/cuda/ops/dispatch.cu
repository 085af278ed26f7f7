// Which form of dispatch a call takes, and how it is cut. Depends on the sizes alone.
#include <algorithm>

#include "core/numeric.h"
#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/dispatch_large.cuh"
#include "cuda/kernels/any/dispatch_small.cuh"
#include "cuda/ops/dispatch.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kSharedBytes = 48 * 1024 - 256;  // beside the static arrays, without opting in
constexpr int64_t kSmallSlots = 4096;
constexpr int64_t kSmallWarps = 32;
constexpr int kSmallRounds = 8;  // of 32 slots, per warp and pass

constexpr int64_t kMinChunkSlots = 128;
constexpr int64_t kMaxChunks = 1024;
constexpr int64_t kWarpsPerBlock = kDispatchThreads / 32;

// Shared bytes of an expert: its offset, whether it is here, a counter for each warp.
int64_t small_expert_bytes(int64_t num_warps) { return 5 + 2 * num_warps; }

// Warps whose counters fit.
int64_t small_warps(int64_t num_experts) {
  if (num_experts == 0) return kSmallWarps;
  const int64_t warps = (kSharedBytes / num_experts - small_expert_bytes(0)) / 2;
  return std::clamp<int64_t>(warps, 0, kSmallWarps);
}

bool is_small(int64_t num_slots, int64_t num_experts) {
  if (num_slots > kSmallSlots) return false;
  const int64_t num_warps = small_warps(num_experts);
  return num_warps > 0 && num_slots <= num_warps * 32 * kSmallRounds;
}

cudaError_t launch_small(const DispatchKernelArgs& args, LaunchStream stream) {
  const int64_t warps =
      std::min(small_warps(args.num_experts), std::max<int64_t>(1, ceil_div(args.num_slots, 32)));
  const int64_t chunk_slots = ceil_div(ceil_div(args.num_slots, warps), 32) * 32;
  // A block of 8 warps scans 256 experts at once; more only where there are slots for them.
  const int64_t threads = 32 * std::max<int64_t>(8, warps);
  const int64_t shared_bytes = args.num_experts * small_expert_bytes(warps);
  const auto kernel =
      chunk_slots <= 32 ? dispatch_small_kernel<1> : dispatch_small_kernel<kSmallRounds>;
  return launch(kernel, dim3(1), dim3(static_cast<unsigned>(threads)),
                static_cast<size_t>(shared_bytes), stream, args, static_cast<int32_t>(warps),
                static_cast<int32_t>(chunk_slots));
}

cudaError_t launch_large(const DispatchKernelArgs& args, LaunchStream stream) {
  DispatchChunks chunks = {};
  chunks.chunk_slots =
      std::max(kMinChunkSlots, ceil_div(ceil_div(args.num_slots, kMaxChunks), 32) * 32);
  // One chunk even of no slots: the tables are written all the same.
  chunks.num_chunks =
      static_cast<int32_t>(std::max<int64_t>(1, ceil_div(args.num_slots, chunks.chunk_slots)));
  chunks.totals = static_cast<int32_t*>(args.scratch);
  chunks.counts = chunks.totals + args.num_experts;
  // Two rows of counters at least: the offsets and one warp's. Few chunks spread over the device.
  const int64_t row_bytes = 4 * std::max<int64_t>(args.num_experts, 1);
  chunks.range_experts = static_cast<int32_t>(std::min(args.num_experts, kSharedBytes / 8));
  const int64_t fitting = std::max<int64_t>(1, kSharedBytes / row_bytes - 1);
  const int64_t wanted = ceil_div(chunks.num_chunks, 128);
  chunks.chunks_per_block =
      static_cast<int32_t>(std::min(std::min(fitting, wanted), kWarpsPerBlock));
  const unsigned num_blocks =
      static_cast<unsigned>(ceil_div(chunks.num_chunks, chunks.chunks_per_block));
  const size_t histogram_bytes =
      static_cast<size_t>(4 * int64_t{chunks.range_experts} * chunks.chunks_per_block);
  const size_t place_bytes =
      static_cast<size_t>(4 * int64_t{chunks.range_experts} * (chunks.chunks_per_block + 1));

  cudaError_t error = launch(dispatch_count_kernel, dim3(num_blocks),
                             dim3(static_cast<unsigned>(32 * chunks.chunks_per_block)),
                             histogram_bytes, stream, args, chunks);
  if (error != cudaSuccess) return error;
  const unsigned columns = static_cast<unsigned>(ceil_div(args.num_experts, kColumnExperts));
  if (columns > 0) {
    error = launch(dispatch_column_kernel, dim3(columns), dim3(kColumnExperts * kColumnSegments), 0,
                   stream, args, chunks);
    if (error != cudaSuccess) return error;
  }
  return launch(dispatch_place_kernel, dim3(num_blocks), dim3(kDispatchThreads), place_bytes,
                stream, args, chunks);
}

}  // namespace

// All kernels are compiled alike: this file's answer for all.
cudaError_t find_early_launches(bool* possible) {
  cudaFuncAttributes attributes;
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(dispatch_column_kernel));
  *possible = error == cudaSuccess && attributes.ptxVersion >= 90;
  return error;
}

uint64_t dispatch_scratch_bytes(int64_t num_slots, int64_t num_experts) {
  if (is_small(num_slots, num_experts)) return 0;
  // The most chunks that up to this many slots are cut into, so that the figure never falls.
  const int64_t chunks =
      std::max<int64_t>(1, std::min(ceil_div(num_slots, kMinChunkSlots), kMaxChunks));
  return static_cast<uint64_t>((chunks + 1) * num_experts) * sizeof(int32_t);
}

cudaError_t launch_dispatch(const DispatchKernelArgs& args, LaunchStream stream) {
  if (args.num_slots < 0 || args.num_slots > INT32_MAX || args.num_experts < 0 || args.top_k < 1 ||
      args.num_experts > INT32_MAX / 2)
    return cudaErrorInvalidValue;
  return is_small(args.num_slots, args.num_experts) ? launch_small(args, stream)
                                                    : launch_large(args, stream);
}

}  // namespace sparse_experts::cuda
