// How tensor cores round: the sum of a k16 step's products and the accumulator.
#pragma once

#include "simt/engine.h"

namespace simt::detail {

// The least exponents of numbers that are not subnormal.
constexpr int kLeastExponentBf16 = -126;
constexpr int kLeastExponentF16 = -14;

// c + a[0] b[0] + … + a[15] b[15], elements of b `stride` apart. The factors are values of the 16-bit
// type with that least exponent.
float sum_of_products(TensorCores model, const float* a, const float* b, unsigned stride, float c,
                      int least_exponent);

}  // namespace simt::detail
