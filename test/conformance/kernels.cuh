// Kernels that do one thing each and write down what came out: every PTX wrapper, warp intrinsic,
// conversion and arithmetic rule that the real kernels rely on. One warp unless they say otherwise.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/num.cuh"
#include "cuda/common/ptx.cuh"

namespace conformance {

namespace cuda = sparse_experts::cuda;
namespace ptx = sparse_experts::cuda::ptx;

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kTileBytes = 4096;

// ---- ldmatrix ---------------------------------------------------------------------------------

// offsets: of each lane's row in the tile, in bytes. out: [lane][register].
template <int kMatrices>
__global__ void ldmatrix_kernel(const uint4* tile, const uint32_t* offsets, uint32_t* out) {
  SE_SHARED(uint4, shared, kTileBytes / 16);
  const uint32_t lane = threadIdx.x;
  for (uint32_t i = lane; i < kTileBytes / 16; i += 32) shared[i] = tile[i];
  __syncthreads();
  const uint32_t address = ptx::smem_u32(shared) + offsets[lane];
  if constexpr (kMatrices == 4) {
    uint32_t matrix[4];
    ptx::ldmatrix_x4(matrix, address);
#pragma unroll
    for (int i = 0; i < 4; ++i) out[4 * lane + i] = matrix[i];
  } else {
    uint32_t matrix[2];
    ptx::ldmatrix_x2(matrix, address);
#pragma unroll
    for (int i = 0; i < 2; ++i) out[2 * lane + i] = matrix[i];
  }
}

// ---- mma --------------------------------------------------------------------------------------

// One product per block: a [lane][4] and b [lane][2] packed registers, c and d [lane][4].
template <bool kBf16>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, const float* c, float* d) {
  const uint32_t lane = blockIdx.x * 32 + threadIdx.x;
  const uint32_t left[4] = {a[4 * lane], a[4 * lane + 1], a[4 * lane + 2], a[4 * lane + 3]};
  const uint32_t right[2] = {b[2 * lane], b[2 * lane + 1]};
  float sum[4] = {c[4 * lane], c[4 * lane + 1], c[4 * lane + 2], c[4 * lane + 3]};
  if constexpr (kBf16) {
    ptx::mma_m16n8k16_bf16(sum, left, right);
  } else {
    ptx::mma_m16n8k16_f16(sum, left, right);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = sum[i];
}

// ---- copies -----------------------------------------------------------------------------------

// Each lane copies bytes[lane] bytes of its part of `source` into a row of kBytes. Rows 0 … 31.
template <int kBytes>
__global__ void cp_async_kernel(const unsigned char* source, const uint32_t* bytes,
                                unsigned char* out) {
  SE_SHARED(uint4, shared, 32);
  unsigned char* const rows = reinterpret_cast<unsigned char*>(shared);
  const uint32_t lane = threadIdx.x;
  for (int i = 0; i < kBytes; ++i) rows[kBytes * lane + i] = 0xA5;
  __syncthreads();
  const uint32_t address = ptx::smem_u32(shared) + kBytes * lane;
  if constexpr (kBytes == 16) {
    ptx::cp_async_16(address, source + 16 * lane, bytes[lane]);
  } else {
    ptx::cp_async_4(address, source + 4 * lane, bytes[lane]);
  }
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < kBytes; ++i) out[kBytes * lane + i] = rows[kBytes * lane + i];
}

// Three groups, the second of them empty, waited for one by one; rows of other lanes are read, so
// the barriers matter. out: [group][lane].
__global__ void cp_async_groups_kernel(const uint4* source, uint4* out) {
  SE_SHARED(uint4, shared, 64);
  const uint32_t lane = threadIdx.x;
  ptx::cp_async_16(ptx::smem_u32(shared + lane), source + lane);
  ptx::cp_async_commit();
  ptx::cp_async_commit();
  ptx::cp_async_16(ptx::smem_u32(shared + 32 + lane), source + 32 + lane, 16);
  ptx::cp_async_commit();
  ptx::cp_async_wait<2>();
  __syncthreads();
  out[lane] = shared[31 - lane];
  ptx::cp_async_wait<0>();
  __syncthreads();
  out[32 + lane] = shared[32 + (lane ^ 5)];
}

__global__ void load_streaming_kernel(const uint4* source, const uint32_t* index, uint4* out) {
  out[threadIdx.x] = ptx::load_streaming(source + index[threadIdx.x]);
}

