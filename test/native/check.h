// Assertions, random numbers and relative errors of the native tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace native_test {

// Counts; every check names its case, and a failure is printed at once. Some tests check from
// several threads.
inline int passed = 0;
inline int failed = 0;
inline std::mutex counting;

inline bool check(bool condition, const std::string& what) {
  const std::lock_guard<std::mutex> lock(counting);
  if (condition) {
    ++passed;
  } else {
    ++failed;
    std::printf("FAILED %s\n", what.c_str());
  }
  return condition;
}

// splitmix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // Sum of uniforms: near enough to a normal distribution, mean 0, deviation 1.
  double normal() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum - 6;
  }

 private:
  uint64_t state_;
};

// ||out - expected|| / ||expected||; infinite when anything is not finite, so that a NaN never
// passes.
inline double relative_error(const std::vector<double>& out, const std::vector<double>& expected) {
  if (out.size() != expected.size()) return INFINITY;
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    difference += (out[i] - expected[i]) * (out[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  const double error = size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
  return std::isfinite(error) ? error : INFINITY;
}

inline void check_close(const std::vector<double>& out, const std::vector<double>& expected,
                        double bound, const std::string& what) {
  const double error = relative_error(out, expected);
  char text[64];
  std::snprintf(text, sizeof text, ": error %.3g, bound %.3g", error, bound);
  check(error <= bound, what + text);
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace native_test
