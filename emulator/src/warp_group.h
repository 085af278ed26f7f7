// wgmma: products by four warps 4i … 4i + 3 together. The product is computed at the issue but handed
// out in the wait that covers its group: until then the accumulators hold NaN, and operands must stay
// as they were. The group is one unit: a wait waits for the issue by all four warps, and then the
// operands of all four have been read.
#pragma once

#include <cstdint>
#include <vector>

#include "block.h"
#include "simt/ptx90.h"

namespace simt::detail {

// One warp's accumulators under way.
struct Accumulators {
  float* registers[32];
  WgmmaShape shape;
  uint32_t group;             // the latest that adds to them
  std::vector<float> values;  // [16, columns]
  Site site;
};

// A product under way that reads shared memory: what it must still find there.
struct OperandUse {
  uint64_t a, b;
  WgmmaShape shape;
  uint32_t group;
  uint64_t digest;
  Site site;
};

struct WarpProducts {
  uint64_t issued = 0;
  uint32_t committed = 0;
  uint32_t retired = 0;  // groups that were waited for
  bool fenced = false;
  std::vector<Accumulators> accumulators;
  std::vector<OperandUse> uses;
};

// The instructions of a group of four warps, in order: each warp must issue the same.
struct GroupInstruction {
  const char* operation;
  uint64_t first, second;
  Site site;
};
struct GroupOrder {
  std::vector<GroupInstruction> instructions;
  uint64_t taken[4] = {};  // by each warp
};

class WarpGroups {
 public:
  void clear();
  // Fails unless all warps of the group issue the same instructions in the same order. By one lane
  // of each warp.
  void agree(Warp* warp, const GroupInstruction& instruction);
  WarpProducts& of(const Warp* warp);
  // How many groups all four warps have committed.
  uint32_t committed_by_all(const Warp* warp) const;
  void check_exit(Thread* thread) const;

 private:
  WarpProducts products_[32];
  GroupOrder orders_[8];
  bool used_ = false;
};

}  // namespace simt::detail
