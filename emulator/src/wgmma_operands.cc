#include "wgmma_operands.h"

#include <cstring>

#include "fragments.h"
#include "rounding.h"

namespace simt::detail {
namespace {

constexpr unsigned kK = 16;

[[noreturn]] void unsupported(std::string&& text, Site site) {
  Thread* thread = self();
  thread->block->fail(thread, DefectKind::kProtocol, std::move(text), site);
}

// A matrix descriptor: fields of the shared address in units of 16 bytes.
struct Operand {
  uint32_t start;         // shared address
  uint32_t group_stride;  // bytes between groups of 8 rows
  uint32_t row_bytes;     // of the swizzle
};

Operand decode(uint64_t descriptor, Site site) {
  static constexpr uint32_t kWidths[4] = {0, 128, 64, 32};
  Operand operand;
  operand.start = static_cast<uint32_t>(descriptor & 0x3fffu) * 16;
  operand.group_stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fffu) * 16;
  operand.row_bytes = kWidths[descriptor >> 62];
  if (operand.row_bytes == 0)
    unsupported("wgmma: descriptors without a swizzle are not emulated", site);
  if ((descriptor >> 49 & 7u) != 0) {
    unsupported("wgmma: descriptors with a base offset are not emulated", site);
  }
  return operand;
}

// The address of the 16 bytes that hold elements 8 half … 8 half + 7 of a row. The hardware exchanges
// address bits: 4 and up with 7 and up, as many as the width of the swizzle has chunks.
uint32_t address_of(const Operand& operand, uint32_t row, uint32_t half) {
  const uint32_t linear =
      operand.start + row / 8 * operand.group_stride + row % 8 * operand.row_bytes + half * 16;
  return linear ^ (linear >> 3 & (operand.row_bytes - 1) & ~15u);
}

// Reads [rows, 16] of an operand as raw bits.
void read_operand(Thread* thread, const Operand& operand, uint32_t first_row, uint32_t rows,
                  uint16_t* bits, const AsyncActor* actor, Site site) {
  Block* block = thread->block;
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t offset = block->checked_offset(
          thread, address_of(operand, first_row + row, half), 16, "wgmma's operand", site);
      if (actor != nullptr) race_async_read(thread, *actor, offset, 16, site);
      std::memcpy(bits + row * kK + half * 8, block->arena() + offset, 16);
    }
  }
}

uint64_t digest_of(const uint16_t* bits, size_t count, uint64_t digest) {
  for (size_t i = 0; i + 4 <= count; i += 4) {
    uint64_t word;
    std::memcpy(&word, bits + i, sizeof word);
    digest = (digest ^ word) * 0x9e3779b97f4a7c15u;
    digest ^= digest >> 29;
  }
  return digest;
}

template <bool kIsBf16>
void multiply(TensorCores model, const Operands& read, uint32_t columns, float* sums) {
  static thread_local float a[kWarpRows][kK];
  static thread_local float b[kK][256];
  for (unsigned row = 0; row < kWarpRows; ++row) {
    for (unsigned k = 0; k < kK; ++k) a[row][k] = half_value<kIsBf16>(read.a[row * kK + k]);
  }
  for (unsigned column = 0; column < columns; ++column) {
    for (unsigned k = 0; k < kK; ++k) b[k][column] = half_value<kIsBf16>(read.b[column * kK + k]);
  }
  constexpr int kLeast = kIsBf16 ? kLeastExponentBf16 : kLeastExponentF16;
  for (unsigned row = 0; row < kWarpRows; ++row) {
    float* sum = sums + size_t{row} * columns;
    if (model != TensorCores::kIeee) {
      for (unsigned column = 0; column < columns; ++column) {
        sum[column] = sum_of_products(model, a[row], &b[0][column], 256, sum[column], kLeast);
      }
      continue;
    }
    for (unsigned k = 0; k < kK; ++k) {
      const float factor = a[row][k];
      for (unsigned column = 0; column < columns; ++column) {
        sum[column] = sum[column] + b[k][column] * factor;
      }
    }
  }
}

}  // namespace

// Never on a kernel's stack, which is small.
Operands& wgmma_operands() {
  static thread_local Operands operands;
  return operands;
}

void read_operands(Warp* warp, uint64_t a, uint64_t b, WgmmaShape shape, const AsyncActor* actor,
                   Site site) {
  Operands& read = wgmma_operands();
  Thread* thread = self();
  const uint32_t first_row = warp->index % 4 * kWarpRows;
  read_operand(thread, decode(a, site), first_row, kWarpRows, read.a, actor, site);
  read_operand(thread, decode(b, site), 0, shape.columns, read.b, actor, site);
  read.digest = digest_of(read.b, size_t{shape.columns} * kK, digest_of(read.a, kWarpRows * kK, 1));
}

void multiply_operands(TensorCores model, WgmmaShape shape, float* sums) {
  if (shape.is_bf16) {
    multiply<true>(model, wgmma_operands(), shape.columns, sums);
  } else {
    multiply<false>(model, wgmma_operands(), shape.columns, sums);
  }
}

}  // namespace simt::detail
