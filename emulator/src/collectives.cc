// Warp collectives. A lane leaves its arguments on its own stack and waits; the last one to arrive
// computes the answers of all.
#include <cstring>

#include "block.h"
#include "race.h"
#include "simt/warp.h"

namespace simt::detail {
namespace {

struct ShuffleArguments {
  ShuffleKind kind;
  uint64_t value;
  unsigned lane;
  int width;
  uint64_t result;
};

void combine_shuffle(Warp*, const Rendezvous& slot) {
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
    auto* arguments = static_cast<ShuffleArguments*>(slot.arguments[lane]);
    const unsigned width = static_cast<unsigned>(arguments->width);
    const unsigned segment = lane & ~(width - 1);
    const unsigned amount = arguments->lane;
    unsigned source = lane;  // out of range: the own value
    switch (arguments->kind) {
      case ShuffleKind::kIndex:
        source = segment + (amount & (width - 1));
        break;
      case ShuffleKind::kUp:
        if (lane - segment >= amount) source = lane - amount;
        break;
      case ShuffleKind::kDown:
        if (lane - segment + amount < width) source = lane + amount;
        break;
      case ShuffleKind::kXor:
        if ((lane ^ amount) < segment + width) source = lane ^ amount;
        break;
    }
    arguments->result = source < 32 && (slot.mask >> source & 1u) != 0
                            ? static_cast<const ShuffleArguments*>(slot.arguments[source])->value
                            : ~uint64_t{0};
  }
}

struct VoteArguments {
  VoteKind kind;
  bool predicate;
  unsigned result;
};

void combine_vote(Warp*, const Rendezvous& slot) {
  uint32_t votes = 0;
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
    if (static_cast<const VoteArguments*>(slot.arguments[lane])->predicate) votes |= 1u << lane;
  }
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    auto* arguments = static_cast<VoteArguments*>(slot.arguments[__builtin_ctz(left)]);
    switch (arguments->kind) {
      case VoteKind::kBallot:
        arguments->result = votes;
        break;
      case VoteKind::kAny:
        arguments->result = votes != 0 ? 1 : 0;
        break;
      case VoteKind::kAll:
        arguments->result = votes == slot.mask ? 1 : 0;
        break;
    }
  }
}

struct MatchArguments {
  uint64_t value;
  unsigned result;
};

void combine_match(Warp*, const Rendezvous& slot) {
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    auto* arguments = static_cast<MatchArguments*>(slot.arguments[__builtin_ctz(left)]);
    arguments->result = 0;
    for (uint32_t others = slot.mask; others != 0; others &= others - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(others));
      const auto* other = static_cast<const MatchArguments*>(slot.arguments[lane]);
      if (other->value == arguments->value) arguments->result |= 1u << lane;
    }
  }
}

template <typename T>
struct ReduceArguments {
  ReduceKind kind;
  T value;
  T result;
};

template <typename T>
void combine_reduce(Warp*, const Rendezvous& slot) {
  const unsigned first = static_cast<unsigned>(__builtin_ctz(slot.mask));
  T result = static_cast<const ReduceArguments<T>*>(slot.arguments[first])->value;
  for (uint32_t left = slot.mask & (slot.mask - 1); left != 0; left &= left - 1) {
    const auto& lane = *static_cast<const ReduceArguments<T>*>(slot.arguments[__builtin_ctz(left)]);
    switch (lane.kind) {
      case ReduceKind::kAdd:  // wraps around
        result = static_cast<T>(static_cast<unsigned>(result) + static_cast<unsigned>(lane.value));
        break;
      case ReduceKind::kMin:
        result = lane.value < result ? lane.value : result;
        break;
      case ReduceKind::kMax:
        result = lane.value > result ? lane.value : result;
        break;
      case ReduceKind::kAnd:
        result &= lane.value;
        break;
      case ReduceKind::kOr:
        result |= lane.value;
        break;
      case ReduceKind::kXor:
        result ^= lane.value;
        break;
    }
  }
  for (uint32_t left = slot.mask; left != 0; left &= left - 1) {
    static_cast<ReduceArguments<T>*>(slot.arguments[__builtin_ctz(left)])->result = result;
  }
}

template <typename T>
T reduce(ReduceKind kind, unsigned mask, T value, Site site) {
  static constexpr const char* kNames[] = {"__reduce_add_sync", "__reduce_min_sync",
                                           "__reduce_max_sync", "__reduce_and_sync",
                                           "__reduce_or_sync",  "__reduce_xor_sync"};
  Thread* thread = self();
  EngineScope scope(thread);
  ReduceArguments<T> arguments = {kind, value, 0};
  thread->block->collective(thread, kNames[static_cast<int>(kind)], mask, combine_reduce<T>,
                            &arguments, site);
  return arguments.result;
}

void combine_barrier(Warp* warp, const Rendezvous& slot) { race_warp_barrier(warp, slot.mask); }

}  // namespace

uint64_t shuffle(ShuffleKind kind, unsigned mask, uint64_t value, unsigned lane, int width,
                 const char* file, int line) {
  static constexpr const char* kNames[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                           "__shfl_xor_sync"};
  Thread* thread = self();
  EngineScope scope(thread);
  const char* name = kNames[static_cast<int>(kind)];
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    thread->block->fail(thread, DefectKind::kDivergence,
                        std::string(name) + ": the width is not a power of two up to 32",
                        {file, line});
  }
  ShuffleArguments arguments = {kind, value, lane, width, 0};
  thread->block->collective(thread, name, mask, combine_shuffle, &arguments, {file, line});
  return arguments.result;
}

unsigned vote(VoteKind kind, unsigned mask, int predicate, const char* file, int line) {
  static constexpr const char* kNames[] = {"__ballot_sync", "__any_sync", "__all_sync"};
  Thread* thread = self();
  EngineScope scope(thread);
  VoteArguments arguments = {kind, predicate != 0, 0};
  thread->block->collective(thread, kNames[static_cast<int>(kind)], mask, combine_vote, &arguments,
                            {file, line});
  return arguments.result;
}

unsigned match_any(unsigned mask, uint64_t value, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  MatchArguments arguments = {value, 0};
  thread->block->collective(thread, "__match_any_sync", mask, combine_match, &arguments,
                            {file, line});
  return arguments.result;
}

unsigned match_all(unsigned mask, uint64_t value, int* all_equal, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  MatchArguments arguments = {value, 0};
  thread->block->collective(thread, "__match_all_sync", mask, combine_match, &arguments,
                            {file, line});
  const bool equal = arguments.result == (mask & thread->warp->existing);
  *all_equal = equal ? 1 : 0;
  return equal ? arguments.result : 0;
}

unsigned reduce_unsigned(ReduceKind kind, unsigned mask, unsigned value, const char* file,
                         int line) {
  return reduce<unsigned>(kind, mask, value, {file, line});
}

int reduce_signed(ReduceKind kind, unsigned mask, int value, const char* file, int line) {
  return reduce<int>(kind, mask, value, {file, line});
}

void warp_barrier(unsigned mask, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->collective(thread, "__syncwarp", mask, combine_barrier, nullptr, {file, line});
}

int block_barrier(BarrierKind kind, int predicate, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  return thread->block->barrier(thread, kind, predicate, {file, line});
}

}  // namespace simt::detail
