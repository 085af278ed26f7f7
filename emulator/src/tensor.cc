// ldmatrix, stmatrix and mma, each computed once per warp. Fragment layouts with g = lane / 4, t = lane % 4:
//   8x8 matrix   lane holds (g, 2t) and (g, 2t + 1)
//   a [16, 16]   (g, 2t…) (g + 8, 2t…) (g, 2t + 8…) (g + 8, 2t + 8…)
//   b [16, 8]    (2t…, g) (2t + 8…, g)
//   d [16, 8]    (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)
#include <cstring>

#include "block.h"
#include "fragments.h"
#include "mbarrier.h"
#include "race.h"
#include "rounding.h"
#include "simt/ptx.h"
#include "simt/ptx90.h"

namespace simt::detail {
namespace {

struct LoadArguments {
  int matrices;
  bool transpose;
  uint32_t offset;  // in the arena
  uint32_t* out;
};

// Further passes that the eight rows of a matrix need: different rows in the same 16-byte group of
// banks go one after another, the same row is read once.
unsigned bank_conflicts(const uint32_t* offsets) {
  unsigned rows[8] = {};  // different ones, per group
  unsigned passes = 1;
  for (int i = 0; i < 8; ++i) {
    bool seen = false;
    for (int j = 0; j < i; ++j) seen = seen || offsets[j] == offsets[i];
    if (seen) continue;
    const unsigned count = ++rows[offsets[i] / 16 % 8];
    if (count > passes) passes = count;
  }
  return passes - 1;
}

void combine_load(Warp* warp, const Rendezvous& slot) {
  Block* block = warp->block;
  const LoadArguments& first = *static_cast<const LoadArguments*>(slot.arguments[0]);
  ++block->counters.ldmatrix;
  for (int matrix = 0; matrix < first.matrices; ++matrix) {
    uint32_t offsets[8];
    uint16_t elements[8][8];
    for (int row = 0; row < 8; ++row) {
      const int lane = matrix * 8 + row;
      offsets[row] = static_cast<const LoadArguments*>(slot.arguments[lane])->offset;
      std::memcpy(elements[row], block->arena() + offsets[row], 16);
    }
    block->counters.ldmatrix_bank_conflicts += bank_conflicts(offsets);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned g = lane / 4, t = lane % 4;
      const auto* arguments = static_cast<const LoadArguments*>(slot.arguments[lane]);
      const uint32_t low = first.transpose ? elements[2 * t][g] : elements[g][2 * t];
      const uint32_t high = first.transpose ? elements[2 * t + 1][g] : elements[g][2 * t + 1];
      arguments->out[matrix] = low | high << 16;
    }
  }
}

struct StoreArguments {
  int matrices;
  bool transpose;
  uint32_t offset;
  const uint32_t* in;
};

void combine_store(Warp* warp, const Rendezvous& slot) {
  Block* block = warp->block;
  const StoreArguments& first = *static_cast<const StoreArguments*>(slot.arguments[0]);
  ++block->counters.stmatrix;
  for (int matrix = 0; matrix < first.matrices; ++matrix) {
    uint16_t elements[8][8];
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned g = lane / 4, t = lane % 4;
      const uint32_t word = static_cast<const StoreArguments*>(slot.arguments[lane])->in[matrix];
      (first.transpose ? elements[2 * t][g] : elements[g][2 * t]) = static_cast<uint16_t>(word);
      (first.transpose ? elements[2 * t + 1][g] : elements[g][2 * t + 1]) =
          static_cast<uint16_t>(word >> 16);
    }
    uint32_t offsets[8];
    for (int row = 0; row < 8; ++row) {
      const int lane = matrix * 8 + row;
      offsets[row] = static_cast<const StoreArguments*>(slot.arguments[lane])->offset;
      std::memcpy(block->arena() + offsets[row], elements[row], 16);
    }
    block->counters.stmatrix_bank_conflicts += bank_conflicts(offsets);
  }
}

