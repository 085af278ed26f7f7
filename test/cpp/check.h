// What doctest lacks for arrays: one assertion for a whole array or loop, which names the first
// element that is wrong and both values.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

namespace native_test {

// One assertion over the comparisons of a loop.
//
//   Every same;
//   for (int64_t i = 0; i < n; ++i) same.equal(out[i], expected[i]);
//   same.check("what they are");
class Every {
 public:
  void that(bool good) {
    if (!good && num_wrong_++ == 0) first_ = num_compared_;
    ++num_compared_;
  }
  template <typename Got, typename Expected>
  void equal(const Got& got, const Expected& expected) {
    const bool good = got == expected;
    if (!good && num_wrong_ == 0) values_ = text(got) + ", expected " + text(expected);
    that(good);
  }
  void near(double got, double expected, double tolerance) {
    const bool good = std::fabs(got - expected) <= tolerance;
    if (!good && num_wrong_ == 0) values_ = text(got) + ", expected " + text(expected);
    that(good);
  }
  explicit operator bool() const { return num_wrong_ == 0; }

  // Returns whether all comparisons held.
  bool check(const std::string& what) const {
    return CHECK_MESSAGE(num_wrong_ == 0, what, ": ", num_wrong_, " of ", num_compared_,
                         " comparisons fail; the first that does is number ", first_, ": ",
                         values_);
  }

 private:
  template <typename T>
  static std::string text(const T& value) {
    if constexpr (std::is_floating_point_v<T>) {
      char digits[40];  // all that tell two values apart
      std::snprintf(digits, sizeof digits, "%.17g", static_cast<double>(value));
      return digits;
    } else {
      return doctest::toString(value).c_str();
    }
  }

  int64_t num_compared_ = 0;
  int64_t num_wrong_ = 0;
  int64_t first_ = -1;
  std::string values_ = "false";
};

// Element by element.
template <typename T>
bool check_equal(const std::vector<T>& out, const std::vector<T>& expected,
                 const std::string& what) {
  if (!CHECK_MESSAGE(out.size() == expected.size(), what, ": the number of elements")) return false;
  Every same;
  for (size_t i = 0; i < out.size(); ++i) same.equal(out[i], expected[i]);
  return same.check(what);
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Bit by bit: a NaN equals itself, and zeros differ by their sign.
template <typename T>
bool check_same_bits(const std::vector<T>& out, const std::vector<T>& expected,
                     const std::string& what) {
  if (same_bits(out, expected)) return CHECK_MESSAGE(true, what);
  if (!CHECK_MESSAGE(out.size() == expected.size(), what, ": the number of elements")) return false;
  size_t i = 0;
  while (std::memcmp(&out[i], &expected[i], sizeof(T)) == 0) ++i;
  return CHECK_MESSAGE(false, what, ": the bits of element ", i, " of ", out.size(), ": ", +out[i],
                       ", expected ", +expected[i]);
}

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

// The element that is furthest off; one that is not finite comes first.
inline size_t worst_element(const std::vector<double>& out, const std::vector<double>& expected) {
  size_t worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double difference = std::fabs(out[i] - expected[i]);
    if (!std::isfinite(difference)) return i;
    if (difference > std::fabs(out[worst] - expected[worst])) worst = i;
  }
  return worst;
}

inline bool check_close(const std::vector<double>& out, const std::vector<double>& expected,
                        double bound, const std::string& what) {
  if (!CHECK_MESSAGE(out.size() == expected.size(), what, ": the number of elements")) return false;
  const double error = relative_error(out, expected);
  if (error <= bound) return CHECK_MESSAGE(true, what);
  const size_t worst = worst_element(out, expected);
  return CHECK_MESSAGE(error <= bound, what, ": element ", worst, " of ", out.size(),
                       " is furthest off: ", out[worst], ", expected ", expected[worst]);
}

}  // namespace native_test
