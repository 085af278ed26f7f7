// Places of 16-byte chunks in shared memory that keep ldmatrix and 16-byte writes free of bank
// conflicts. Shared memory serves 128 bytes (8 chunks) at a time:
//   - ldmatrix reads one chunk column of 8 successive rows
//   - copies write all chunks of one row (or of the rows that share 128 bytes)
// Either way the 8 chunks must lie in different columns of the 128-byte lines, so a row's chunks
// are permuted by an exclusive or with the number of its line.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sparse_experts::cuda {

// Byte offset of a chunk in a tile of rows of kChunks chunks (4: two rows to a line; 8: one row).
template <int kChunks>
__host__ __device__ constexpr uint32_t swizzled(uint32_t row, uint32_t chunk) {
  static_assert(kChunks == 4 || kChunks == 8, "rows of 64 or 128 bytes");
  return (row * kChunks + (chunk ^ (row / (8 / kChunks) % kChunks))) * 16;
}

}  // namespace sparse_experts::cuda
