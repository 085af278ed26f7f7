// Runs a grid block by block, and a block thread by thread. A thread runs until it waits; then the
// ready set names the next one and we switch straight to it. The last thread to exit, or the first
// to fail, switches back to run_block. A failed block's other threads are left where they are:
// kernels own nothing that needs destruction.
#include "block.h"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

#include "mbarrier.h"
#include "race.h"
#include "roles.h"
#include "warp_group.h"

namespace simt::detail {

#if defined(__SANITIZE_THREAD__)
#error "the engine itself is never instrumented: only kernels are"
#endif

__thread const ThreadView* current_view = nullptr;

Thread* self_or_null() { return static_cast<Thread*>(const_cast<ThreadView*>(current_view)); }

Thread* self() {
  Thread* thread = self_or_null();
  if (thread == nullptr) throw std::logic_error("simt: device code called outside of a kernel");
  return thread;
}

bool Site::operator==(const Site& other) const {
  return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
}

std::string to_string(const Site& site) {
  return site.line == 0 ? std::string("?")
                        : std::string(site.file) + ":" + std::to_string(site.line);
}

void enter_kernel() { self()->in_kernel = true; }
void leave_kernel() { self()->in_kernel = false; }

// What each fiber runs.
void fiber_main() {
  Thread* thread = self();
  Block* block = thread->block;
  Fiber from;  // whoever came first came from the OS thread; later ones need no bounds
  entered(&thread->fiber, &from);
#if SIMT_ASAN
  if (block->main_.bottom == nullptr) {
    block->main_.bottom = from.bottom;
    block->main_.bottom_bytes = from.bottom_bytes;
  }
#endif
  std::string text;
  try {
    block->launch_->body();
  } catch (const std::exception& error) {
    text = std::string("exception: ") + error.what();
  } catch (...) {
    text = "exception of an unknown type";
  }
  thread->in_kernel = false;
  if (!text.empty()) block->fail(thread, DefectKind::kException, std::move(text), Site());
  block->exit_thread(thread);
}

Block::Block()
    : mbarriers(std::make_unique<Mbarriers>()),
      warp_groups(std::make_unique<WarpGroups>()),
      roles(std::make_unique<Roles>()) {
  arena_bytes_ = 2 * kMostShared;  // red zones need room
  void* memory = mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<unsigned char*>(memory);
}

Block::~Block() {
#if SIMT_ASAN
  __asan_unpoison_memory_region(arena_, arena_bytes_);
#endif
  munmap(arena_, arena_bytes_);
}

bool Block::run_grid(const KernelLaunch& launch, const Options& options, uint64_t seed) {
  launch_ = &launch;
  options_ = options;
  seed_ = seed;
  failed_ = false;
  counters = Counters();
  counters.launches = 1;
  thread_count_ = launch.block.x * launch.block.y * launch.block.z;
  warp_count_ = (thread_count_ + 31) / 32;
  if (thread_count_ == 0 || thread_count_ > kMaxThreads) throw std::logic_error("simt: block size");
  if (launch.shared_bytes > kMostShared) throw std::logic_error("simt: shared memory");
  if (!stacks_.reserve(std::max<size_t>(thread_count_, stacks_.count()), options.stack_bytes)) {
    throw std::bad_alloc();
  }
  if (threads_.size() < thread_count_) threads_ = std::vector<Thread>(thread_count_);
  if (warps_.size() < warp_count_) warps_ = std::vector<Warp>(warp_count_);
  for (uint32_t i = 0; i < thread_count_; ++i) {
    Fiber& fiber = threads_[i].fiber;
    if (fiber.stack == stacks_.stack(i) && fiber.stack_bytes == stacks_.stack_bytes()) continue;
    fiber.stack = stacks_.stack(i);
    fiber.stack_bytes = stacks_.stack_bytes();
    fiber.abandoned = true;
  }
#if SIMT_ASAN
  main_.bottom = nullptr;
#endif
  const uint64_t blocks = static_cast<uint64_t>(launch.grid.x) * launch.grid.y * launch.grid.z;
  race_begin_launch();
  watch(this, options.timeout_seconds);
  if (options.schedule == Schedule::kForward) {
    for (uint64_t i = 0; i < blocks && !failed_; ++i) {
      prepare_block(i);
      run_block();
    }
  } else {
    for (const uint64_t number : block_order(options.schedule, blocks, seed)) {
      prepare_block(number);
      if (!run_block()) break;
    }
  }
  unwatch(this);
  launch_ = &launch;
  return !failed_;
}

void Block::prepare_block(uint64_t number) {
  block_number_ = number;
  alive_ = thread_count_;
  barrier_arrived_ = 0;
  barrier_predicates_ = 0;
  const dim3 grid = launch_->grid;
  const dim3 block = launch_->block;
  const uint3 block_index = {static_cast<unsigned>(number % grid.x),
                             static_cast<unsigned>(number / grid.x % grid.y),
                             static_cast<unsigned>(number / grid.x / grid.y)};
  ready_.reset(options_.schedule, warp_count_, seed_ * 0x9e3779b97f4a7c15u + number);
  for (uint32_t w = 0; w < warp_count_; ++w) {
    Warp& warp = warps_[w];
    warp.block = this;
    warp.index = w;
    warp.threads = &threads_[w * 32];
    const uint32_t lanes = std::min<uint32_t>(32, thread_count_ - w * 32);
    warp.existing = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warp.exited = 0;
    warp.open = 0;
    warp.accesses.clear();
    std::memset(warp.cursor, 0, sizeof warp.cursor);
    ready_.add(w, warp.existing);
  }
  uint32_t index = 0;
  for (unsigned z = 0; z < block.z; ++z) {
    for (unsigned y = 0; y < block.y; ++y) {
      for (unsigned x = 0; x < block.x; ++x, ++index) {
        Thread& thread = threads_[index];
        thread.thread_index = {x, y, z};
        thread.block_index = block_index;
        thread.block_dim = block;
        thread.grid_dim = grid;
        thread.block = this;
        thread.index = index;
        thread.lane = index % 32;
        thread.warp = &warps_[index / 32];
        thread.state = ThreadState::kReady;
        thread.in_kernel = false;
        thread.committed_groups = 0;
        thread.has_waited = false;
        thread.copies.clear();
        thread.landed = 0;
        thread.dropped = thread.promised = 0;
        thread.stores.clear();
        thread.committed_stores = 0;
        prepare(&thread.fiber, fiber_main, index);
      }
    }
  }
  prepare_shared();
  mbarriers->clear();
  warp_groups->clear();
  roles->clear(thread_count_);
}

bool Block::run_block() {
  ++counters.blocks;
  expired.store(false, std::memory_order_relaxed);
  run_number.fetch_add(1, std::memory_order_relaxed);
  started_ns.store(own_processor_time_ns(), std::memory_order_release);
  race_begin_block(this);
  Thread* first = &threads_[static_cast<uint32_t>(ready_.take())];
  const ThreadView* outer = current_view;
  current_view = first;
  switch_fiber(&main_, &first->fiber, false);
  current_view = outer;
  started_ns.store(0, std::memory_order_release);
  if (!failed_) {
    for (uint32_t w = 0; w < warp_count_; ++w) close_accesses(&warps_[w]);
    std::string where;
    if (!red_zones_intact(&where)) {
      defect = Defect();
      defect.kind = DefectKind::kOutOfBounds;
      defect.text = std::move(where);
      defect.kernel = launch_->name;
      defect.block = threads_[0].block_index;
      failed_ = true;
    }
  }
  return !failed_;
}

// Goes on with the next ready thread.
void Block::resume(Thread* from, bool dying) {
  const int next = ready_.take();
  if (next < 0) {
    fail(from, DefectKind::kDeadlock,
         "deadlock: no thread of the block can go on\n" + waiting_threads(), from->site);
  }
  Thread* to = &threads_[static_cast<uint32_t>(next)];
  if (to == from) return;
  current_view = to;
  switch_fiber(&from->fiber, &to->fiber, dying);
}

void Block::park(Thread* thread) {
  check_time(thread);
  resume(thread, false);
}

void Block::exit_thread(Thread* thread) {
  check_waited(thread);
  const uint32_t bit = 1u << thread->lane;
  if (thread->landed < thread->copies.size() &&
      thread->promised < thread->dropped + thread->copies.size()) {
    const Copy& copy = thread->copies[thread->landed];
    fail(thread, DefectKind::kInFlight,
         "the thread exits with " + std::to_string(thread->copies.size() - thread->landed) +
             " asynchronous copies in flight; the first was issued at " + to_string(copy.site),
         copy.site);
  }
  if (!thread->stores.empty()) {
    const Site site = thread->stores.front().site;
    fail(thread, DefectKind::kInFlight,
         "the thread exits with bulk copies out of shared memory in flight; the first was issued "
         "at " +
             to_string(site),
         site);
  }
  warp_groups->check_exit(thread);
  if (alive_ == 1) mbarriers->check_exit(thread);
  Warp* warp = thread->warp;
  for (uint32_t open = warp->open; open != 0; open &= open - 1) {
    Rendezvous& slot = warp->rendezvous[__builtin_ctz(open)];
    if ((slot.mask & bit) == 0) continue;
    if (options_.strict_barriers || slot.needs_all) {
      thread->site = slot.site;
      fail(thread, DefectKind::kDivergence,
           std::string("the thread exits while its warp waits for it at ") + slot.operation + "\n" +
               waiting_threads(),
           slot.site);
    }
    slot.mask &= ~bit;
    if (slot.arrived != slot.mask) continue;
    ready_.add(warp->index, complete(warp, static_cast<unsigned>(__builtin_ctz(open))));
  }
  thread->state = ThreadState::kExited;
  thread->site = Site();
  warp->exited |= bit;
  --alive_;
  if (barrier_arrived_ > 0) {
    if (options_.strict_barriers) {
      fail(thread, DefectKind::kDivergence,
           "the thread exits while others of its block wait at a barrier\n" + waiting_threads(),
           barrier_site_);
    }
    if (barrier_arrived_ == alive_) release_barrier();
  }
  if (alive_ == 0) {
    current_view = nullptr;
    switch_fiber(&thread->fiber, &main_, true);
  } else {
    resume(thread, true);
  }
  __builtin_unreachable();
}

void Block::wait_for(Thread* thread, WaitKind kind, uint32_t number, const char* operation,
                     std::string (*detail)(const Thread& thread), Site site) {
  thread->state = ThreadState::kWaiting;
  thread->operation = operation;
  thread->site = site;
  thread->wait_kind = kind;
  thread->wait_number = number;
  thread->wait_detail = detail;
  park(thread);
}

void Block::wake(WaitKind kind, uint32_t number) {
  for (uint32_t i = 0; i < thread_count_; ++i) {
    Thread& thread = threads_[i];
    if (thread.state != ThreadState::kWaiting || thread.wait_kind != kind ||
        thread.wait_number != number) {
      continue;
    }
    thread.state = ThreadState::kReady;
    ready_.add(i / 32, 1u << thread.lane);
  }
}

int Block::barrier(Thread* thread, BarrierKind kind, int predicate, Site site) {
  if (barrier_arrived_ == 0) {
    barrier_kind_ = kind;
    barrier_site_ = site;
    barrier_predicates_ = 0;
  } else if (options_.strict_barriers && (barrier_site_ != site || barrier_kind_ != kind)) {
    fail(thread, DefectKind::kDivergence,
         "threads of one block wait at different barriers: this one at " + to_string(site) +
             ", others at " + to_string(barrier_site_) + "\n" + waiting_threads(),
         site);
  }
  thread->state = ThreadState::kBarrier;
  thread->operation = "__syncthreads";
  thread->site = site;
  thread->mask = 0;
  if (options_.strict_barriers && alive_ != thread_count_) {
    fail(thread, DefectKind::kDivergence,
         "a barrier that exited threads cannot reach\n" + waiting_threads(), site);
  }
  barrier_predicates_ += predicate != 0 ? 1 : 0;
  if (++barrier_arrived_ == alive_) {
    release_barrier();
  }
  park(thread);
  return barrier_result_;
}

void Block::release_barrier() {
  switch (barrier_kind_) {
    case BarrierKind::kPlain:
      barrier_result_ = 0;
      break;
    case BarrierKind::kOr:
      barrier_result_ = barrier_predicates_ > 0 ? 1 : 0;
      break;
    case BarrierKind::kAnd:
      barrier_result_ = barrier_predicates_ == barrier_arrived_ ? 1 : 0;
      break;
    case BarrierKind::kCount:
      barrier_result_ = static_cast<int>(barrier_predicates_);
      break;
  }
  barrier_arrived_ = 0;
  ++counters.block_barriers;
  race_block_barrier(this);
  for (uint32_t w = 0; w < warp_count_; ++w) {
    Warp& warp = warps_[w];
    close_accesses(&warp);
    uint32_t lanes = 0;
    for (uint32_t left = warp.existing & ~warp.exited; left != 0; left &= left - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
      if (warp.threads[lane].state != ThreadState::kBarrier) continue;
      warp.threads[lane].state = ThreadState::kReady;
      lanes |= 1u << lane;
    }
    if (lanes != 0) ready_.add(w, lanes);
  }
}

// Computes the answers and lets the lanes go; returns which.
uint32_t Block::complete(Warp* warp, unsigned index) {
  Rendezvous& slot = warp->rendezvous[index];
  ++counters.warp_collectives;
  slot.combine(warp, slot);
  warp->open &= ~(1u << index);
  if (slot.mask == (warp->existing & ~warp->exited)) close_accesses(warp);
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    warp->threads[__builtin_ctz(left)].state = ThreadState::kReady;
  }
  return slot.mask;
}

