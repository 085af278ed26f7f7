// The arena of a block's shared memory: [dynamic][red zone][array][red zone]… All of it holds 0xFF
// when a block starts: NaN as a float, -1 as an integer. Red zones are poisoned under
// AddressSanitizer; elsewhere they are looked at when the block ends.
#include <algorithm>
#include <cstring>

#include "block.h"

namespace simt::detail {
namespace {

constexpr size_t kRedZone = 256;
constexpr unsigned char kPoison = 0xFF;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void Block::prepare_shared() {
#if SIMT_ASAN
  __asan_unpoison_memory_region(arena_, arena_used_);
#endif
  statics_.clear();
  static_bytes_ = 0;
  arena_used_ = round_up(launch_->shared_bytes, 128) + kRedZone;
  std::memset(arena_, kPoison, arena_used_);
#if SIMT_ASAN
  __asan_poison_memory_region(arena_ + launch_->shared_bytes, arena_used_ - launch_->shared_bytes);
#endif
}

void* Block::static_shared(Thread* thread, const StaticShared* site) {
  for (const StaticRange& range : statics_) {
    if (range.site == site) return arena_ + range.offset;
  }
  const size_t bytes = site->element_bytes * site->count;
  const size_t start = round_up(arena_used_, std::max<size_t>(site->alignment, 128));
  const size_t end = round_up(start + bytes, 8) + kRedZone;
  if (end > arena_bytes_) {
    fail(thread, DefectKind::kResources,
         "more shared memory than any device has: " + std::to_string(static_bytes_ + bytes) +
             " bytes in arrays",
         {site->file, site->line});
  }
  std::memset(arena_ + arena_used_, kPoison, end - arena_used_);
#if SIMT_ASAN
  __asan_poison_memory_region(arena_ + arena_used_, end - arena_used_);
  __asan_unpoison_memory_region(arena_ + start, bytes);
#endif
  arena_used_ = end;
  static_bytes_ += bytes;
  statics_.push_back({site, static_cast<uint32_t>(start), static_cast<uint32_t>(bytes)});
  // 48 KiB is all that arrays can have on any device.
  if (static_bytes_ > 48 * 1024 || static_bytes_ + launch_->shared_bytes > launch_->shared_limit) {
    fail(thread, DefectKind::kResources,
         "arrays in shared memory take " + std::to_string(static_bytes_) +
             " bytes and the dynamic part " + std::to_string(launch_->shared_bytes) +
             "; the limits are 48 KiB for arrays and " + std::to_string(launch_->shared_limit) +
             " bytes for all",
         {site->file, site->line});
  }
  return arena_ + start;
}

bool Block::is_allocated(uint64_t offset, uint64_t bytes) const {
  if (offset + bytes <= launch_->shared_bytes) return true;
  for (const StaticRange& range : statics_) {
    if (offset >= range.offset && offset + bytes <= range.offset + range.bytes) return true;
  }
  return false;
}

std::string Block::describe_offset(uint64_t offset) const {
  if (offset < launch_->shared_bytes) {
    return "byte " + std::to_string(offset) + " of the dynamic part";
  }
  for (const StaticRange& range : statics_) {
    if (offset < range.offset || offset >= range.offset + range.bytes) continue;
    return "byte " + std::to_string(offset - range.offset) + " of the array of " +
           to_string(Site{range.site->file, range.site->line});
  }
  return "offset " + std::to_string(offset) + ", outside of every array";
}

uint32_t Block::checked_offset(Thread* thread, uint32_t address, uint32_t bytes,
                               const char* operation, Site site) {
  if (address % bytes != 0) {
    fail(thread, DefectKind::kMisaligned,
         std::string(operation) + ": the shared address " + std::to_string(address) +
             " is not a multiple of " + std::to_string(bytes),
         site);
  }
  if (address < kSharedBase || !is_allocated(address - kSharedBase, bytes)) {
    fail(thread, DefectKind::kOutOfBounds,
         std::string(operation) + ": the shared address " + std::to_string(address) +
             " is outside of the block's shared memory (dynamic: " + std::to_string(kSharedBase) +
             " to " + std::to_string(kSharedBase + launch_->shared_bytes) + ")",
         site);
  }
  return address - kSharedBase;
}

bool Block::red_zones_intact(std::string* where) const {
#if SIMT_ASAN
  static_cast<void>(where);
  return true;
#else
  size_t start = launch_->shared_bytes;
  size_t array = 0;
  for (;;) {
    const size_t end = array < statics_.size() ? statics_[array].offset : arena_used_;
    for (size_t i = start; i < end; ++i) {
      if (arena_[i] == kPoison) continue;
      const bool dynamic = array == 0;
      *where = "the block wrote " + std::to_string(i - start) + " bytes past the end of " +
               (dynamic ? "the dynamic shared memory (" + std::to_string(start) + " bytes)"
                        : "the array in shared memory of " +
                              to_string(Site{statics_[array - 1].site->file,
                                             statics_[array - 1].site->line}));
      return false;
    }
    if (array == statics_.size()) return true;
    start = statics_[array].offset + statics_[array].bytes;
    ++array;
  }
#endif
}

void* static_shared(const StaticShared* site) {
  Thread* thread = self();
  EngineScope scope(thread);
  return thread->block->static_shared(thread, site);
}

uint32_t shared_address(const void* pointer, const char* file, int line) {
  Thread* thread = self();
  Block* block = thread->block;
  if (!block->is_shared(pointer)) {
    EngineScope scope(thread);
    block->fail(thread, DefectKind::kOutOfBounds, "smem_u32 of an address that is not shared",
                {file, line});
  }
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - block->arena()) +
         kSharedBase;
}

}  // namespace simt::detail

namespace simt {

unsigned char* dynamic_shared() { return detail::self()->block->arena(); }

}  // namespace simt