// An ordinary launch: nothing to wait for, nothing starts early. out: [lane], the source reversed.
__global__ void griddepcontrol_kernel(const uint4* source, uint4* out) {
  ptx::dependency_wait();
  ptx::launch_dependents();
  out[threadIdx.x] = source[31 - threadIdx.x];
}

// ---- pairs of 16-bit elements -------------------------------------------------------------------

template <bool kBf16>
__global__ void fma_pairs_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                                 uint32_t* out, int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  out[i] = kBf16 ? ptx::fma_bf16x2(a[i], b[i], c[i]) : ptx::fma_f16x2(a[i], b[i], c[i]);
}

// ---- conversions ------------------------------------------------------------------------------

template <typename T>
__global__ void to_float_kernel(const uint32_t* bits, uint32_t* out, int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const T value = {static_cast<uint16_t>(bits[i])};
  out[i] = cuda::float_bits(cuda::to_float(value));
}

template <typename T>
__global__ void from_float_kernel(const uint32_t* bits, uint32_t* out, int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  out[i] = cuda::from_float<T>(cuda::bits_float(bits[i])).bits;
}

// ---- warps ------------------------------------------------------------------------------------

constexpr int kWarpWords = 43;

// out: [word][lane]; model.h names the words.
__global__ void warp_kernel(const uint32_t* values, uint32_t* out) {
  const uint32_t lane = threadIdx.x;
  const uint32_t value = values[lane];
  const uint32_t other = values[32 + lane];
  const int signed_value = static_cast<int>(value);
  const uint64_t wide = static_cast<uint64_t>(value) << 32 | other;
  uint32_t* to = out + lane;
  const auto put = [&to](uint32_t word) {
    *to = word;
    to += 32;
  };
  const auto put_wide = [&put](uint64_t word) {
    put(static_cast<uint32_t>(word));
    put(static_cast<uint32_t>(word >> 32));
  };
  put(__shfl_sync(kAllLanes, value, 7));
  put(__shfl_sync(kAllLanes, value, static_cast<int>(other & 31u)));
  put(__shfl_sync(kAllLanes, value, static_cast<int>(other & 63u)));  // wraps at 32
  put(__shfl_sync(kAllLanes, value, static_cast<int>(other & 7u), 8));
  put(__shfl_up_sync(kAllLanes, value, 1));
  put(__shfl_up_sync(kAllLanes, value, 16));
  put(__shfl_up_sync(kAllLanes, value, 3, 16));
  put(__shfl_down_sync(kAllLanes, value, 1));
  put(__shfl_down_sync(kAllLanes, value, 13));
  put(__shfl_down_sync(kAllLanes, value, 5, 8));
  put(__shfl_xor_sync(kAllLanes, value, 1));
  put(__shfl_xor_sync(kAllLanes, value, 16));
  put(__shfl_xor_sync(kAllLanes, value, 31));
  put(cuda::float_bits(__shfl_xor_sync(kAllLanes, static_cast<float>(value), 8)));
  put_wide(static_cast<uint64_t>(__shfl_xor_sync(kAllLanes, static_cast<long long>(wide), 4)));
  put_wide(static_cast<uint64_t>(
      __double_as_longlong(__shfl_sync(kAllLanes, static_cast<double>(wide), 9))));
  put(__ballot_sync(kAllLanes, static_cast<int>(value & 1u)));
  put(__ballot_sync(kAllLanes, static_cast<int>(value & 0x80000000u)));
  put(static_cast<uint32_t>(__any_sync(kAllLanes, value == other) != 0));
  put(static_cast<uint32_t>(__any_sync(kAllLanes, lane == 31) != 0));
  put(static_cast<uint32_t>(__all_sync(kAllLanes, lane < 32) != 0));
  put(static_cast<uint32_t>(__all_sync(kAllLanes, lane < 31) != 0));
  put(__match_any_sync(kAllLanes, value & 3u));
  put(__match_any_sync(kAllLanes, static_cast<unsigned>(value)));
  put(__reduce_add_sync(kAllLanes, value));
  put(__reduce_min_sync(kAllLanes, value));
  put(__reduce_max_sync(kAllLanes, value));
  put(__reduce_and_sync(kAllLanes, value | 0x0f0f0f0fu));
  put(__reduce_or_sync(kAllLanes, value & 0x11111111u));
  put(static_cast<uint32_t>(__reduce_add_sync(kAllLanes, signed_value)));
  put(static_cast<uint32_t>(__reduce_min_sync(kAllLanes, signed_value)));
  put(static_cast<uint32_t>(__reduce_max_sync(kAllLanes, signed_value)));
  put(static_cast<uint32_t>(__popc(value)));
  put(static_cast<uint32_t>(__ffs(signed_value)));
  put(static_cast<uint32_t>(__ffs(0)));
  put(static_cast<uint32_t>(__clz(signed_value)));
  put(static_cast<uint32_t>(__clz(0)));
  put(__brev(value));
  put(static_cast<uint32_t>(__float_as_uint(__uint_as_float(value & 0x7f7fffffu))));
  // A part of the warp: lanes outside of the mask stay away.
  uint32_t part = 0;
  if (lane % 2 == 0) part = __ballot_sync(0x55555555u, static_cast<int>(value & 1u));
  put(part);
  __syncwarp(kAllLanes);
  put(__shfl_sync(kAllLanes, part, 0));
}

