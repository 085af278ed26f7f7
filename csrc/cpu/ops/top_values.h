// The largest of some values, none of which is NaN: falling, ties to the lower index.
#pragma once

#include <cstdint>
#include <vector>

namespace sparse_experts::cpu {

// Puts the indices of the `count` largest first in `order`, which has the size of `values`. O(n log
// count).
void rank_top(const std::vector<double>& values, int64_t count, std::vector<int32_t>* order);

// The same into `ids`; `order` is scratch of the size of `values`.
void pick_top(const std::vector<double>& values, int64_t count, std::vector<int32_t>* order,
              int32_t* ids);

}  // namespace sparse_experts::cpu
