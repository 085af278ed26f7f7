// A block of threads and how it runs: every thread is a fiber, one OS thread runs them in turn
// until all have returned. The parts of the engine meet here:
//   block.cc          running, barriers, exits, deadlocks
//   collectives.cc    what warps do together; tensor.cc: ldmatrix and mma
//   shared_memory.cc  the arena; copies.cc: cp.async
//   mbarrier.cc       mbarriers; bulk.cc: the copies that they count
//   warp_group.cc     wgmma
//   roles.cc          named barriers, setmaxnreg
//   accesses.cc       sectors and bank conflicts per warp access
//   race.cc           the race detector (in its flavour only)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "schedule.h"
#include "simt/counters.h"
#include "simt/engine.h"
#include "simt/thread.h"

namespace simt::detail {

class Block;
class Mbarriers;
class Roles;
class WarpGroups;
struct Thread;
struct Warp;

// The part of a 32-bit shared address that is not offset, so that 0 is no valid address.
constexpr uint32_t kSharedBase = 1024;
constexpr unsigned kMaxThreads = 1024;
constexpr size_t kMostShared = 256 * 1024;  // more than any device has

struct Site {
  const char* file = "";
  int line = 0;
  bool operator==(const Site& other) const;
  bool operator!=(const Site& other) const { return !(*this == other); }
};
std::string to_string(const Site& site);

// An asynchronous copy under way.
struct Copy {
  uint32_t offset;
  uint32_t group;
  const void* source;
  uint32_t bytes;
  uint32_t size;
  Site site;
};

// A bulk copy out of shared memory under way: it reads its bytes in the wait that covers its group.
struct BulkStore {
  uint32_t offset;
  uint32_t group;
  void* target;
  std::vector<unsigned char> bytes;  // as they were at the issue
  Site site;
};

enum class ThreadState : uint8_t { kReady, kCollective, kBarrier, kWaiting, kExited };

// What a thread in kWaiting waits for, together with a number.
enum class WaitKind : uint8_t { kMbarrier, kNamedBarrier, kWarpGroup, kRegisters };

struct Thread : ThreadView {
  Fiber fiber;
  Block* block = nullptr;
  uint32_t index = 0;  // in the block
  uint32_t lane = 0;
  Warp* warp = nullptr;
  ThreadState state = ThreadState::kReady;
  bool in_kernel = false;      // running the kernel's own code, not ours
  const char* operation = "";  // what it waits for, and where
  Site site;
  uint32_t mask = 0;
  uint32_t committed_groups = 0;
  std::vector<Copy> copies;  // in order of issue
  size_t landed = 0;         // of them
  bool has_waited = false;   // for the launches before
  uint64_t dropped = 0;      // landed and no longer in the list
  uint64_t promised = 0;     // of all so far, those that an mbarrier waits for
  std::vector<BulkStore> stores;
  uint32_t committed_stores = 0;
  WaitKind wait_kind = WaitKind::kMbarrier;
  uint32_t wait_number = 0;
  std::string (*wait_detail)(const Thread& thread) = nullptr;
};

struct Rendezvous;

// Runs once per collective, for all lanes of the mask.
using Combine = void (*)(Warp* warp, const Rendezvous& rendezvous);

// One collective that not all lanes of its mask have reached yet.
struct Rendezvous {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  const char* operation = nullptr;
  Combine combine = nullptr;
  bool needs_all = false;  // nothing to compute without all 32 lanes
  Site site;
  void* arguments[32];  // of each lane, on its own stack
};

enum class AccessKind : uint8_t {
  kGlobalLoad,
  kGlobalStore,
  kSharedLoad,
  kSharedStore,
  kCopyAsync,
};

// One access of a warp, as its lanes arrive: the same operation in the source, each lane once.
struct WarpAccess {
  AccessKind kind;
  const void* key;
  int line;
  uint32_t lanes;
  uint64_t address[32];
  uint32_t shared[32];  // of copies: where they write
  uint8_t bytes[32];
  uint8_t shared_bytes;
};

struct Warp {
  Block* block = nullptr;
  unsigned index = 0;
  Thread* threads = nullptr;  // its lane 0
  uint32_t existing = 0;
  uint32_t exited = 0;
  uint32_t open = 0;  // rendezvous in use
  Rendezvous rendezvous[32];
  std::vector<WarpAccess> accesses;
  size_t cursor[32] = {};  // where each lane looks next
};

struct StaticRange {
  const StaticShared* site;
  uint32_t offset;
  uint32_t bytes;
};

class Block {
 public:
  Block();
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // Runs the grid; false after a defect, which `defect` then holds.
  bool run_grid(const KernelLaunch& launch, const Options& options, uint64_t seed);

