// Memory accesses as a warp makes them. Lanes run one after another, so the pieces of one warp
// access come in one by one: a lane's access joins the first open access of the same operation that
// the lane has not joined yet. When all lanes are in, or the warp meets, the access is counted:
// 32-byte sectors for global memory, passes over 32 four-byte banks for shared memory.
#include <algorithm>

#include "block.h"

namespace simt::detail {
namespace {

constexpr size_t kMostOpen = 1u << 15;  // per warp; lanes further apart are counted apart

unsigned count_sectors(const WarpAccess& access) {
  uint64_t sectors[64];
  unsigned count = 0;
  for (uint32_t left = access.lanes; left != 0; left &= left - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
    if (access.bytes[lane] == 0) continue;
    const uint64_t first = access.address[lane] / 32;
    const uint64_t last = (access.address[lane] + access.bytes[lane] - 1) / 32;
    for (uint64_t sector = first; sector <= last && count < 64; ++sector) {
      if (count > 0 && sectors[count - 1] == sector) continue;
      sectors[count++] = sector;
    }
  }
  std::sort(sectors, sectors + count);
  return static_cast<unsigned>(std::unique(sectors, sectors + count) - sectors);
}

// Passes beyond the first of each phase: as many lanes as fill 128 bytes go together.
template <typename Address>
unsigned count_conflicts(uint32_t lanes, const Address* address, unsigned bytes) {
  const unsigned words = std::max(1u, bytes / 4);
  const unsigned phase = std::max(1u, 32 / words);
  unsigned conflicts = 0;
  for (unsigned first = 0; first < 32; first += phase) {
    uint64_t seen[32][32];  // different words, per bank
    unsigned counts[32] = {};
    unsigned passes = 1;
    for (unsigned lane = first; lane < std::min(32u, first + phase); ++lane) {
      if ((lanes >> lane & 1u) == 0) continue;
      for (unsigned i = 0; i < words; ++i) {
        const uint64_t word = static_cast<uint64_t>(address[lane]) / 4 + i;
        const unsigned bank = static_cast<unsigned>(word % 32);
        unsigned& count = counts[bank];
        if (std::find(seen[bank], seen[bank] + count, word) != seen[bank] + count) continue;
        if (count < 32) seen[bank][count++] = word;
        passes = std::max(passes, count);
      }
    }
    conflicts += passes - 1;
  }
  return conflicts;
}

}  // namespace

void Block::finish_access(const WarpAccess& access) {
  switch (access.kind) {
    case AccessKind::kGlobalLoad:
      counters.global_load_sectors += count_sectors(access);
      break;
    case AccessKind::kGlobalStore:
      counters.global_store_sectors += count_sectors(access);
      break;
    case AccessKind::kCopyAsync:
      counters.cp_async_sectors += count_sectors(access);
      counters.cp_async_bank_conflicts +=
          count_conflicts(access.lanes, access.shared, access.shared_bytes);
      break;
    case AccessKind::kSharedLoad:
    case AccessKind::kSharedStore: {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(access.lanes));
      const unsigned conflicts = count_conflicts(access.lanes, access.address, access.bytes[lane]);
      ++counters.shared_accesses;
      counters.shared_bank_conflicts += conflicts;
      if (access.kind == AccessKind::kSharedStore) {
        counters.shared_store_bank_conflicts += conflicts;
      }
      break;
    }
  }
}

void Block::record_access(Thread* thread, AccessKind kind, const void* key, int line,
                          uint64_t address, uint32_t bytes, uint32_t shared,
                          uint32_t shared_bytes) {
  if (kind == AccessKind::kGlobalLoad) counters.global_load_bytes += bytes;
  if (kind == AccessKind::kGlobalStore) counters.global_store_bytes += bytes;
  Warp* warp = thread->warp;
  const uint32_t bit = 1u << thread->lane;
  std::vector<WarpAccess>& open = warp->accesses;
  size_t i = warp->cursor[thread->lane];
  while (i < open.size() && (open[i].key != key || open[i].line != line || open[i].kind != kind ||
                             (open[i].lanes & bit) != 0)) {
    ++i;
  }
  if (i == open.size()) {
    if (open.size() >= kMostOpen) {
      close_accesses(warp);
      i = 0;
    }
    open.emplace_back();
    open[i].kind = kind;
    open[i].key = key;
    open[i].line = line;
    open[i].lanes = 0;
    open[i].shared_bytes = static_cast<uint8_t>(shared_bytes);
  }
  WarpAccess& access = open[i];
  access.lanes |= bit;
  access.address[thread->lane] = address;
  access.shared[thread->lane] = shared;
  access.bytes[thread->lane] = static_cast<uint8_t>(bytes);
  warp->cursor[thread->lane] = i + 1;
}

void Block::close_accesses(Warp* warp) {
  if (warp->accesses.empty()) return;
  for (const WarpAccess& access : warp->accesses) finish_access(access);
  warp->accesses.clear();
  std::fill(warp->cursor, warp->cursor + 32, size_t{0});
}

}  // namespace simt::detail
