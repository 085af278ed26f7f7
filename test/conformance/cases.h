// A case: what a kernel gave on fixed inputs, what a plain C++ model of the same gave, and how far
// apart they may be.
//   exact    the bits are the same, here and on every GPU
//   float, double   within a bound of each element that the case states; that the bits are the same
//   is
//                   reported, not asked for. A NaN meets a NaN, an infinity the same infinity.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace conformance {

enum class Kind { kExact, kFloat, kDouble };

inline const char* kind_name(Kind kind) {
  return kind == Kind::kExact ? "exact" : kind == Kind::kFloat ? "float" : "double";
}

struct Case {
  std::string name;
  Kind kind = Kind::kExact;
  uint64_t seed = 0;
  std::vector<uint32_t> out;    // a double is two words, the low one first
  std::vector<uint32_t> model;  // the same
  std::vector<double> bounds;   // of each element, absolute; empty when exact
};

// What to say of two results of a case.
struct Verdict {
  bool good = false;
  bool same_bits = false;
  double worst = 0;  // greatest difference as a share of its bound
  std::string why;   // the first element that is off
};

namespace detail {

inline double element(Kind kind, const std::vector<uint32_t>& words, size_t i) {
  if (kind == Kind::kFloat) {
    float value;
    std::memcpy(&value, &words[i], 4);
    return static_cast<double>(value);
  }
  double value;
  std::memcpy(&value, &words[2 * i], 8);
  return value;
}

}  // namespace detail

inline Verdict judge(const Case& one, const std::vector<uint32_t>& got,
                     const std::vector<uint32_t>& expected, double slack) {
  Verdict verdict;
  if (got.size() != expected.size() || got.empty()) {
    verdict.why = "sizes differ";
    return verdict;
  }
  size_t first = 0;
  while (first < got.size() && got[first] == expected[first]) ++first;
  verdict.same_bits = first == got.size();
  if (verdict.same_bits) {
    verdict.good = true;
    return verdict;
  }
  char text[128];
  if (one.kind == Kind::kExact) {
    std::snprintf(text, sizeof text, "word %zu is %08x, expected %08x", first, got[first],
                  expected[first]);
    verdict.why = text;
    return verdict;
  }
  const size_t count = one.kind == Kind::kFloat ? got.size() : got.size() / 2;
  if (one.bounds.size() != count) {
    verdict.why = "the case has no bounds";
    return verdict;
  }
  verdict.good = true;
  for (size_t i = 0; i < count; ++i) {
    const double a = detail::element(one.kind, got, i);
    const double b = detail::element(one.kind, expected, i);
    if (std::isnan(a) && std::isnan(b)) continue;
    if (a == b) continue;
    const double share = std::fabs(a - b) / (one.bounds[i] * slack);
    if (share > verdict.worst) verdict.worst = share;
    if (share <= 1) continue;  // false for NaN: a NaN or infinity that the other has not
    if (verdict.good) {
      std::snprintf(text, sizeof text, "element %zu is %.9g, expected %.9g within %.3g", i, a, b,
                    one.bounds[i] * slack);
      verdict.why = text;
    }
    verdict.good = false;
  }
  return verdict;
}

// All cases, run on the current device.
std::vector<Case> run_cases();

}  // namespace conformance
