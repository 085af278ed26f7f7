// What the backends' forwards in steps share: which experts of a wave have their rows, by the rules of
// forward_experts, forward_slot_rows and forward_finish (abi/backend.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "ops/checks.h"

namespace sparse_experts {

class TakenExperts {
 public:
  TakenExperts() = default;
  explicit TakenExperts(int64_t num_experts) : taken_(static_cast<size_t>(num_experts), 0) {}

  size_t num_experts() const { return taken_.size(); }

  std::vector<int32_t> missing() const {
    std::vector<int32_t> experts;
    for (size_t e = 0; e < taken_.size(); ++e)
      if (taken_[e] == 0) experts.push_back(static_cast<int32_t>(e));
    return experts;
  }

  // These with the named ones; refuses what is no expert, or is there already.
  Status with(const int32_t* experts, int64_t count, TakenExperts* all) const {
    *all = *this;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t expert = experts[i];
      SE_CHECK_ARGUMENT(expert >= 0 && static_cast<size_t>(expert) < taken_.size(),
                        "forward: there is no expert " + std::to_string(expert));
      uint8_t& is_taken = all->taken_[static_cast<size_t>(expert)];
      SE_CHECK_ARGUMENT(is_taken == 0, "forward: the rows of expert " + std::to_string(expert) +
                                           " are there already");
      is_taken = 1;
    }
    return Status::ok();
  }

  // Of a wave that is to be finished: every expert for which has_slots(expert) is true is here.
  template <typename HasSlots>
  Status check_complete(const HasSlots& has_slots) const {
    for (size_t e = 0; e < taken_.size(); ++e) {
      if (taken_[e] == 0 && has_slots(e))
        return {SE_INTERNAL,
                "forward_finish: expert " + std::to_string(e) + " has not been computed"};
    }
    return Status::ok();
  }

 private:
  std::vector<uint8_t> taken_;
};

}  // namespace sparse_experts