// Two warps and a half: votes of the block. out: [thread][3].
__global__ void block_votes_kernel(const uint32_t* values, uint32_t* out) {
  const uint32_t thread = threadIdx.x;
  const int bit = static_cast<int>(values[thread] & 1u);
  out[3 * thread] = static_cast<uint32_t>(__syncthreads_or(bit) != 0);
  out[3 * thread + 1] = static_cast<uint32_t>(__syncthreads_and(bit) != 0);
  out[3 * thread + 2] = static_cast<uint32_t>(__syncthreads_count(bit));
}

// Integer atomics of several blocks: their result does not depend on the order.
__global__ void atomics_kernel(const uint32_t* values, uint32_t* out) {
  const uint32_t value = values[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(&out[0], value);
  atomicMin(&out[1], value);
  atomicMax(&out[2], value);
  atomicMin(reinterpret_cast<int*>(&out[3]), static_cast<int>(value));
  atomicMax(reinterpret_cast<int*>(&out[4]), static_cast<int>(value));
  atomicAdd(reinterpret_cast<unsigned long long*>(&out[6]), static_cast<unsigned long long>(value));
}

// ---- arithmetic -------------------------------------------------------------------------------

constexpr int kFloatWords = 9;
constexpr int kDoubleWords = 6;

// Exact by IEEE 754: what a compiler must not fuse, flush or approximate. out: [word][i].
__global__ void float_kernel(const float* a, const float* b, const float* c, uint32_t* out,
                             int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const float x = a[i];
  const float y = b[i];
  const float z = c[i];
  out[i] = cuda::float_bits(x * y + z);
  out[count + i] = cuda::float_bits(fmaf(x, y, z));
  out[2 * count + i] = cuda::float_bits(x / y);
  out[3 * count + i] = cuda::float_bits(sqrtf(fabsf(x)));
  out[4 * count + i] = cuda::float_bits(x - y);
  out[5 * count + i] = cuda::float_bits(x * y);
  out[6 * count + i] = cuda::float_bits(fminf(x, y));
  out[7 * count + i] = cuda::float_bits(fmaxf(x, y));
  out[8 * count + i] = cuda::float_bits(
      static_cast<float>(static_cast<double>(x) * 1.000000059 + static_cast<double>(z)));
}

__global__ void double_kernel(const double* a, const double* b, const double* c, uint64_t* out,
                              int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const double x = a[i];
  const double y = b[i];
  const double z = c[i];
  out[i] = static_cast<uint64_t>(__double_as_longlong(x * y + z));
  out[count + i] = static_cast<uint64_t>(__double_as_longlong(fma(x, y, z)));
  out[2 * count + i] = static_cast<uint64_t>(__double_as_longlong(x / y));
  out[3 * count + i] = static_cast<uint64_t>(__double_as_longlong(sqrt(fabs(x))));
  out[4 * count + i] = static_cast<uint64_t>(__double_as_longlong(x - y));
  out[5 * count + i] = cuda::float_bits(static_cast<float>(x));
}

enum class Function : int32_t { kExp, kLog, kLog1p, kTanh, kExpf, kErfcf };

// Functions that a library approximates.
template <Function kFunction, typename T>
__global__ void function_kernel(const T* in, T* out, int32_t count) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  if constexpr (kFunction == Function::kExp) out[i] = exp(in[i]);
  if constexpr (kFunction == Function::kLog) out[i] = log(in[i]);
  if constexpr (kFunction == Function::kLog1p) out[i] = log1p(in[i]);
  if constexpr (kFunction == Function::kTanh) out[i] = tanh(in[i]);
  if constexpr (kFunction == Function::kExpf) out[i] = expf(in[i]);
  if constexpr (kFunction == Function::kErfcf) out[i] = erfcf(in[i]);
}

}  // namespace conformance
