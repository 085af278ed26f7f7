// Host side of the end of a forward: which instantiation, how many threads and blocks.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/kernels/any/combine.cuh"
#include "cuda/ops/combine.h"

namespace sparse_experts::cuda {
namespace {

// Blocks loop over rows beyond this.
constexpr int64_t kMaxBlocks = 1 << 20;
// From this many rows on, several small blocks per multiprocessor hide more latency than one large.
constexpr int64_t kManyRows = 256;
constexpr int64_t kQuad = 4;

int64_t element_bytes(int32_t dtype) { return dtype == SE_F32 ? 4 : 2; }

bool is_float(int32_t dtype) { return dtype == SE_F32 || dtype == SE_F16 || dtype == SE_BF16; }

// Null is aligned: it is not read.
bool rows_aligned(const float* rows, int64_t stride) {
  return is_vector_aligned(rows, stride, 4, kQuad);
}

bool takes_quads(const CombineKernelArgs& args) {
  return args.hidden_size % kQuad == 0 && rows_aligned(args.expert_output, args.hidden_size) &&
         rows_aligned(args.projected, args.hidden_size) &&
         rows_aligned(args.shared_output, args.hidden_size) && rows_aligned(args.output_bias, 0) &&
         is_vector_aligned(args.output, args.output_stride, element_bytes(args.output_dtype),
                           kQuad) &&
         (args.hidden == nullptr || is_vector_aligned(args.hidden, args.hidden_stride,
                                                      element_bytes(args.hidden_dtype), kQuad));
}

template <typename Output, int kCount>
cudaError_t launch_rows(const CombineKernelArgs& args, LaunchStream stream) {
  const int64_t most = args.num_tokens < kManyRows ? kCombineMaxThreads : kCombineMaxThreads / 4;
  const int64_t wanted = (args.hidden_size + kCount * 32 - 1) / (kCount * 32) * 32;
  const dim3 block(static_cast<unsigned>(std::min(most, wanted)));
  const dim3 grid(static_cast<unsigned>(std::min(args.num_tokens, kMaxBlocks)));
  return launch(combine_kernel<Output, kCount>, grid, block, 0, stream, args);
}

template <typename Output>
cudaError_t launch_output(const CombineKernelArgs& args, LaunchStream stream) {
  return takes_quads(args) ? launch_rows<Output, kQuad>(args, stream)
                           : launch_rows<Output, 1>(args, stream);
}

template <typename Input>
cudaError_t launch_coefficients(const Input* hidden, int64_t hidden_stride, const float* gate,
                                const float* bias, int64_t num_tokens, int64_t hidden_size,
                                float* coefficients, LaunchStream stream) {
  const bool quads = hidden_size % kQuad == 0 &&
                     is_vector_aligned(hidden, hidden_stride, sizeof(Input), kQuad) &&
                     rows_aligned(gate, 0);
  return launch(
      quads ? shared_coefficients_kernel<Input, true> : shared_coefficients_kernel<Input, false>,
      dim3(static_cast<unsigned>(std::min(num_tokens, kMaxBlocks))), dim3(kCoefficientThreads), 0,
      stream, hidden, hidden_stride, gate, bias, num_tokens, hidden_size, coefficients);
}

}  // namespace

cudaError_t launch_combine(const CombineKernelArgs& args, LaunchStream stream) {
  if (args.num_tokens <= 0 || args.hidden_size <= 0) return cudaSuccess;
  if (args.hidden != nullptr && !is_float(args.hidden_dtype)) return cudaErrorInvalidValue;
  switch (args.output_dtype) {
    case SE_F32:
      return launch_output<float>(args, stream);
    case SE_F16:
      return launch_output<F16>(args, stream);
    case SE_BF16:
      return launch_output<Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch_shared_coefficients(const void* hidden, int32_t hidden_dtype,
                                       int64_t hidden_stride, const float* shared_gate,
                                       const float* bias, int64_t num_tokens, int64_t hidden_size,
                                       float* coefficients, LaunchStream stream) {
  if (num_tokens <= 0) return cudaSuccess;
  switch (hidden_dtype) {
    case SE_F32:
      return launch_coefficients(static_cast<const float*>(hidden), hidden_stride, shared_gate,
                                 bias, num_tokens, hidden_size, coefficients, stream);
    case SE_F16:
      return launch_coefficients(static_cast<const F16*>(hidden), hidden_stride, shared_gate, bias,
                                 num_tokens, hidden_size, coefficients, stream);
    case SE_BF16:
      return launch_coefficients(static_cast<const Bf16*>(hidden), hidden_stride, shared_gate, bias,
                                 num_tokens, hidden_size, coefficients, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch_listed_slots(const int32_t* expert_offsets, int64_t num_experts,
                                const int32_t* sorted_slots, int64_t num_slots, int32_t* ids,
                                LaunchStream stream) {
  if (num_slots <= 0) return cudaSuccess;
  const dim3 block(kSlotThreads);
  const dim3 grid(
      static_cast<unsigned>(std::min((num_slots + kSlotThreads - 1) / kSlotThreads, kMaxBlocks)));
  const cudaError_t error = launch(unlist_slots_kernel, grid, block, 0, stream, ids, num_slots);
  if (error != cudaSuccess) return error;
  return launch(listed_slots_kernel, grid, block, 0, stream, expert_offsets + num_experts,
                sorted_slots, num_slots, ids);
}

}  // namespace sparse_experts::cuda
