// Shape of the warp-group tiles, and how their shared memory is laid out. Plain C++: the host chooses
// by the same constants.
//
// 128 weight rows, 64 for each of two consumer groups, times 64 to 256 tokens; K in steps of 64: a
// row of a stage is one 128-byte line of the swizzle. The widest tile reads 20 KiB and writes 12 KiB
// of shared memory in the 256 clocks of a k16 step: the limit of 128 bytes per clock. Each width is a
// kernel of its own, because the compiler plans the accumulators of all widths in a kernel side by
// side, and spills them.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

// What a box of weights is made of: K, and rows of one matrix that follow each other. Gated, 8 rows
// of gate and 8 of up take turns, so that a thread's accumulators hold both of an output.
constexpr int kWgBoxK = 64;
constexpr int kWgBoxRows = 8;
constexpr int kWgTileRows = 128;  // gated, half of them are of the gate matrix

template <int kTokens_>
struct WgTile {
  static constexpr int kTokens = kTokens_;
  static constexpr int kRows = kWgTileRows;
  static constexpr int kBlockK = kWgBoxK;
  static constexpr int kRowBytes = kBlockK * 2;
  static constexpr int kConsumers = 256;  // threads
  static constexpr int kProducers = 128;
  static constexpr int kThreads = kConsumers;  // of the epilogue
  static constexpr int kBlockThreads = kConsumers + kProducers;
  // Of a stage.
  static constexpr int kWeightBytes = kRows * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  // As many stages as fit beside the outputs of a strip and the tables of a tile.
  static constexpr int kPipelineBytes = 192 * 1024;
  static constexpr int kStages = kPipelineBytes / kStageBytes;
  // Outputs are finished in strips of that many tokens: [token][kRows + padding] in f32.
  static constexpr int kStripTokens = 32;
  static constexpr int kStripBytes = kStripTokens * (kRows + 4) * 4;
  // The swizzle's pattern begins at multiples of this; dynamic shared memory may not.
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes = kAlignment + kStages * kStageBytes + kStripBytes;
  // Static shared memory of the kernel, at most: tables of a tile, groups, barriers.
  static constexpr int kStaticBytes = 12 * kTokens + 16 * kStages + 512;
  static_assert(kTokens % 64 == 0 && kTokens <= 256, "a width that there is a product for");
};

// Registers of a thread: 256 * 224 + 128 * 56 are the 384 * 168 that the block has.
constexpr int kWgConsumerRegisters = 224;
constexpr int kWgProducerRegisters = 56;

}  // namespace sparse_experts::cuda
