// Shapes of the f32 matmul's tiles: constants that the kernels and the choice of a configuration
// share. Plain C++. No shape changes a bit of the result.
#pragma once

namespace sparse_experts::cuda {

// kRows: rows of the weight operand; a gated tile has kRows / 2 outputs, gate rows first. A warp
// has kWarpRows row threads and 32 / kWarpRows token threads.
template <int kRows_, int kTokens_, int kDepth_, int kStages_, int kRowThreads_, int kTokenThreads_,
          int kWarpRows_, int kBlocks_>
struct F32Tile {
  static constexpr int kRows = kRows_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kDepth = kDepth_;
  static constexpr int kStages = kStages_;
  static constexpr int kRowThreads = kRowThreads_;
  static constexpr int kTokenThreads = kTokenThreads_;
  static constexpr int kWarpRows = kWarpRows_;
  static constexpr int kBlocks =
      kBlocks_;  // per multiprocessor, that registers must leave room for
  static constexpr int kThreads = kRowThreads * kTokenThreads;
  static constexpr int kRowsPerThread = kRows / kRowThreads;
  static constexpr int kTokensPerThread = kTokens / kTokenThreads;
  static constexpr int kChunks = kDepth / 4;
  static constexpr int kStageFloats = (kRows + kTokens) * kDepth;
  static constexpr int kOutStride = kRows + 8;  // of the finished tile: token rows meet other banks
  static constexpr int kSharedBytes = kStages * kStageFloats * 4;
  static_assert(kChunks <= 8 && 8 % kChunks == 0, "a row is a part of 128 bytes");
  static_assert(kTokens * kOutStride <= kStages * kStageFloats, "the finished tile fits");
  static_assert(kSharedBytes <= 48 * 1024, "no raised limit of shared memory");
  static_assert(kRowThreads % 8 == 0 && (kWarpRows == 32 || kTokenThreads % 8 == 0),
                "all of a thread's rows are permuted alike");
  static_assert(kThreads % kDepth == 0, "a thread copies one column");
};

// Decode: an expert has up to 8 tokens. Every block streams weights, one row thread per row pair.
using F32SmallTile = F32Tile<64, 8, 32, 4, 32, 2, 32, 4>;
// Up to 32 tokens: the weights are still read once.
using F32MediumTile = F32Tile<128, 32, 16, 3, 16, 8, 8, 4>;
// Prefill: bound by arithmetic, 64 outputs per thread.
using F32LargeTile = F32Tile<128, 64, 16, 3, 16, 8, 8, 3>;

}  // namespace sparse_experts::cuda
