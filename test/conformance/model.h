// What the kernels should give, in plain C++ that shares nothing with the emulator or with num.cuh:
// written from the PTX instruction set's description, value by value.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace conformance::model {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, 8);
  return bits;
}

// A binary floating-point format of 16 bits.
struct Format {
  int exponent_bits;
  int mantissa_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
constexpr Format kF16 = {5, 10};
constexpr Format kBf16 = {8, 7};

inline double value_of(Format format, uint32_t bits) {
  const int exponent =
      static_cast<int>(bits >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << format.mantissa_bits) - 1);
  const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  if (exponent == (1 << format.exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - format.bias() - format.mantissa_bits);
  return sign * std::ldexp((1 << format.mantissa_bits) + mantissa,
                           exponent - format.bias() - format.mantissa_bits);
}

// a + b so near to the exact sum that round_to makes of it what it would make of that: a sum that is
// not exact is odd in its last place, far below those of 16 bits.
inline double rounded_sum(long double a, long double b) {
  const double sum = static_cast<double>(a + b);
  uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if (!std::isfinite(sum) || (bits & 1) != 0) return sum;
  // On which side of it the exact sum lies.
  const bool in_order = std::fabs(a) >= std::fabs(b);
  const long double rest =
      ((in_order ? a : b) - static_cast<long double>(sum)) + (in_order ? b : a);
  if (rest == 0) return sum;
  return std::nextafter(sum, rest > 0 ? INFINITY : -INFINITY);
}

// To nearest, ties to even; not for NaN.
inline uint32_t round_to(Format format, double value) {
  const uint32_t sign = std::signbit(value) ? 0x8000u : 0;
  const double magnitude = std::fabs(value);
  const uint32_t infinity = ((1u << format.exponent_bits) - 1u) << format.mantissa_bits;
  if (std::isinf(magnitude)) return sign | infinity;
  if (magnitude == 0) return sign;
  int exponent = std::ilogb(magnitude);
  if (exponent < 1 - format.bias()) exponent = 1 - format.bias();
  const double scaled = std::ldexp(magnitude, format.mantissa_bits - exponent);
  double whole = std::floor(scaled);
  const double rest = scaled - whole;
  if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) == 1)) whole += 1;
  // The carry of a full mantissa goes into the exponent by itself.
  const uint32_t significand = static_cast<uint32_t>(whole);
  const uint32_t field = static_cast<uint32_t>(exponent + format.bias() - 1);
  const uint32_t bits = (field << format.mantissa_bits) + significand;
  return sign | (bits > infinity ? infinity : bits);
}

// One 16-bit element of a tile of bytes.
inline uint32_t half_at(const std::vector<uint32_t>& tile, uint32_t offset) {
  return tile[offset / 4] >> (offset % 4 * 8) & 0xffffu;
}

// Lane l gets of matrix m the elements (l / 4, 2 (l % 4)) and the next; row r of matrix m begins at
// the address of lane 8 m + r.
inline std::vector<uint32_t> ldmatrix(const std::vector<uint32_t>& tile,
                                      const std::vector<uint32_t>& offsets, uint32_t matrices) {
  std::vector<uint32_t> out;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < matrices; ++m) {
      const uint32_t row = offsets[8 * m + lane / 4];
      const uint32_t at = row + lane % 4 * 4;
      out.push_back(half_at(tile, at) | half_at(tile, at + 2) << 16);
    }
  }
  return out;
}

// A product [16, 16] x [16, 8] + [16, 8] as matrices, and its way in and out of registers.
struct Product {
  double a[16][16];
  double b[16][8];
  double c[16][8];

  // Element (row, column) of d in lane 4 (row % 8) + column / 2, register 2 (row / 8) + column % 2.
  static size_t register_of(int row, int column) {
    return static_cast<size_t>(4 * (4 * (row % 8) + column / 2) + 2 * (row / 8) + column % 2);
  }

  void unpack(Format format, const uint32_t* left, const uint32_t* right, const float* sum) {
    for (int row = 0; row < 16; ++row) {
      for (int k = 0; k < 16; ++k) {
        // Register: bit 0 by the half of the rows, bit 1 by the half of k; two elements in each.
        const int lane = 4 * (row % 8) + k % 8 / 2;
        const uint32_t word = left[4 * lane + row / 8 + 2 * (k / 8)];
        a[row][k] = value_of(format, word >> (16 * (k % 2)) & 0xffffu);
      }
    }
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) {
        const int lane = 4 * column + k % 8 / 2;
        const uint32_t word = right[2 * lane + k / 8];
        b[k][column] = value_of(format, word >> (16 * (k % 2)) & 0xffffu);
      }
    }
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        c[row][column] = static_cast<double>(sum[register_of(row, column)]);
      }
    }
  }

  // The sum to well beyond f32, and what the terms weigh together.
  void entry(int row, int column, double* value, double* weight) const {
    long double sum = c[row][column];
    long double size = std::fabs(c[row][column]);
    for (int k = 0; k < 16; ++k) {
      const long double term = static_cast<long double>(a[row][k]) * b[k][column];
      sum += term;
      size += std::fabs(term);
    }
    *value = static_cast<double>(sum);
    *weight = static_cast<double>(size);
  }
};

}  // namespace conformance::model
