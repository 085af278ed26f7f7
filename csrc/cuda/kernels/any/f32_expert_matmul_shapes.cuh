// Shapes of the f32 matmul's tiles: constants that the kernels and the choice of a configuration
// share. Plain C++. Shapes with the same kSplit give the same bits.
#pragma once

namespace sparse_experts::cuda {

// kRows: rows of the weight operand; a gated tile has kRows / 2 outputs, gate rows first. A warp
// has kWarpRows row threads and 32 / kWarpRows token threads. kSplit > 1: that many sets of warps
// own the same outputs; each adds up its own kDepth / kSplit columns of every step.
template <int kRows_, int kTokens_, int kDepth_, int kStages_, int kRowThreads_, int kTokenThreads_,
          int kWarpRows_, int kBlocks_, int kSplit_>
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
  static constexpr int kSplit = kSplit_;
  static constexpr int kThreads = kRowThreads * kTokenThreads * kSplit;
  static constexpr int kRowsPerThread = kRows / kRowThreads;
  static constexpr int kTokensPerThread = kTokens / kTokenThreads;
  static constexpr int kChunks = kDepth / 4;
  // 8 lanes read 16 bytes at a time. Where they are of one token they read the same ones.
  static constexpr bool kPermutedTokens = kWarpRows < 16;
  static constexpr int kStageFloats = (kRows + kTokens) * kDepth;
  static constexpr int kOutStride = kRows + 8;  // of the finished tile: token rows meet other banks
  static constexpr int kSharedBytes = kStages * kStageFloats * 4;
  static_assert(kChunks == 8 * kSplit || (kSplit == 1 && 8 % kChunks == 0),
                "a row is a part of 128 bytes, or each part of the split has 128");
  static_assert(kSplit * kTokens * kOutStride <= kStages * kStageFloats, "the finished tile fits");
  static_assert(kSharedBytes <= 48 * 1024, "no raised limit of shared memory");
  static_assert(kRowThreads % 8 == 0 && (!kPermutedTokens || kTokenThreads % 8 == 0),
                "all of a thread's rows are permuted alike");
  static_assert(kThreads % kDepth == 0, "a thread copies one column");
};

// Decode: an expert has up to 8 tokens. Every block streams weights, one row thread per row pair.
using F32SmallTile = F32Tile<64, 8, 32, 4, 32, 2, 32, 4, 1>;
// The same where that leaves multiprocessors without work: a half or a quarter of the rows, as many
// times the columns in a step, so that a step is of 8 KiB of weights in all three. The third has a
// stage less: 48 KiB would leave room for one block on the cards with the least shared memory.
using F32SmallTileSplit2 = F32Tile<32, 8, 64, 4, 32, 1, 32, 4, 2>;
using F32SmallTileSplit4 = F32Tile<16, 8, 128, 3, 16, 2, 16, 4, 4>;
// Up to 32 tokens: the weights are still read once.
using F32MediumTile = F32Tile<128, 32, 16, 3, 16, 8, 8, 4, 1>;
// Prefill: bound by arithmetic, 64 outputs per thread.
using F32LargeTile = F32Tile<128, 64, 16, 3, 16, 8, 8, 3, 1>;

}  // namespace sparse_experts::cuda
