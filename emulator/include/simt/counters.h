// What kernels did, counted: the emulator says nothing about speed, but bytes, sectors, conflicts
// and instructions are exact, and tests can hold budgets against them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "simt/types.h"

namespace simt {

struct Counters {
  uint64_t launches = 0;
  uint64_t blocks = 0;
  uint64_t block_barriers = 0;           // per block
  uint64_t warp_collectives = 0;         // per warp: shuffles, votes, __syncwarp, ldmatrix, mma
  uint64_t mma = 0;                      // per warp: m16n8k16
  uint64_t wgmma = 0;                    // per warp: its 16 rows of an m64nNk16
  uint64_t wgmma_products = 0;           // multiplications in them
  uint64_t ldmatrix = 0;                 // per warp
  uint64_t ldmatrix_bank_conflicts = 0;  // further passes, over all 8x8 matrices
  uint64_t cp_async = 0;                 // per thread
  uint64_t cp_async_bytes = 0;           // read from global memory
  uint64_t cp_async_sectors = 0;         // 32-byte sectors read, per warp access
  uint64_t cp_async_bank_conflicts = 0;  // further passes of the writes to shared memory
  uint64_t stmatrix = 0;                 // per warp
  uint64_t stmatrix_bank_conflicts = 0;  // further passes, over all 8x8 matrices
  uint64_t bulk_loads = 0;               // bulk copies into shared memory, boxes among them
  uint64_t bulk_load_bytes = 0;          // written to shared memory, rows outside of a tensor too
  uint64_t bulk_stores = 0;
  uint64_t bulk_store_bytes = 0;
  uint64_t mbarrier_waits = 0;  // per thread
  uint64_t named_barriers = 0;  // completed
  uint64_t proxy_fences = 0;    // fence.proxy.async, per thread
  // Global memory. The race flavour counts every access, the others only wrapped vector loads.
  // cp.async and bulk copies are not in here.
  uint64_t global_load_bytes = 0;
  uint64_t global_load_sectors = 0;
  uint64_t global_store_bytes = 0;
  uint64_t global_store_sectors = 0;
  // Plain accesses to shared memory, in the race flavour.
  uint64_t shared_accesses = 0;  // per warp
  uint64_t shared_bank_conflicts = 0;
  uint64_t shared_store_bank_conflicts = 0;  // of these, by stores

  Counters& operator+=(const Counters& other);
};

struct LaunchRecord {
  std::string name;
  dim3 grid;
  dim3 block;
  uint64_t shared_bytes = 0;  // dynamic and static
  Counters counters;
};

// Sums since the last reset: over all kernels, or over those whose name contains the text.
Counters counters();
Counters counters(const std::string& kernel_name_part);

// One record per launch since the last reset, oldest first (the latest 10000 are kept).
std::vector<LaunchRecord> launch_records();

void reset_counters();

}  // namespace simt
