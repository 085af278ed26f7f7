// Shapes of the tensor-core tiles: which warps own which weight rows and tokens, and the pipeline.
//
// Weights are the M operand and tokens the N operand of m16n8k16, whatever the size. What bounds a
// shape is the traffic of shared memory: 128 bytes per clock against one m16n8k16 in two clocks
// (sm_80). With warp tiles of 64 x 64 a k16 step reads 8 ldmatrix.x4 (32 clocks) for 32 mma (64
// clocks), and the copies into a stage add a quarter; 64 x 32 would leave no room at all.
//   decode:  64 rows x up to 16 tokens. Nothing but a stream of weights: small blocks, several to a
//            multiprocessor
//   small:  128 rows x up to 32 tokens. Still a stream of weights; more rows to a block, so that
//            reading the tokens again from L2 costs a quarter of it
//   large:  128 rows x up to 128 tokens, 4 warps of 64 x 64, two blocks to a multiprocessor: one
//            multiplies while the other is in its epilogue
// How many stages of K are under way is chosen for each launch, by the shared memory of the device: what
// keeps a memory of b bytes per second busy is b times its latency, and that has grown with every
// architecture.
//
// Plain C++: the configuration is chosen on the host by the same constants.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

// Warps: kWarpsM strips of kFragmentsM * 16 rows times kWarpsN strips of up to kFragmentsN * 8
// tokens. kMaxSplit > 1: up to that many warps may share a strip and split K.
template <int kWarpsM_, int kWarpsN_, int kFragmentsM_, int kFragmentsN_, int kBlockK_,
          int kMaxSplit_, int kBlocks_>
struct HalfTile {
  static constexpr int kWarpsM = kWarpsM_;
  static constexpr int kWarpsN = kWarpsN_;
  static constexpr int kFragmentsM = kFragmentsM_;
  static constexpr int kFragmentsN = kFragmentsN_;
  static constexpr int kBlockK = kBlockK_;
  static constexpr int kMaxSplit = kMaxSplit_;
  static constexpr int kBlocks = kBlocks_;  // per multiprocessor that registers must allow
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kRows = kWarpsM * kFragmentsM * 16;
  static constexpr int kMaxTokens = kWarpsN * kFragmentsN * 8;
  static constexpr int kMinTokens = kWarpsN * 8;
  static constexpr int kChunks = kBlockK / 8;  // of 16 bytes, in a row of a slice
  static constexpr int kRowBytes = kBlockK * 2;
  static_assert(kRows * kChunks % kThreads == 0, "a thread copies whole chunks");
  static_assert(kBlockK % 32 == 0, "fragments alternate");
  static_assert(kMaxSplit == 1 || (kWarpsN == 1 && kWarpsM % kMaxSplit == 0), "warps split K");

  // Static shared memory of the kernel, at most: the tables of a tile and of the groups.
  static constexpr int kStaticBytes = 12 * kMaxTokens + 512;

  static constexpr int stage_bytes(int tile_tokens, int split_k) {
    return (kRows + tile_tokens * split_k) * kRowBytes;
  }
};

// MatmulConfig::kernel
enum HalfKernel : int32_t { kHalfDecode = 0, kHalfSmall = 1, kHalfLarge = 2 };

using HalfDecodeTile = HalfTile<4, 1, 1, 2, 64, 4, 4>;
using HalfSmallTile = HalfTile<4, 1, 2, 4, 64, 1, 2>;
using HalfLargeTile = HalfTile<2, 2, 4, 8, 32, 1, 2>;

// How many stages a launch may have, rising: each has a loop of its own. One stage is multiplied, one is
// filled, and one at least is under way.
constexpr int kFewStages = 3;
constexpr int kSomeStages = 4;
constexpr int kMostStages = 6;

}  // namespace sparse_experts::cuda
