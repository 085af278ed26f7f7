// Integer helpers: division, alignment, and products that cannot wrap.
#pragma once

#include <cstdint>

namespace sparse_experts {

constexpr int64_t ceil_div(int64_t value, int64_t divisor) {
  return value / divisor + (value % divisor != 0 ? 1 : 0);
}

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Product of two non-negative numbers; false when it does not fit.
inline bool checked_multiply(int64_t a, int64_t b, int64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

}  // namespace sparse_experts
