// Warp collectives: shuffles, votes, match and reduce. Each lane hands its value to the engine,
// which answers when the last lane of the mask has arrived.
// A shuffle from a lane outside of the mask gives 0xFF bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace simt::detail {

enum class ShuffleKind { kIndex, kUp, kDown, kXor };
enum class VoteKind { kBallot, kAny, kAll };
enum class ReduceKind { kAdd, kMin, kMax, kAnd, kOr, kXor };

uint64_t shuffle(ShuffleKind kind, unsigned mask, uint64_t value, unsigned lane, int width,
                 const char* file, int line);
unsigned vote(VoteKind kind, unsigned mask, int predicate, const char* file, int line);
unsigned match_any(unsigned mask, uint64_t value, const char* file, int line);
unsigned match_all(unsigned mask, uint64_t value, int* all_equal, const char* file, int line);
unsigned reduce_unsigned(ReduceKind kind, unsigned mask, unsigned value, const char* file,
                         int line);
int reduce_signed(ReduceKind kind, unsigned mask, int value, const char* file, int line);

template <typename T>
inline uint64_t shuffle_bits(T value) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffles move int, unsigned, long long, float and double");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
inline T shuffle_value(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace simt::detail

#define SIMT_SHUFFLE(name, kind)                                                    \
  template <typename T>                                                             \
  inline T name(unsigned mask, T value, int lane, int width = 32,                   \
                const char* file = __builtin_FILE(), int line = __builtin_LINE()) { \
    return simt::detail::shuffle_value<T>(simt::detail::shuffle(                    \
        simt::detail::ShuffleKind::kind, mask, simt::detail::shuffle_bits(value),   \
        static_cast<unsigned>(lane), width, file, line));                           \
  }
SIMT_SHUFFLE(__shfl_sync, kIndex)
SIMT_SHUFFLE(__shfl_up_sync, kUp)
SIMT_SHUFFLE(__shfl_down_sync, kDown)
SIMT_SHUFFLE(__shfl_xor_sync, kXor)
#undef SIMT_SHUFFLE

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_SITE) {
  return simt::detail::vote(simt::detail::VoteKind::kBallot, mask, predicate, file, line);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_SITE) {
  return static_cast<int>(
      simt::detail::vote(simt::detail::VoteKind::kAny, mask, predicate, file, line));
}
inline int __all_sync(unsigned mask, int predicate, SIMT_SITE) {
  return static_cast<int>(
      simt::detail::vote(simt::detail::VoteKind::kAll, mask, predicate, file, line));
}

template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value, SIMT_SITE) {
  return simt::detail::match_any(mask, simt::detail::shuffle_bits(value), file, line);
}
template <typename T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all_equal, SIMT_SITE) {
  return simt::detail::match_all(mask, simt::detail::shuffle_bits(value), all_equal, file, line);
}

#define SIMT_REDUCE(name, kind)                                                                    \
  inline unsigned name(unsigned mask, unsigned value, SIMT_SITE) {                                 \
    return simt::detail::reduce_unsigned(simt::detail::ReduceKind::kind, mask, value, file, line); \
  }
#define SIMT_REDUCE_SIGNED(name, kind)                                                           \
  SIMT_REDUCE(name, kind)                                                                        \
  inline int name(unsigned mask, int value, SIMT_SITE) {                                         \
    return simt::detail::reduce_signed(simt::detail::ReduceKind::kind, mask, value, file, line); \
  }
SIMT_REDUCE_SIGNED(__reduce_add_sync, kAdd)
SIMT_REDUCE_SIGNED(__reduce_min_sync, kMin)
SIMT_REDUCE_SIGNED(__reduce_max_sync, kMax)
SIMT_REDUCE(__reduce_and_sync, kAnd)
SIMT_REDUCE(__reduce_or_sync, kOr)
SIMT_REDUCE(__reduce_xor_sync, kXor)
#undef SIMT_REDUCE_SIGNED
#undef SIMT_REDUCE
#undef SIMT_SITE
