#include "cuda/runtime/call_staging.h"

#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Blocks grow by doubling: a batch that grows token by token moves them (and drops the graphs) only a
// few times.
constexpr uint64_t kLeastBytes = 64 << 10;

uint64_t grown_bytes(uint64_t bytes) {
  uint64_t grown = kLeastBytes;
  while (grown < bytes) grown *= 2;
  return grown;
}

}  // namespace

Status CallStaging::reserve(uint64_t bytes, bool needs_pinned, cudaStream_t stream) {
  const bool has_pinned = !needs_pinned || bytes <= pinned_.bytes();
  const bool has_block = bytes <= block_.bytes();
  if (has_pinned && has_block) return Status::ok();
  ++generation_;
  if (!has_pinned) SE_RETURN_IF_ERROR(pinned_.reserve(grown_bytes(bytes)));
  if (has_block) return Status::ok();
  SE_RETURN_IF_ERROR(block_.reserve(grown_bytes(bytes)));
  // Results are copied back as one block, with the gaps between arrays and what a call does not
  // ask for.
  return device_.check(cudaMemsetAsync(block_.data(), 0, block_.bytes(), stream),
                       "cudaMemsetAsync");
}

Status CallStaging::lend(uint64_t bytes, bool* is_lent) {
  *is_lent = false;
  if (is_lent_.exchange(true)) return Status::ok();
  Status status = reserve_lent(bytes, is_lent);
  if (!*is_lent) take_back();
  return status;
}

Status CallStaging::reserve_lent(uint64_t bytes, bool* is_ready) {
  *is_ready = bytes <= lent_block_.bytes();
  if (*is_ready) return Status::ok();
  const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
  if (!lock.owns_lock()) return Status::ok();
  ++generation_;
  SE_RETURN_IF_ERROR(lent_block_.reserve(grown_bytes(bytes)));
  *is_ready = true;
  return Status::ok();
}

}  // namespace sparse_experts::cuda