struct MmaArguments {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

using Row = float __attribute__((vector_size(32)));

// Products of 16-bit elements are exact in f32; how they are summed is an option.
template <MmaType kType>
void combine_mma(Warp* warp, const Rendezvous& slot) {
  alignas(32) float a[16][16];
  alignas(32) float b[16][8];
  alignas(32) float d[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    const MmaArguments& arguments = *static_cast<const MmaArguments*>(slot.arguments[lane]);
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = half_value<kType == MmaType::kBf16>(arguments.a[i] & 0xffffu);
      a[row][column + 1] = half_value<kType == MmaType::kBf16>(arguments.a[i] >> 16);
      d[g + i / 2 * 8][2 * t + i % 2] = arguments.d[i];
    }
    for (unsigned i = 0; i < 2; ++i) {
      b[2 * t + i * 8][g] = half_value<kType == MmaType::kBf16>(arguments.b[i] & 0xffffu);
      b[2 * t + i * 8 + 1][g] = half_value<kType == MmaType::kBf16>(arguments.b[i] >> 16);
    }
  }
  const TensorCores model = warp->block->options().tensor_cores;
  for (int row = 0; row < 16; ++row) {
    if (model != TensorCores::kIeee) {
      constexpr int kLeast = kType == MmaType::kBf16 ? kLeastExponentBf16 : kLeastExponentF16;
      for (int column = 0; column < 8; ++column) {
        d[row][column] = sum_of_products(model, a[row], &b[0][column], 8, d[row][column], kLeast);
      }
      continue;
    }
    Row sum;
    std::memcpy(&sum, d[row], sizeof sum);
    for (int k = 0; k < 16; ++k) {
      Row factor;
      std::memcpy(&factor, b[k], sizeof factor);
      sum = sum + factor * a[row][k];
    }
    std::memcpy(d[row], &sum, sizeof sum);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    const MmaArguments& arguments = *static_cast<const MmaArguments*>(slot.arguments[lane]);
    for (unsigned i = 0; i < 4; ++i) arguments.d[i] = d[g + i / 2 * 8][2 * t + i % 2];
  }
  ++warp->block->counters.mma;
}

void require_full_warp(Thread* thread, const char* operation, Site site) {
  if (thread->warp->existing == ~0u) return;
  thread->block->fail(
      thread, DefectKind::kDivergence,
      std::string(operation) + " needs all 32 lanes, the block's last warp has fewer", site);
}

}  // namespace

void load_matrix(uint32_t* out, int matrices, bool transpose, uint32_t shared, const char* file,
                 int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  const Site site = {file, line};
  const char* name = matrices == 4 ? (transpose ? "ldmatrix.x4.trans" : "ldmatrix.x4")
                                   : (transpose ? "ldmatrix.x2.trans" : "ldmatrix.x2");
  require_full_warp(thread, name, site);
  LoadArguments arguments = {matrices, transpose, 0, out};
  if (thread->lane < static_cast<unsigned>(matrices) * 8) {
    arguments.offset = block->checked_offset(thread, shared, 16, name, site);
    race_shared_read(thread, arguments.offset, 16, site);
  }
  block->collective(thread, name, ~0u, combine_load, &arguments, site, true);
}

void store_matrix(const uint32_t* in, int matrices, bool transpose, uint32_t shared,
                  const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  const Site site = {file, line};
  const char* name = transpose ? "stmatrix.trans" : "stmatrix";
  require_full_warp(thread, name, site);
  StoreArguments arguments = {matrices, transpose, 0, in};
  if (thread->lane < static_cast<unsigned>(matrices) * 8) {
    arguments.offset = block->checked_offset(thread, shared, 16, name, site);
    block->mbarriers->check_not_in_flight(thread, arguments.offset, 16, name, site);
    race_shared_write(thread, arguments.offset, 16, site);
  }
  block->collective(thread, name, ~0u, combine_store, &arguments, site, true);
}

void mma_m16n8k16(MmaType type, float* d, const uint32_t* a, const uint32_t* b, const char* file,
                  int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  const Site site = {file, line};
  const char* name = type == MmaType::kBf16 ? "mma.m16n8k16.bf16" : "mma.m16n8k16.f16";
  require_full_warp(thread, name, site);
  MmaArguments arguments = {d, a, b};
  thread->block->collective(
      thread, name, ~0u,
      type == MmaType::kBf16 ? combine_mma<MmaType::kBf16> : combine_mma<MmaType::kF16>, &arguments,
      site, true);
}

uint4 load_vector(const void* source, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  const Site site = {file, line};
  if (reinterpret_cast<uintptr_t>(source) % 16 != 0) {
    thread->block->fail(thread, DefectKind::kMisaligned,
                        "a 16-byte load from an address that is no multiple of 16", site);
  }
  race_global_read(thread, source, 16, site);
  thread->block->record_access(thread, AccessKind::kGlobalLoad, file, line,
                               reinterpret_cast<uint64_t>(source), 16, 0, 0);
  uint4 value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

}  // namespace simt::detail
