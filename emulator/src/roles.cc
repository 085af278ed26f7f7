#include "roles.h"

#include <cstring>

#include "simt/ptx90.h"
#include "warp_group.h"

namespace simt::detail {
namespace {

constexpr uint32_t kRegisterFile = 65536;  // of a multiprocessor; one block may have all
constexpr uint32_t kRegisterUnit = 8;
constexpr uint32_t kLeastRegisters = 24;
constexpr uint32_t kMostRegisters = 256;

[[noreturn]] void misuse(Thread* thread, std::string&& text, Site site,
                         DefectKind kind = DefectKind::kProtocol) {
  thread->block->fail(thread, kind, std::move(text), site);
}

std::string describe_registers(const Thread& thread) {
  return ": has " + std::to_string(thread.block->roles->registers_of(thread.warp)) +
         " a thread and wants " + std::to_string(thread.wait_number) +
         "; given away: " + std::to_string(thread.block->roles->free_registers());
}

}  // namespace

void Roles::clear(uint32_t threads) {
  if (used_) {
    for (NamedBarrier& barrier : barriers_) barrier = NamedBarrier();
  }
  used_ = false;
  // As many as a thread can have when the block takes the whole file: what __launch_bounds__ with one
  // block per multiprocessor lets the compiler use.
  uint32_t each = kRegisterFile / ((threads + 31) / 32 * 32) / kRegisterUnit * kRegisterUnit;
  if (each > kMostRegisters) each = kMostRegisters;
  for (uint32_t& registers : registers_) registers = each;
  free_ = 0;
}

void Roles::arrive(Thread* thread, uint32_t id, uint32_t threads, bool waits, Site site) {
  Block* block = thread->block;
  const char* name = waits ? "bar.sync" : "bar.arrive";
  const std::string what = std::string(name) + " of barrier " + std::to_string(id);
  used_ = true;
  if (id == 0 || id > 15) {
    misuse(thread, what + ": ids for use here are 1 to 15, 0 is that of __syncthreads", site);
  }
  if (threads == 0 || threads % 32 != 0 || threads > (block->thread_count() + 31) / 32 * 32) {
    misuse(thread, what + ": " + std::to_string(threads) + " threads", site);
  }
  NamedBarrier& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.has_sync_site = false;
  } else if (barrier.expected != threads) {
    misuse(thread,
           what + ": for " + std::to_string(threads) + " threads here, for " +
               std::to_string(barrier.expected) + " where others wait",
           site, DefectKind::kDivergence);
  }
  if (waits && block->options().strict_barriers && barrier.has_sync_site &&
      barrier.sync_site != site) {
    misuse(thread,
           what + ": others wait at another place, " + to_string(barrier.sync_site) +
               ": two roles share an id",
           site, DefectKind::kDivergence);
  }
  if (waits) {
    barrier.has_sync_site = true;
    barrier.sync_site = site;
  }
  race_release(thread, &barrier.clock);
  const uint32_t round = barrier.round;
  if (++barrier.arrived == barrier.expected) {
    ++barrier.round;
    barrier.arrived = 0;
    ++block->counters.named_barriers;
    block->wake(WaitKind::kNamedBarrier, id);
  }
  if (!waits) return;
  while (barrier.round == round) {
    block->wait_for(thread, WaitKind::kNamedBarrier, id, name, nullptr, site);
  }
  race_acquire(thread, barrier.clock);
}

void Roles::lower_registers(Warp* warp, uint32_t registers, Site site) {
  uint32_t& own = registers_[warp->index];
  if (registers > own) {
    misuse(self(),
           "setmaxnreg.dec to " + std::to_string(registers) + " from " + std::to_string(own), site);
  }
  free_ += (own - registers) * 32;
  own = registers;
  for (uint32_t wanted = kLeastRegisters; wanted <= kMostRegisters; wanted += kRegisterUnit) {
    warp->block->wake(WaitKind::kRegisters, wanted);
  }
}

void Roles::raise_registers(Thread* thread, uint32_t registers, Site site) {
  const uint32_t warp = thread->warp->index;
  if (registers < registers_[warp]) {
    misuse(thread,
           "setmaxnreg.inc to " + std::to_string(registers) + " from " +
               std::to_string(registers_[warp]),
           site);
  }
  // The first lane takes them for the warp.
  while (registers_[warp] < registers && (registers - registers_[warp]) * 32 > free_) {
    thread->block->wait_for(thread, WaitKind::kRegisters, registers, "setmaxnreg.inc",
                            describe_registers, site);
  }
  free_ -= (registers - registers_[warp]) * 32;
  registers_[warp] = registers;
}

// --- the doors -----------------------------------------------------------------------------------

namespace {

struct RegisterArguments {
  uint32_t registers;
  bool raises;
};

void combine_registers(Warp* warp, const Rendezvous& slot) {
  const auto& first = *static_cast<const RegisterArguments*>(slot.arguments[0]);
  warp->block->warp_groups->agree(
      warp, {first.raises ? "setmaxnreg.inc" : "setmaxnreg.dec", first.registers, 0, slot.site});
  if (!first.raises) warp->block->roles->lower_registers(warp, first.registers, slot.site);
}

struct ElectArguments {
  bool elected;
};

// Any lane is right, as long as it stays the same: not always the first, which kernels must not
// count on.
void combine_elect(Warp* warp, const Rendezvous& slot) {
  const Options& options = warp->block->options();
  uint32_t number = 0;
  const uint32_t lanes = static_cast<uint32_t>(__builtin_popcount(slot.mask));
  if (options.schedule == Schedule::kReverse) number = lanes - 1;
  if (options.schedule == Schedule::kRandom || options.schedule == Schedule::kSkewed) {
    number = static_cast<uint32_t>(options.seed * 7 % lanes);
  }
  for (uint32_t left = slot.mask; left != 0; left &= left - 1, --number) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
    static_cast<ElectArguments*>(slot.arguments[lane])->elected = number == 0;
  }
}

}  // namespace

void named_barrier(uint32_t id, uint32_t threads, bool waits, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->roles->arrive(thread, id, threads, waits, {file, line});
}

void set_max_registers(uint32_t registers, bool raises, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  const Site site = {file, line};
  const char* name = raises ? "setmaxnreg.inc" : "setmaxnreg.dec";
  if (registers % kRegisterUnit != 0 || registers < kLeastRegisters || registers > kMostRegisters) {
    misuse(thread, std::string(name) + ": " + std::to_string(registers) + " registers", site);
  }
  if (thread->index / 128 * 128 + 128 > thread->block->thread_count()) {
    misuse(thread, std::string(name) + " needs four warps from a multiple of four on", site,
           DefectKind::kDivergence);
  }
  RegisterArguments arguments = {registers, raises};
  thread->block->collective(thread, name, ~0u, combine_registers, &arguments, site, true);
  if (raises) thread->block->roles->raise_registers(thread, registers, site);
}

bool elect(unsigned mask, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  ElectArguments arguments = {false};
  thread->block->collective(thread, "elect.sync", mask, combine_elect, &arguments, {file, line});
  return arguments.elected;
}

}  // namespace simt::detail