  // --- called by threads of the kernel ---
  int barrier(Thread* thread, BarrierKind kind, int predicate, Site site);
  void collective(Thread* thread, const char* operation, uint32_t mask, Combine combine,
                  void* arguments, Site site, bool needs_all = false);
  // Parks until wake() with the same kind and number. Whoever returns looks again.
  void wait_for(Thread* thread, WaitKind kind, uint32_t number, const char* operation,
                std::string (*detail)(const Thread& thread), Site site);
  void wake(WaitKind kind, uint32_t number);
  void* static_shared(Thread* thread, const StaticShared* site);
  [[noreturn]] void exit_thread(Thread* thread);
  // Stops the kernel. The text is moved out: nothing on this stack is destroyed any more.
  [[noreturn]] void fail(Thread* thread, DefectKind kind, std::string&& text, Site site);

  // --- shared memory ---
  // Checks an address of the shared window and gives its offset in the arena.
  uint32_t checked_offset(Thread* thread, uint32_t address, uint32_t bytes, const char* operation,
                          Site site);
  unsigned char* arena() const { return arena_; }
  size_t arena_bytes() const { return arena_bytes_; }
  bool is_shared(const void* pointer) const {
    return static_cast<const unsigned char*>(pointer) - arena_ >= 0 &&
           static_cast<const unsigned char*>(pointer) < arena_ + arena_bytes_;
  }
  // Whether all bytes belong to the dynamic part or to one array.
  bool is_allocated(uint64_t offset, uint64_t bytes) const;
  // "byte 12 of the dynamic part", "byte 4 of the array of file:line".
  std::string describe_offset(uint64_t offset) const;
  uint64_t shared_bytes() const { return launch_->shared_bytes + static_bytes_; }

  // --- warp accesses ---
  void record_access(Thread* thread, AccessKind kind, const void* key, int line, uint64_t address,
                     uint32_t bytes, uint32_t shared, uint32_t shared_bytes);
  void close_accesses(Warp* warp);

  // Stops the thread if its block has run out of time.
  void check_time(Thread* thread) {
    if (expired.load(std::memory_order_relaxed)) fail_livelock(thread);
  }
  [[noreturn]] void fail_livelock(Thread* thread);

  const KernelLaunch& launch() const { return *launch_; }
  const Options& options() const { return options_; }
  Thread* thread(uint32_t index) { return &threads_[index]; }
  uint32_t thread_count() const { return thread_count_; }
  uint32_t warp_count() const { return warp_count_; }
  Warp* warp(uint32_t index) { return &warps_[index]; }
  uint64_t block_number() const { return block_number_; }

  const std::unique_ptr<Mbarriers> mbarriers;
  const std::unique_ptr<WarpGroups> warp_groups;
  const std::unique_ptr<Roles> roles;
  Counters counters;
  Defect defect;

  // For the watchdog: which block runs since when (processor time; 0: none), and its verdict.
  std::atomic<uint64_t> run_number{0};
  std::atomic<int64_t> started_ns{0};
  std::atomic<bool> expired{false};

 private:
  friend void fiber_main();

  void prepare_block(uint64_t number);
  bool run_block();
  void prepare_shared();
  bool red_zones_intact(std::string* where) const;
  void park(Thread* thread);
  void resume(Thread* from, bool dying);
  void release_barrier();
  uint32_t complete(Warp* warp, unsigned index);
  std::string waiting_threads() const;
  std::string exited_threads() const;
  void finish_access(const WarpAccess& access);

  const KernelLaunch* launch_ = nullptr;
  Options options_;
  uint64_t seed_ = 0;
  uint64_t block_number_ = 0;
  uint32_t thread_count_ = 0;
  uint32_t warp_count_ = 0;
  uint32_t alive_ = 0;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  StackPool stacks_;
  Fiber main_;
  ReadySet ready_;
  bool failed_ = false;

  // The barrier that threads are waiting at.
  uint32_t barrier_arrived_ = 0;
  BarrierKind barrier_kind_ = BarrierKind::kPlain;
  Site barrier_site_;
  uint32_t barrier_predicates_ = 0;
  int barrier_result_ = 0;

  // The arena: dynamic part first, arrays behind it, red zones between.
  unsigned char* arena_ = nullptr;
  size_t arena_bytes_ = 0;
  size_t arena_used_ = 0;  // red zones included
  std::vector<StaticRange> statics_;
  uint64_t static_bytes_ = 0;
};

// The thread of a kernel that runs now. Outside of kernels: throws std::logic_error.
Thread* self();
Thread* self_or_null();

// Says that our code runs, not the kernel's, while it lives.
class EngineScope {
 public:
  explicit EngineScope(Thread* thread) : thread_(thread) { thread_->in_kernel = false; }
  ~EngineScope() { thread_->in_kernel = true; }
  EngineScope(const EngineScope&) = delete;
  EngineScope& operator=(const EngineScope&) = delete;

 private:
  Thread* thread_;
};

// Implemented by dependencies.cc: fails where an early launch's thread ends without a wait.
void check_waited(Thread* thread);

// Implemented by defects.cc, counters.cc and watchdog.cc.
void keep_defect(const Defect& defect);
void keep_counters(const Block& block);
int64_t own_processor_time_ns();
void watch(Block* block, double timeout_seconds);
void unwatch(Block* block);

}  // namespace simt::detail
