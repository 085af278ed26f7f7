// The operands of a wgmma in shared memory, and the products of one warp with them.
#pragma once

#include <cstdint>

#include "block.h"
#include "race.h"
#include "simt/ptx90.h"

namespace simt::detail {

constexpr unsigned kWarpRows = 16;  // of the 64 that a group has

struct Operands {
  uint16_t a[kWarpRows * 16];
  uint16_t b[256 * 16];
  uint64_t digest;
};

// What was read last on this OS thread.
Operands& wgmma_operands();

// Reads what the warp needs of both operands, by their descriptors. `actor`: for the race detector; null:
// this is only a look.
void read_operands(Warp* warp, uint64_t a, uint64_t b, WgmmaShape shape, const AsyncActor* actor,
                   Site site);

// sums [16, columns] += what was read last.
void multiply_operands(TensorCores model, WgmmaShape shape, float* sums);

}  // namespace simt::detail