void Block::collective(Thread* thread, const char* operation, uint32_t mask, Combine combine,
                       void* arguments, Site site, bool needs_all) {
  Warp* warp = thread->warp;
  const uint32_t bit = 1u << thread->lane;
  mask &= warp->existing;  // lanes that the block never had are nobody's mistake
  if ((mask & bit) == 0) {
    fail(thread, DefectKind::kDivergence,
         std::string(operation) + " by a lane that its own mask leaves out", site);
  }
  if ((mask & warp->exited) != 0) {
    if (options_.strict_barriers || needs_all) {
      fail(thread, DefectKind::kDivergence,
           std::string(operation) + " with exited threads in its mask\n" + exited_threads(), site);
    }
    mask &= ~warp->exited;
  }
  unsigned index = 0;
  bool found = false;
  for (uint32_t open = warp->open; open != 0; open &= open - 1) {
    index = static_cast<unsigned>(__builtin_ctz(open));
    if (warp->rendezvous[index].mask == mask) {
      found = true;
      break;
    }
  }
  if (!found) index = static_cast<unsigned>(__builtin_ctz(~warp->open));
  Rendezvous& slot = warp->rendezvous[index];
  if (found) {
    if (slot.site != site ||
        (slot.operation != operation && std::strcmp(slot.operation, operation) != 0)) {
      thread->site = site;
      fail(thread, DefectKind::kDivergence,
           std::string("lanes of one warp disagree: this one at ") + operation + ", " +
               to_string(site) + ", others at " + slot.operation + ", " + to_string(slot.site) +
               "\n" + waiting_threads(),
           site);
    }
  } else {
    warp->open |= 1u << index;
    slot.mask = mask;
    slot.arrived = 0;
    slot.operation = operation;
    slot.combine = combine;
    slot.needs_all = needs_all;
    slot.site = site;
  }
  slot.arguments[thread->lane] = arguments;
  slot.arrived |= bit;
  if (slot.arrived == mask) {
    const uint32_t lanes = complete(warp, index);
    if (ready_.runs_on()) {
      if (lanes != bit) ready_.add(warp->index, lanes & ~bit);
      check_time(thread);
    } else {
      ready_.add(warp->index, lanes);
      park(thread);
    }
    return;
  }
  thread->state = ThreadState::kCollective;
  thread->operation = operation;
  thread->site = site;
  thread->mask = mask;
  park(thread);
}

