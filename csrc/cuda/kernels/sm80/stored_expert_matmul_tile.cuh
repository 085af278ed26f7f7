// Shapes of the tiles that multiply by stored codes.
//
// A block's four warps own 16 weight rows each and all tokens of the tile: every code is decoded once in
// a tile, by one warp, which keeps it in registers and needs no ldmatrix for it. A stage is a chunk of
// 256 columns: 64 rows of codes with their scales, and the same columns of the tokens.
//   decode: up to 16 tokens. Nothing but a stream of weights: as many blocks to a multiprocessor as
//           have work
//   wide:   up to 64 tokens, for whatever has more
//
// Plain C++: the configuration is chosen on the host by the same constants.
#pragma once

#include <cstdint>

#include "cuda/layouts/stored_layout.h"

namespace sparse_experts::cuda {

// Up to kFragmentsN_ * 8 tokens, in powers of two from kLeastWidth_ * 8 on. The names are those of
// HalfTile: the epilogue is the same.
template <int kFragmentsN_, int kLeastWidth_, int kBlocks_>
struct StoredTile {
  static constexpr int kWarpsM = 4;
  static constexpr int kWarpsN = 1;
  static constexpr int kFragmentsM = 1;
  static constexpr int kFragmentsN = kFragmentsN_;
  static constexpr int kLeastWidth = kLeastWidth_;
  static constexpr int kMaxSplit = 1;
  static constexpr int kBlocks = kBlocks_;  // per multiprocessor that registers must allow
  static constexpr int kThreads = 32 * kWarpsM;
  static constexpr int kRows = 16 * kWarpsM;
  static constexpr int kUnits = kRows / kUnitRows;
  static constexpr int kMaxTokens = kFragmentsN * 8;

  // Static shared memory of the kernel, at most: the tables of a tile, groups and layouts.
  static constexpr int kStaticBytes = 12 * kMaxTokens + 768;

  static constexpr int stage_bytes(int largest_chunk, int tile_tokens) {
    return kUnits * largest_chunk + tile_tokens * kChunkCols * 2;
  }
};

// MatmulConfig::kernel
enum StoredKernel : int32_t { kStoredDecode = 0, kStoredWide = 1 };

using StoredDecodeTile = StoredTile<2, 1, 4>;
using StoredWideTile = StoredTile<8, 4, 2>;

// Stages that a launch may have: one is multiplied while the others are under way.
constexpr int kLeastStoredStages = 2;
constexpr int kMostStoredStages = 4;

}  // namespace sparse_experts::cuda
