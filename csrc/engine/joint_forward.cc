#include "engine/joint_forward.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/numeric.h"
#include "engine/forward_arrays.h"

namespace sparse_experts::engine {
namespace {

constexpr uint64_t kAlignment = 64;

// The others are budgets, which may be one figure for all rows, and sequence lengths, which only
// families with expert capacity read: their calls run alone.
constexpr int kJointArrays[] = {kHidden,  kRouterInputArray, kOutput,   kTokenIds,
                                kTopkIds, kTopkWeights,      kNonFinite};

bool has_array(const SeForwardArgs& args, int array) { return pointer_of(args, array) != nullptr; }

}  // namespace

bool can_run_as_one(const LayerState& layer, const SeForwardArgs& a, const SeForwardArgs& b) {
  if ((a.device_arrays | b.device_arrays) != 0 && !layer.executor().has_host_memory()) return false;
  if ((a.replay != 0) != (b.replay != 0) || a.hidden.dtype != b.hidden.dtype) return false;
  return std::all_of(std::begin(kJointArrays), std::end(kJointArrays),
                     [&](int array) { return has_array(a, array) == has_array(b, array); });
}

JointForward::JointForward(const LayerState& layer, std::vector<const SeForwardArgs*> calls,
                           const std::atomic<int32_t>& cancel)
    : layer_(layer.layer()), calls_(std::move(calls)), args_(*calls_.front()) {
  int64_t num_tokens = 0;
  for (const SeForwardArgs* call : calls_) num_tokens += call->select.num_tokens;
  args_.device_arrays = 0;
  args_.is_staged = 0;
  args_.cancel = reinterpret_cast<const int32_t*>(&cancel);
  args_.select.num_tokens = num_tokens;
  args_.select.sequence_lengths = nullptr;
  args_.select.num_sequences = 0;
  for (SeTensor* rows : {&args_.hidden, &args_.router_input, &args_.output}) {
    rows->shape[0] = num_tokens;
    rows->strides[0] = rows->shape[1];
  }
  uint64_t bytes = kAlignment;
  for (int array = 0; array < kNumForwardArrays; ++array) {
    bytes += kAlignment + static_cast<uint64_t>(num_tokens) * row_bytes(layer_, args_, array);
  }
  memory_.reset(new uint8_t[bytes]);
  next_ = memory_.get();
  for (const int array : kJointArrays) take_in(array);
  take_budgets();
}

uint8_t* JointForward::take(uint64_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(next_);
  uint8_t* const begin = next_ + (round_up(at, kAlignment) - at);
  next_ = begin + bytes;
  return begin;
}

void JointForward::take_in(int array) {
  if (!has_array(args_, array)) return;
  const uint64_t row = row_bytes(layer_, args_, array);
  uint8_t* to = take(static_cast<uint64_t>(args_.select.num_tokens) * row);
  set_pointer(&args_, array, to);
  if (is_result(args_, array)) {
    if (array == kNonFinite) std::memset(to, 0, static_cast<size_t>(args_.select.num_tokens));
    return;
  }
  for (const SeForwardArgs* call : calls_) {
    const uint64_t bytes = static_cast<uint64_t>(call->select.num_tokens) * row;
    if (bytes > 0) std::memcpy(to, pointer_of(*call, array), bytes);
    to += bytes;
  }
}

// A budget that is the same figure for all calls stays one.
void JointForward::take_budgets() {
  const SeSelectArgs& first = calls_.front()->select;
  bool is_one_top_k = true;
  bool is_one_top_p = true;
  for (const SeForwardArgs* call : calls_) {
    const SeSelectArgs& select = call->select;
    is_one_top_k =
        is_one_top_k && select.row_top_k == nullptr && select.call_top_k == first.call_top_k;
    is_one_top_p = is_one_top_p && select.row_top_p == nullptr && select.top_p == first.top_p;
  }
  const auto fill = [&](auto* to, const auto& rows_of, const auto& figure_of) {
    for (const SeForwardArgs* call : calls_) {
      const SeSelectArgs& select = call->select;
      const auto* rows = rows_of(select);
      if (rows != nullptr) {
        std::copy_n(rows, select.num_tokens, to);
      } else {
        std::fill_n(to, select.num_tokens, figure_of(select));
      }
      to += select.num_tokens;
    }
  };
  const auto num_tokens = static_cast<uint64_t>(args_.select.num_tokens);
  args_.select.row_top_k = nullptr;
  args_.select.row_top_p = nullptr;
  if (!is_one_top_k) {
    auto* const rows = take(num_tokens);
    args_.select.row_top_k = rows;
    fill(
        rows, [](const SeSelectArgs& select) { return select.row_top_k; },
        [](const SeSelectArgs& select) { return static_cast<uint8_t>(select.call_top_k); });
  }
  if (!is_one_top_p) {
    auto* const rows = reinterpret_cast<double*>(take(num_tokens * sizeof(double)));
    args_.select.row_top_p = rows;
    fill(
        rows, [](const SeSelectArgs& select) { return select.row_top_p; },
        [](const SeSelectArgs& select) { return select.top_p; });
  }
}

void JointForward::hand_out() const {
  for (const int array : kJointArrays) {
    if (!has_array(args_, array) || !is_result(args_, array)) continue;
    const uint64_t row = row_bytes(layer_, args_, array);
    const auto* from = static_cast<const uint8_t*>(pointer_of(args_, array));
    for (const SeForwardArgs* call : calls_) {
      const uint64_t bytes = static_cast<uint64_t>(call->select.num_tokens) * row;
      if (bytes > 0) std::memcpy(pointer_of(*call, array), from, bytes);
      from += bytes;
    }
  }
}

}  // namespace sparse_experts::engine
