#include "warp_group.h"

#include <cstring>

#include "race.h"
#include "wgmma_operands.h"

namespace simt::detail {
namespace {

constexpr uint32_t kUntouched = 0xFFFFFFFFu;  // NaN

[[noreturn]] void misuse(std::string&& text, Site site, DefectKind kind = DefectKind::kProtocol) {
  Thread* thread = self();
  thread->block->fail(thread, kind, std::move(text), site);
}

// Element i of the lane's registers in the warp's [16, columns].
size_t place_of(unsigned lane, unsigned i, uint32_t columns) {
  const unsigned row = lane / 4 + i / 2 % 2 * 8;
  return size_t{row} * columns + i / 4 * 8 + lane % 4 * 2 + i % 2;
}

struct Arguments {
  WgmmaShape shape;
  float* d;
  uint64_t a, b;
  bool adds;
  Site site;
};

bool overlap(const float* left, uint32_t left_count, const float* right, uint32_t right_count) {
  const auto address = [](const float* at) { return reinterpret_cast<uintptr_t>(at); };
  return address(left) < address(right + right_count) &&
         address(right) < address(left + left_count);
}

// The warp's accumulators that an instruction adds to; taken from the registers where they are not
// under way.
Accumulators& accumulators_of(Warp* warp, WarpProducts* products, const Rendezvous& slot,
                              const Arguments& first) {
  const uint32_t count = first.shape.columns / 2;
  for (Accumulators& open : products->accumulators) {
    if (open.registers[0] == first.d && open.shape.columns == first.shape.columns) return open;
    if (overlap(open.registers[0], open.shape.columns / 2, first.d, count)) {
      misuse("wgmma: accumulators overlap others under way, of " + to_string(open.site),
             first.site);
    }
  }
  if (!products->fenced) {
    misuse("wgmma without a wgmma.fence since these accumulators were other code's", first.site);
  }
  Accumulators fresh;
  fresh.shape = first.shape;
  fresh.site = first.site;
  fresh.values.resize(size_t{kWarpRows} * first.shape.columns);
  for (unsigned lane = 0; lane < 32; ++lane) {
    float* registers = static_cast<const Arguments*>(slot.arguments[lane])->d;
    fresh.registers[lane] = registers;
    for (uint32_t i = 0; i < count; ++i) {
      fresh.values[place_of(lane, i, first.shape.columns)] = registers[i];
    }
    std::memset(registers, 0xFF, count * sizeof(float));
  }
  products->accumulators.push_back(std::move(fresh));
  static_cast<void>(warp);
  return products->accumulators.back();
}

void combine_product(Warp* warp, const Rendezvous& slot) {
  Block* block = warp->block;
  WarpProducts& products = block->warp_groups->of(warp);
  const Arguments& first = *static_cast<const Arguments*>(slot.arguments[0]);
  block->warp_groups->agree(
      warp, {"wgmma", first.a ^ uint64_t{first.shape.columns} << 48 ^ uint64_t{first.adds} << 30,
             first.b, first.site});
  for (unsigned lane = 1; lane < 32; ++lane) {
    const auto& other = *static_cast<const Arguments*>(slot.arguments[lane]);
    if (other.a != first.a || other.b != first.b || other.adds != first.adds) {
      misuse("wgmma: lanes of one warp have different descriptors", first.site);
    }
  }
  Accumulators& sums = accumulators_of(warp, &products, slot, first);
  OperandUse use = {first.a, first.b, first.shape, products.committed, 0, first.site};
  const AsyncActor actor = {true, warp->index / 4, products.committed + 1};
  read_operands(warp, use.a, use.b, use.shape, &actor, use.site);
  use.digest = wgmma_operands().digest;
  if (!first.adds) std::memset(sums.values.data(), 0, sums.values.size() * sizeof(float));
  multiply_operands(block->options().tensor_cores, first.shape, sums.values.data());
  sums.group = products.committed;
  products.uses.push_back(use);
  ++block->counters.wgmma;
  block->counters.wgmma_products += uint64_t{kWarpRows} * 16 * first.shape.columns;
}

void combine_fence(Warp* warp, const Rendezvous& slot) {
  warp->block->warp_groups->agree(warp, {"wgmma.fence", 0, 0, slot.site});
  warp->block->warp_groups->of(warp).fenced = true;
}

void combine_commit(Warp* warp, const Rendezvous& slot) {
  warp->block->warp_groups->agree(warp, {"wgmma.commit_group", 0, 0, slot.site});
  ++warp->block->warp_groups->of(warp).committed;
  warp->block->wake(WaitKind::kWarpGroup, warp->index / 4);
}

// Groups below `end` have read their operands: those of all four warps, since the hardware multiplies
// for a group at once, and one thread may speak for it.
void check_operands(Warp* warp, uint32_t end) {
  std::vector<OperandUse>& uses = warp->block->warp_groups->of(warp).uses;
  for (size_t i = 0; i < uses.size();) {
    const OperandUse use = uses[i];
    if (use.group >= end) {
      ++i;
      continue;
    }
    read_operands(warp, use.a, use.b, use.shape, nullptr, use.site);
    if (wgmma_operands().digest != use.digest) {
      misuse("an operand in shared memory changed while the wgmma of " + to_string(use.site) +
                 " was reading it",
             use.site, DefectKind::kInFlight);
    }
    uses[i] = uses.back();
    uses.pop_back();
  }
}

// Hands out the sums of the warp's groups below `end`.
void retire(Warp* warp, uint32_t end) {
  WarpProducts& products = warp->block->warp_groups->of(warp);
  for (size_t i = 0; i < products.accumulators.size();) {
    Accumulators& sums = products.accumulators[i];
    if (sums.group >= end) {
      ++i;
      continue;
    }
    for (unsigned lane = 0; lane < 32; ++lane) {
      for (uint32_t j = 0; j < sums.shape.columns / 2; ++j) {
        uint32_t bits;
        std::memcpy(&bits, &sums.registers[lane][j], sizeof bits);
        if (bits != kUntouched) {
          misuse("accumulators were written while the wgmma of " + to_string(sums.site) +
                     " was under way",
                 sums.site, DefectKind::kInFlight);
        }
        sums.registers[lane][j] = sums.values[place_of(lane, j, sums.shape.columns)];
      }
    }
    if (i + 1 != products.accumulators.size()) sums = std::move(products.accumulators.back());
    products.accumulators.pop_back();
    products.fenced = false;
  }
  products.retired = end;
}

struct WaitArguments {
  uint32_t end;
};

void combine_wait(Warp* warp, const Rendezvous& slot) {
  const uint32_t end = static_cast<const WaitArguments*>(slot.arguments[0])->end;
  if (end <= warp->block->warp_groups->of(warp).retired) return;
  const uint32_t first = warp->index / 4 * 4;
  for (uint32_t i = 0; i < 4; ++i) check_operands(warp->block->warp(first + i), end);
  retire(warp, end);
}

// Thread, warp and site of an instruction of a warp group.
Thread* enter(const char* operation, Site site) {
  Thread* thread = self();
  const uint32_t first = thread->index / 128 * 128;
  if (first + 128 > thread->block->thread_count()) {
    misuse(std::string(operation) + " needs four warps from a multiple of four on", site,
           DefectKind::kDivergence);
  }
  return thread;
}

}  // namespace

void WarpGroups::clear() {
  if (!used_) return;
  used_ = false;
  for (WarpProducts& products : products_) products = WarpProducts();
  for (GroupOrder& order : orders_) order = GroupOrder();
}

WarpProducts& WarpGroups::of(const Warp* warp) {
  used_ = true;
  return products_[warp->index];
}

uint32_t WarpGroups::committed_by_all(const Warp* warp) const {
  const uint32_t first = warp->index / 4 * 4;
  uint32_t least = products_[first].committed;
  for (uint32_t i = 1; i < 4; ++i) {
    const uint32_t other = products_[first + i].committed;
    least = other < least ? other : least;
  }
  return least;
}

void WarpGroups::agree(Warp* warp, const GroupInstruction& instruction) {
  used_ = true;
  GroupOrder& order = orders_[warp->index / 4];
  const uint64_t number = order.taken[warp->index % 4]++;
  if (number == order.instructions.size()) {
    order.instructions.push_back(instruction);
  } else {
    const GroupInstruction& other = order.instructions[number];
    if (std::strcmp(other.operation, instruction.operation) != 0 ||
        other.first != instruction.first || other.second != instruction.second) {
      misuse(std::string("warps of one group disagree: ") + instruction.operation + " here, " +
                 other.operation + " at " + to_string(other.site) + " in another warp",
             instruction.site, DefectKind::kDivergence);
    }
  }
  // Drop what all have taken, now and then.
  uint64_t least = order.taken[0];
  for (const uint64_t taken : order.taken) least = taken < least ? taken : least;
  if (least >= 64) {
    order.instructions.erase(order.instructions.begin(),
                             order.instructions.begin() + static_cast<std::ptrdiff_t>(least));
    for (uint64_t& taken : order.taken) taken -= least;
  }
}

void WarpGroups::check_exit(Thread* thread) const {
  if (!used_) return;
  const WarpProducts& products = products_[thread->index / 32];
  if (!products.uses.empty() || !products.accumulators.empty()) {
    const Site site = products.uses.empty() ? products.accumulators[0].site : products.uses[0].site;
    thread->block->fail(thread, DefectKind::kInFlight,
                        "the thread exits while the wgmma of " + to_string(site) + " is under way",
                        site);
  }
}

void wgmma_fence(const char* file, int line) {
  const Site site = {file, line};
  Thread* thread = enter("wgmma.fence", site);
  EngineScope scope(thread);
  thread->block->collective(thread, "wgmma.fence", ~0u, combine_fence, nullptr, site, true);
}

void wgmma(WgmmaShape shape, float* d, uint64_t a, uint64_t b, bool adds, const char* file,
           int line) {
  const Site site = {file, line};
  Thread* thread = enter("wgmma", site);
  EngineScope scope(thread);
  Arguments arguments = {shape, d, a, b, adds, site};
  thread->block->collective(thread, "wgmma", ~0u, combine_product, &arguments, site, true);
}

void wgmma_commit(const char* file, int line) {
  const Site site = {file, line};
  Thread* thread = enter("wgmma.commit_group", site);
  EngineScope scope(thread);
  thread->block->collective(thread, "wgmma.commit_group", ~0u, combine_commit, nullptr, site, true);
}

void wgmma_wait(uint32_t pending, const char* file, int line) {
  constexpr const char* kName = "wgmma.wait_group";
  const Site site = {file, line};
  Thread* thread = enter(kName, site);
  EngineScope scope(thread);
  Block* block = thread->block;
  Warp* warp = thread->warp;
  const uint32_t committed = block->warp_groups->of(warp).committed;
  WaitArguments arguments = {committed > pending ? committed - pending : 0};
  while (block->warp_groups->committed_by_all(warp) < arguments.end) {
    block->wait_for(thread, WaitKind::kWarpGroup, warp->index / 4, kName, nullptr, site);
  }
  block->collective(thread, kName, ~0u, combine_wait, &arguments, site, true);
  race_observe(thread, {true, warp->index / 4, arguments.end});
}

}  // namespace simt::detail
