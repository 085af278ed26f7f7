#include "cpu/ops/top_values.h"

#include <algorithm>

namespace sparse_experts::cpu {

void rank_top(const std::vector<double>& values, int64_t count, std::vector<int32_t>* order) {
  for (size_t i = 0; i < order->size(); ++i) (*order)[i] = static_cast<int32_t>(i);
  std::partial_sort(
      order->begin(), order->begin() + count, order->end(),
      [&](int32_t a, int32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
}

// Few are kept in order while the values pass: a value seldom displaces one of them.
void pick_top(const std::vector<double>& values, int64_t count, std::vector<int32_t>* order,
              int32_t* ids) {
  constexpr int64_t kFew = 16;
  if (count > kFew) {
    rank_top(values, count, order);
    std::copy_n(order->begin(), count, ids);
    return;
  }
  for (int32_t i = 0; i < static_cast<int32_t>(values.size()); ++i) {
    int64_t at = std::min<int64_t>(i, count);
    if (at == count && !(values[i] > values[ids[count - 1]])) continue;
    at = std::min(at, count - 1);
    for (; at > 0 && values[i] > values[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = i;
  }
}

}  // namespace sparse_experts::cpu