void Block::fail(Thread* thread, DefectKind kind, std::string&& text, Site site) {
  defect = Defect();
  defect.kind = kind;
  defect.text = std::move(text);
  defect.kernel = launch_->name;
  defect.file = site.file;
  defect.line = site.line;
  defect.block = thread->block_index;
  defect.thread = thread->thread_index;
  failed_ = true;
  for (uint32_t i = 0; i < thread_count_; ++i) threads_[i].fiber.abandoned = true;
  current_view = nullptr;
  switch_fiber(&thread->fiber, &main_, true);
  __builtin_unreachable();
}

void Block::fail_livelock(Thread* thread) {
  fail(thread, DefectKind::kLivelock,
       "livelock: the block has taken more than " + std::to_string(options_.timeout_seconds) +
           " s of processor time (SIMT_TIMEOUT)\n" + waiting_threads(),
       thread->site);
}

namespace {

// "0-31, 40" of a list of rising numbers.
void append_range(std::string* text, uint32_t first, uint32_t last) {
  if (!text->empty()) *text += ", ";
  *text += std::to_string(first);
  if (last != first) *text += "-" + std::to_string(last);
}

std::string ranges(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    append_range(&text, numbers[i], numbers[j]);
    i = j + 1;
  }
  return text;
}

}  // namespace

