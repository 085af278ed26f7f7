#include "cuda/stages/content_checks.h"

#include <utility>

#include "cuda/ops/content_checks.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// A byte that memset repeats into a number above every element's.
constexpr int kNoFaultByte = 0x7f;
constexpr int64_t kNoFault = 0x7f7f7f7f7f7f7f7f;

}  // namespace

Status ContentChecks::begin(std::string before, std::string after, int64_t** fault) {
  if (rules_.empty())
    SE_RETURN_IF_ERROR(
        device_.check(cudaMemsetAsync(faults_, kNoFaultByte, kFaultBytes, device_.stage_stream()),
                      "content checks"));
  if (static_cast<int64_t>(rules_.size()) >= kMostChecks)
    return {SE_INTERNAL, "cuda: too many content checks"};
  *fault = faults_ + rules_.size();
  rules_.push_back({std::move(before), std::move(after)});
  device_.counters().kernel_launches += 1;
  return Status::ok();
}

Status ContentChecks::range(const int32_t* values, int64_t count, int64_t least, int64_t most,
                            std::string before, std::string after) {
  if (count == 0) return Status::ok();
  int64_t* fault = nullptr;
  SE_RETURN_IF_ERROR(begin(std::move(before), std::move(after), &fault));
  return device_.check(
      launch_check_range(values, count, static_cast<int32_t>(least), static_cast<int32_t>(most),
                         fault, device_.stage_stream()),
      "check_range");
}

Status ContentChecks::row_top_k(const uint8_t* values, int64_t count, int64_t most) {
  if (count == 0) return Status::ok();
  int64_t* fault = nullptr;
  SE_RETURN_IF_ERROR(begin("select: row_top_k of token ", " exceeds top_k", &fault));
  return device_.check(launch_check_row_top_k(values, count, static_cast<int32_t>(most), fault,
                                              device_.stage_stream()),
                       "check_row_top_k");
}

Status ContentChecks::offsets(const int32_t* expert_offsets, int64_t num_experts, int64_t num_slots,
                              const std::string& op) {
  int64_t* fault = nullptr;
  SE_RETURN_IF_ERROR(begin(op + ": expert_offsets must rise from 0 to at most the number of slots; "
                                "entry ",
                           " does not", &fault));
  return device_.check(
      launch_check_offsets(expert_offsets, num_experts, num_slots, fault, device_.stage_stream()),
      "check_offsets");
}

Status ContentChecks::slots(const int32_t* sorted_slots, const int32_t* num_listed,
                            int64_t num_slots, const std::string& op) {
  if (num_slots == 0) return Status::ok();
  int64_t* fault = nullptr;
  SE_RETURN_IF_ERROR(
      begin(op + ": sorted_slots must hold each slot at most once; entry ", " is no slot", &fault));
  return device_.check(
      launch_check_slots(sorted_slots, num_listed, num_slots, fault, device_.stage_stream()),
      "check_slots");
}

Status ContentChecks::finish() {
  if (rules_.empty()) return Status::ok();
  SE_RETURN_IF_ERROR(device_.stage_pinned().reserve(kFaultBytes));
  auto* found = reinterpret_cast<int64_t*>(device_.stage_pinned().data());
  SE_RETURN_IF_ERROR(device_.check(cudaMemcpyAsync(found, faults_, rules_.size() * sizeof(int64_t),
                                                   cudaMemcpyDeviceToHost, device_.stage_stream()),
                                   "content checks"));
  SE_RETURN_IF_ERROR(
      device_.synchronize(device_.stage_stream(), device_.stage_event(), "content checks"));
  std::vector<Rule> rules = std::move(rules_);
  rules_.clear();
  for (size_t i = 0; i < rules.size(); ++i)
    if (found[i] < kNoFault)
      return Status::invalid(rules[i].before + std::to_string(found[i]) + rules[i].after);
  return Status::ok();
}

}  // namespace sparse_experts::cuda
