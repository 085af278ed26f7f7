// Checks of what device arrays hold, before anything reads through them: each queues one kernel
// that finds the first element that breaks its rule; finish() reads all answers back in one copy.
// So an array that could lead outside of another is refused before any other kernel is queued.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace sparse_experts::cuda {

class Device;

// Uses the device's stage stream and pinned memory: its stage_mutex is held.
class ContentChecks {
 public:
  static constexpr int64_t kMostChecks = 8;
  // Bytes of device memory that `faults` needs.
  static constexpr uint64_t kFaultBytes = kMostChecks * sizeof(int64_t);

  ContentChecks(Device& device, void* faults)
      : device_(device), faults_(static_cast<int64_t*>(faults)) {}

  // The message of a breach is BEFORE, the element's number, AFTER.
  Status range(const int32_t* values, int64_t count, int64_t least, int64_t most,
               std::string before, std::string after);
  Status row_top_k(const uint8_t* values, int64_t count, int64_t most);
  // What dispatch wrote, but for a slot that stands twice.
  Status offsets(const int32_t* expert_offsets, int64_t num_experts, int64_t num_slots,
                 const std::string& op);
  Status slots(const int32_t* sorted_slots, const int32_t* num_listed, int64_t num_slots,
               const std::string& op);
  // SE_INVALID_ARGUMENT with the first check's message that found something.
  Status finish();

 private:
  Status begin(std::string before, std::string after, int64_t** fault);

  Device& device_;
  int64_t* faults_;
  struct Rule {
    std::string before;
    std::string after;
  };
  std::vector<Rule> rules_;
};

}  // namespace sparse_experts::cuda