std::string Block::waiting_threads() const {
  std::map<std::string, std::vector<uint32_t>> groups;
  for (uint32_t i = 0; i < thread_count_; ++i) {
    const Thread& thread = threads_[i];
    std::string what;
    switch (thread.state) {
      case ThreadState::kReady:
        what = "ready or running";
        break;
      case ThreadState::kExited:
        what = "exited";
        break;
      case ThreadState::kBarrier:
        what = std::string("at ") + thread.operation + ", " + to_string(thread.site);
        break;
      case ThreadState::kWaiting:
        what = std::string("at ") + thread.operation + ", " + to_string(thread.site);
        if (thread.wait_detail != nullptr) what += thread.wait_detail(thread);
        break;
      case ThreadState::kCollective: {
        char mask[16];
        std::snprintf(mask, sizeof mask, "0x%08x", thread.mask);
        what = std::string("at ") + thread.operation + " with mask " + mask + ", " +
               to_string(thread.site);
        break;
      }
    }
    groups[what].push_back(i);
  }
  std::string text;
  for (const auto& [what, numbers] : groups) {
    text += (text.empty() ? "  threads " : "\n  threads ") + ranges(numbers) + ": " + what;
  }
  return text;
}

std::string Block::exited_threads() const {
  std::vector<uint32_t> numbers;
  for (uint32_t i = 0; i < thread_count_; ++i) {
    if (threads_[i].state == ThreadState::kExited) numbers.push_back(i);
  }
  return "  exited: threads " + ranges(numbers);
}

}  // namespace simt::detail
