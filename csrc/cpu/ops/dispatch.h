// Slots grouped by expert: a stable counting sort.
#pragma once

#include <cstdint>

namespace sparse_experts::cpu {

// Sorts the slots with an id in [0, num_experts) by expert, rising within one; all others are left
// out and -1 fills the tail. expert_offsets [num_experts + 1], sorted_slots [num_slots].
// O(num_slots + num_experts).
template <typename ExpertOfSlot>
void counting_sort(int64_t num_slots, int64_t num_experts, const ExpertOfSlot& expert_of_slot,
                   int32_t* expert_offsets, int32_t* sorted_slots) {
  for (int64_t e = 0; e <= num_experts; ++e) expert_offsets[e] = 0;
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const int64_t expert = expert_of_slot(slot);
    if (expert >= 0) ++expert_offsets[expert];
  }
  // Counts become the ends of the experts; filling from the back turns them into the beginnings.
  for (int64_t e = 1; e <= num_experts; ++e) expert_offsets[e] += expert_offsets[e - 1];
  const int64_t num_sorted = expert_offsets[num_experts];
  for (int64_t slot = num_slots - 1; slot >= 0; --slot) {
    const int64_t expert = expert_of_slot(slot);
    if (expert >= 0) sorted_slots[--expert_offsets[expert]] = static_cast<int32_t>(slot);
  }
  for (int64_t i = num_sorted; i < num_slots; ++i) sorted_slots[i] = -1;
}

}  // namespace sparse_experts::cpu
