#include "mbarrier.h"

#include <cstring>

#include "simt/ptx90.h"

namespace simt::detail {
namespace {

constexpr uint32_t kMostCount = (1u << 20) - 1;
constexpr int64_t kMostBytes = (1 << 20) - 1;
constexpr uint64_t kMark = 0x6d62617272696572u;  // differs from poison and from small numbers

[[noreturn]] void misuse(Thread* thread, std::string&& text, Site site) {
  thread->block->fail(thread, DefectKind::kProtocol, std::move(text), site);
}

std::string describe_wait(const Thread& thread) {
  const Block& block = *thread.block;
  const Mbarrier* barrier = block.mbarriers->at_offset(thread.wait_number);
  return barrier == nullptr ? "" : ": " + block.mbarriers->describe(*barrier, block);
}

}  // namespace

void Mbarriers::clear() {
  if (barriers_.empty() && next_clock_[0] == 0) return;
  barriers_.clear();
  std::memset(next_clock_, 0, sizeof next_clock_);
}

const Mbarrier* Mbarriers::at_offset(uint32_t offset) const {
  for (const Mbarrier& barrier : barriers_) {
    if (barrier.offset == offset) return &barrier;
  }
  return nullptr;
}

std::string Mbarriers::describe(const Mbarrier& barrier, const Block& block) const {
  return block.describe_offset(barrier.offset) + ", phase " + std::to_string(barrier.phase) +
         ", arrivals missing: " + std::to_string(barrier.arrivals_left) + " of " +
         std::to_string(barrier.count) + " (" + std::to_string(barrier.deferred.size()) +
         " follow copies), bytes missing: " + std::to_string(barrier.bytes_left) +
         ", copies under way: " + std::to_string(barrier.loads.size());
}

Mbarrier* Mbarriers::find(Thread* thread, uint32_t address, const char* operation, Site site) {
  Block* block = thread->block;
  const uint32_t offset = block->checked_offset(thread, address, 8, operation, site);
  for (Mbarrier& barrier : barriers_) {
    if (barrier.offset != offset) continue;
    uint64_t mark;
    std::memcpy(&mark, block->arena() + offset, sizeof mark);
    if (mark != (kMark ^ offset)) {
      misuse(thread,
             std::string(operation) + ": something overwrote the mbarrier at " +
                 block->describe_offset(offset),
             site);
    }
    if (barrier.init_thread != thread->index &&
        !race_is_ordered_after(thread, barrier.init_thread, barrier.init)) {
      block->fail(thread, DefectKind::kRace,
                  std::string(operation) + ": nothing orders the mbarrier's init at " +
                      to_string(barrier.site) + " before this",
                  site);
    }
    return &barrier;
  }
  misuse(
      thread,
      std::string(operation) + ": no mbarrier was initialised at " + block->describe_offset(offset),
      site);
}

void Mbarriers::init(Thread* thread, uint32_t address, uint32_t count, Site site) {
  Block* block = thread->block;
  const uint32_t offset = block->checked_offset(thread, address, 8, "mbarrier.init", site);
  if (count == 0 || count > kMostCount) {
    misuse(thread, "mbarrier.init: a count of " + std::to_string(count), site);
  }
  if (const Mbarrier* old = at_offset(offset)) {
    misuse(
        thread,
        "mbarrier.init over the mbarrier of " + to_string(old->site) + " without an mbarrier.inval",
        site);
  }
  if (barriers_.size() == kMostBarriers) {
    misuse(thread, "more than " + std::to_string(kMostBarriers) + " mbarriers in a block", site);
  }
  race_shared_write(thread, offset, 8, site);
  const uint64_t mark = kMark ^ offset;
  std::memcpy(block->arena() + offset, &mark, sizeof mark);
  Mbarrier barrier;
  barrier.offset = offset;
  barrier.index = 0;
  const auto is_taken = [&](uint32_t index) {
    for (const Mbarrier& other : barriers_) {
      if (other.index == index) return true;
    }
    return false;
  };
  while (is_taken(barrier.index)) ++barrier.index;
  barrier.first_clock = next_clock_[barrier.index] + 1;
  barrier.count = count;
  barrier.arrivals_left = count;
  barrier.init_thread = thread->index;
  barrier.site = site;
  race_release(thread, &barrier.init);
  barriers_.push_back(std::move(barrier));
}

void Mbarriers::invalidate(Thread* thread, uint32_t address, Site site) {
  const Mbarrier* barrier = find(thread, address, "mbarrier.inval", site);
  if (!barrier->loads.empty() || !barrier->deferred.empty() || barrier->bytes_left != 0 ||
      barrier->arrivals_left != barrier->count) {
    misuse(thread, "mbarrier.inval in the middle of a phase: " + describe(*barrier, *thread->block),
           site);
  }
  next_clock_[barrier->index] = barrier->first_clock + barrier->phase;
  const size_t at = static_cast<size_t>(barrier - barriers_.data());
  barriers_.erase(barriers_.begin() + static_cast<std::ptrdiff_t>(at));
}

void Mbarriers::publish(Thread* thread) {
  for (Mbarrier& barrier : barriers_) {
    if (barrier.init_thread == thread->index) barrier.visible_to_copies = true;
  }
}

bool Mbarriers::can_complete(const Mbarrier& barrier) const {
  int64_t bytes = barrier.bytes_left;
  for (const BulkLoad& load : barrier.loads) bytes -= load.bytes;
  return bytes == 0 && barrier.arrivals_left == static_cast<int64_t>(barrier.deferred.size());
}

void Mbarriers::wake(Thread* thread, Mbarrier* barrier) {
  if (can_complete(*barrier)) thread->block->wake(WaitKind::kMbarrier, barrier->offset);
}

void Mbarriers::arrive(Thread* thread, uint32_t address, uint32_t expected_bytes, bool arrives,
                       const char* operation, Site site) {
  Mbarrier* barrier = find(thread, address, operation, site);
  // A phase that nothing keeps open is complete; only ones with copies under way are left to the
  // waiting threads.
  if (can_complete(*barrier) && barrier->loads.empty() && barrier->deferred.empty()) {
    complete(thread, barrier);
  }
  barrier->bytes_left += expected_bytes;
  if (barrier->bytes_left > kMostBytes) {
    misuse(thread,
           std::string(operation) +
               ": more bytes than an mbarrier counts: " + describe(*barrier, *thread->block),
           site);
  }
  if (arrives) {
    if (barrier->arrivals_left <= static_cast<int64_t>(barrier->deferred.size())) {
      misuse(thread,
             std::string(operation) +
                 ": more arrivals than the phase has: " + describe(*barrier, *thread->block),
             site);
    }
    race_release(thread, &barrier->arriving);
    --barrier->arrivals_left;
  }
  wake(thread, barrier);
}

void Mbarriers::arrive_after_copies(Thread* thread, uint32_t address, Site site) {
  constexpr const char* kName = "cp.async.mbarrier.arrive.noinc";
  Mbarrier* barrier = find(thread, address, kName, site);
  if (barrier->arrivals_left <= static_cast<int64_t>(barrier->deferred.size())) {
    misuse(thread,
           std::string(kName) +
               ": more arrivals than the phase has: " + describe(*barrier, *thread->block),
           site);
  }
  const uint32_t clock = race_now(thread);
  race_release(thread, &barrier->arriving);
  thread->promised = thread->dropped + thread->copies.size();
  barrier->deferred.push_back({thread, thread->promised, clock});
  wake(thread, barrier);
}

void Mbarriers::check_not_in_flight(Thread* thread, uint32_t offset, uint32_t bytes,
                                    const char* operation, Site site) const {
  for (const Mbarrier& barrier : barriers_) {
    for (const BulkLoad& load : barrier.loads) {
      if (offset >= load.offset + load.bytes || load.offset >= offset + bytes) continue;
      thread->block->fail(thread, DefectKind::kInFlight,
                          std::string(operation) + " of shared memory, " +
                              thread->block->describe_offset(offset) + ", where the bulk copy of " +
                              to_string(load.site) + " is in flight",
                          site);
    }
  }
}

void Mbarriers::issue(uint32_t address, const BulkLoad& load, const char* operation) {
  Thread* thread = load.thread;
  Block* block = thread->block;
  Mbarrier* barrier = find(thread, address, operation, load.site);
  if (!barrier->visible_to_copies) {
    misuse(thread,
           std::string(operation) + ": the mbarrier of " + to_string(barrier->site) +
               " was not made visible to copies: its thread calls fence_mbarrier_init",
           load.site);
  }
  check_not_in_flight(thread, load.offset, load.bytes, operation, load.site);
  race_async_write(thread, {false, barrier->index, barrier->first_clock + barrier->phase},
                   load.offset, load.bytes, load.site);
  std::memset(block->arena() + load.offset, 0xFF, load.bytes);
  ++block->counters.bulk_loads;
  block->counters.bulk_load_bytes += load.bytes;
  barrier->loads.push_back(load);
  wake(thread, barrier);
}

// Everything that the phase counts is there or may land now.
void Mbarriers::complete(Thread* thread, Mbarrier* barrier) {
  const AsyncActor actor = {false, barrier->index, barrier->first_clock + barrier->phase};
  for (const BulkLoad& load : barrier->loads) land(thread, load, actor);
  for (const DeferredArrival& arrival : barrier->deferred) {
    land_copies(arrival.thread, arrival.copies, arrival.clock);
  }
  barrier->loads.clear();
  barrier->deferred.clear();
  barrier->bytes_left = 0;
  barrier->arrivals_left = barrier->count;
  race_complete(&barrier->arriving, actor);
  race_join(&barrier->completed, barrier->arriving);
  barrier->arriving = SyncClock();
  ++barrier->phase;
}

void Mbarriers::wait(Thread* thread, uint32_t address, uint32_t parity, Site site) {
  constexpr const char* kName = "mbarrier wait";
  Block* block = thread->block;
  if (parity > 1) misuse(thread, "mbarrier wait: a parity of " + std::to_string(parity), site);
  ++block->counters.mbarrier_waits;
  for (;;) {
    block->check_time(thread);
    Mbarrier* barrier = find(thread, address, kName, site);
    if ((barrier->phase & 1u) == parity) {
      if (!can_complete(*barrier)) {
        block->wait_for(thread, WaitKind::kMbarrier, barrier->offset, kName, describe_wait, site);
        continue;
      }
      complete(thread, barrier);
      block->wake(WaitKind::kMbarrier, barrier->offset);
    }
    race_acquire(thread, barrier->completed);
    return;
  }
}

void Mbarriers::check_exit(Thread* thread) const {
  for (const Mbarrier& barrier : barriers_) {
    const bool in_flight = !barrier.loads.empty() || !barrier.deferred.empty();
    const bool complete = barrier.arrivals_left == 0 && barrier.bytes_left == 0;
    const bool untouched = barrier.arrivals_left == barrier.count && barrier.bytes_left == 0;
    if (!in_flight && (complete || untouched)) continue;
    thread->block->fail(thread, in_flight ? DefectKind::kInFlight : DefectKind::kProtocol,
                        std::string("the block ends ") +
                            (in_flight ? "with copies in flight" : "in the middle of a phase") +
                            " of an mbarrier: " + describe(barrier, *thread->block),
                        barrier.loads.empty() ? barrier.site : barrier.loads[0].site);
  }
}

// --- the doors -----------------------------------------------------------------------------------

void mbarrier_init(uint32_t address, uint32_t count, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->init(thread, address, count, {file, line});
}

void mbarrier_invalidate(uint32_t address, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->invalidate(thread, address, {file, line});
}

void mbarrier_publish() {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->publish(thread);
}

void mbarrier_arrive(uint32_t address, uint32_t expected_bytes, bool arrives, const char* operation,
                     const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->arrive(thread, address, expected_bytes, arrives, operation,
                                   {file, line});
}

void mbarrier_arrive_after_copies(uint32_t address, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->arrive_after_copies(thread, address, {file, line});
}

void mbarrier_wait(uint32_t address, uint32_t parity, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->mbarriers->wait(thread, address, parity, {file, line});
}

void fence_proxy_async() {
  Thread* thread = self();
  EngineScope scope(thread);
  ++thread->block->counters.proxy_fences;
  race_proxy_fence(thread);
  thread->block->mbarriers->publish(thread);
}

}  // namespace simt::detail
