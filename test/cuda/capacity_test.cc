// Expert capacity, selection included, against plain loops: Switch Transformers per sequence and
// NLLB-MoE over the batch. Flagged rows take no room.
#include "cuda/ops/capacity.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/ops/select.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("capacity");

using sparse_experts::cuda::capacity_scratch_bytes;
using sparse_experts::cuda::CapacityKernelArgs;
using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::launch_capacity;
using sparse_experts::cuda::launch_select;
using sparse_experts::cuda::SelectKernelArgs;

struct Call {
  SeRouting routing = {};
  int64_t num_tokens = 0;
  std::vector<float> logits;
  std::vector<int32_t> lengths;  // empty: one sequence
  std::vector<uint8_t> row_top_k;
  std::vector<float> per_expert_scale;
};

struct Result {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

bool run_call(const Call& call, const DeviceLimits& limits, const std::string& what, Result* out) {
  constexpr int64_t kGuard = 64;
  const int64_t num_slots = call.num_tokens * call.routing.top_k;
  const DeviceArray<float> logits(call.logits);
  const DeviceArray<int32_t> lengths(call.lengths);
  const DeviceArray<uint8_t> row_top_k(call.row_top_k);
  const DeviceArray<float> per_expert_scale(call.per_expert_scale);
  const DeviceArray<int32_t> ids(num_slots + kGuard);
  const DeviceArray<float> weights(num_slots + kGuard);
  const DeviceArray<uint8_t> flags(call.num_tokens);
  const DeviceArray<double> slot_scores(num_slots + kGuard);
  const DeviceArray<double> best_scores(call.num_tokens + kGuard);
  const int64_t scratch_bytes =
      static_cast<int64_t>(capacity_scratch_bytes(call.routing, call.num_tokens));
  const DeviceArray<uint8_t> scratch(scratch_bytes + kGuard);
  SeRouting routing = call.routing;
  if (!call.per_expert_scale.empty()) routing.per_expert_scale = per_expert_scale;
  SelectKernelArgs select = {};
  select.logits.partials = logits;
  select.logits.num_splits = 1;
  select.routing = routing;
  select.num_tokens = call.num_tokens;
  if (!call.row_top_k.empty()) select.row_top_k = row_top_k;
  select.call_top_k = routing.top_k;
  select.top_p = 1;
  select.topk_ids = ids;
  select.topk_weights = weights;
  select.non_finite = flags;
  if (routing.capacity == SE_CAPACITY_BATCH) {
    select.slot_scores = slot_scores;
    select.best_scores = best_scores;
  }
  CapacityKernelArgs args = {};
  args.routing = routing;
  args.num_tokens = call.num_tokens;
  if (!call.lengths.empty()) args.sequence_lengths = lengths;
  args.num_sequences = static_cast<int64_t>(call.lengths.size());
  args.topk_ids = ids;
  args.topk_weights = weights;
  args.non_finite = flags;
  args.slot_scores = select.slot_scores;
  args.best_scores = select.best_scores;
  args.scratch = scratch;
  if (!synced(launch_select(select, limits, nullptr), what + ": select")) return false;
  if (!synced(launch_capacity(args, nullptr), what + ": capacity")) return false;
  out->ids = ids.download();
  out->weights = weights.download();
  const size_t slots = static_cast<size_t>(num_slots);
  check_poison(out->ids, slots, kGuard, what + ": behind ids");
  check_poison(out->weights, slots, kGuard, what + ": behind weights");
  check_poison(slot_scores.download(), slots, kGuard, what + ": behind slot_scores");
  check_poison(best_scores.download(), static_cast<size_t>(call.num_tokens), kGuard,
               what + ": behind best_scores");
  check_poison(scratch.download(), static_cast<size_t>(scratch_bytes), kGuard,
               what + ": behind scratch");
  out->ids.resize(slots);
  out->weights.resize(slots);
  return true;
}

bool is_flagged(const Call& call, int64_t token) {
  const int64_t n = call.routing.num_experts;
  for (int64_t e = 0; e < n; ++e)
    if (!std::isfinite(call.logits[static_cast<size_t>(token * n + e)])) return true;
  return false;
}

// Ids and unnormalised scores before any capacity, from the oracle; flagged rows: -1.
struct Choices {
  std::vector<int32_t> ids;
  std::vector<double> scores;
  std::vector<double> best;
};

Choices choices_of(const Call& call) {
  SeRouting routing = call.routing;
  routing.capacity = SE_CAPACITY_NONE;
  routing.normalization = SE_NORM_NONE;
  routing.scaling_factor = 1;
  routing.per_expert_scale = nullptr;
  std::vector<double> logits = to_doubles(call.logits);
  for (double& z : logits) z = std::isfinite(z) ? z : 0;
  SeSelectArgs args = {};
  args.num_tokens = call.num_tokens;
  args.call_top_k = routing.top_k;
  args.row_top_k = call.row_top_k.empty() ? nullptr : call.row_top_k.data();
  args.top_p = 1;
  const OracleRouting all = oracle_select(routing, args, logits);
  Choices out = {all.ids, all.weights, {}};
  const int64_t n = routing.num_experts;
  for (int64_t t = 0; t < call.num_tokens; ++t) {
    double sum = 0;
    double largest = -INFINITY;
    for (int64_t e = 0; e < n; ++e)
      largest = std::max(largest, logits[static_cast<size_t>(t * n + e)]);
    for (int64_t e = 0; e < n; ++e)
      sum += std::exp(logits[static_cast<size_t>(t * n + e)] - largest);
    out.best.push_back(1 / sum);
    if (is_flagged(call, t)) {
      for (int64_t k = 0; k < routing.top_k; ++k)
        out.ids[static_cast<size_t>(t * routing.top_k + k)] = -1;
    }
  }
  return out;
}

double divisor_of(const Call& call, const Choices& c, int64_t token) {
  const SeRouting& r = call.routing;
  double sum = 0;
  for (int64_t slot = token * r.top_k; slot < (token + 1) * r.top_k; ++slot)
    if (c.ids[static_cast<size_t>(slot)] >= 0) sum += c.scores[static_cast<size_t>(slot)];
  if (r.normalization == SE_NORM_FLOOR) return std::max(sum, r.norm_value);
  return r.normalization == SE_NORM_SUM ? sum + r.norm_value : 1;
}

void limit_per_sequence(const Call& call, Choices* c) {
  const SeRouting& r = call.routing;
  const std::vector<int32_t> lengths =
      call.lengths.empty() ? std::vector<int32_t>{static_cast<int32_t>(call.num_tokens)}
                           : call.lengths;
  int64_t token = 0;
  for (const int32_t length : lengths) {
    std::vector<int64_t> used(static_cast<size_t>(r.num_experts), 0);
    for (const int64_t end = token + length; token < end; ++token) {
      for (int64_t k = 0; k < r.top_k; ++k) {
        int32_t& id = c->ids[static_cast<size_t>(token * r.top_k + k)];
        if (id >= 0 && ++used[static_cast<size_t>(id)] > r.expert_capacity) id = -1;
      }
    }
  }
}

void limit_batch(const Call& call, Choices* c) {
  const SeRouting& r = call.routing;
  double room =
      2 * std::ceil(static_cast<double>(call.num_tokens) / static_cast<double>(r.num_experts));
  if (r.expert_capacity > 0) room = static_cast<double>(r.expert_capacity);
  if (r.capacity_token_fraction > 0)
    room = std::ceil(r.capacity_token_fraction * static_cast<double>(call.num_tokens));
  std::vector<int64_t> order(static_cast<size_t>(call.num_tokens));
  std::iota(order.begin(), order.end(), 0);
  if (r.batch_prioritized)
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return c->best[static_cast<size_t>(a)] > c->best[static_cast<size_t>(b)];
    });
  std::vector<int64_t> used(static_cast<size_t>(r.num_experts), 0);
  for (int64_t k = 0; k < r.top_k; ++k) {
    for (const int64_t token : order) {
      int32_t& id = c->ids[static_cast<size_t>(token * r.top_k + k)];
      if (id >= 0 && static_cast<double>(used[static_cast<size_t>(id)]++) >= room) id = -1;
    }
  }
}

void check_call(const Call& call, const DeviceLimits& limits, const std::string& what) {
  Result out;
  if (!run_call(call, limits, what, &out)) return;
  Choices c = choices_of(call);
  const int64_t top_k = call.routing.top_k;
  std::vector<double> divisors;
  const auto take_divisors = [&] {
    for (int64_t t = 0; t < call.num_tokens; ++t) divisors.push_back(divisor_of(call, c, t));
  };
  // Per sequence, weights are final before slots are dropped.
  const bool before =
      call.routing.capacity == SE_CAPACITY_PER_SEQUENCE || call.routing.normalize_before_dropping;
  if (before) take_divisors();
  if (call.routing.capacity == SE_CAPACITY_PER_SEQUENCE) {
    limit_per_sequence(call, &c);
  } else {
    limit_batch(call, &c);
  }
  if (!before) take_divisors();
  Every flagged, ids, weights;
  for (int64_t slot = 0; slot < call.num_tokens * top_k; ++slot) {
    const size_t i = static_cast<size_t>(slot);
    const int64_t token = slot / top_k;
    if (is_flagged(call, token)) {
      flagged.that(out.ids[i] == slot % top_k && std::isnan(out.weights[i]));
      continue;
    }
    ids.equal(out.ids[i], c.ids[i]);
    double wanted = 0;
    if (c.ids[i] >= 0) {
      wanted = c.scores[i] / divisors[static_cast<size_t>(token)] * call.routing.scaling_factor;
      if (!call.per_expert_scale.empty())
        wanted *= static_cast<double>(call.per_expert_scale[static_cast<size_t>(c.ids[i])]);
    }
    weights.near(static_cast<double>(out.weights[i]), wanted, 2e-7 * std::fabs(wanted));
  }
  flagged.check(what + ": flagged rows keep their ids and NaN");
  ids.check(what + ": experts of slots");
  weights.check(what + ": weights of slots");
}

Call call_of(Random& random, int64_t num_tokens, int64_t num_experts, int64_t top_k,
             int32_t capacity) {
  Call call;
  call.num_tokens = num_tokens;
  call.routing.scoring = SE_SOFTMAX;
  call.routing.num_experts = num_experts;
  call.routing.top_k = top_k;
  call.routing.num_expert_groups = 1;
  call.routing.topk_group = 1;
  call.routing.scaling_factor = 1;
  call.routing.capacity = capacity;
  // Some experts are in demand, and some rows are alike.
  call.logits = random_array<float>(random, num_tokens * num_experts);
  for (int64_t t = 0; t < num_tokens; ++t) {
    call.logits[static_cast<size_t>(t * num_experts + random.below(num_experts) / 3)] += 2;
    if (t > 0 && random.below(4) == 0) {
      const int64_t other = random.below(t);
      std::copy_n(call.logits.begin() + other * num_experts, num_experts,
                  call.logits.begin() + t * num_experts);
    }
  }
  return call;
}

void flag_some(Random& random, Call* call) {
  for (int64_t t = 0; t < call->num_tokens; ++t) {
    if (random.below(5) != 0) continue;
    call->logits[static_cast<size_t>(t * call->routing.num_experts +
                                     random.below(call->routing.num_experts))] =
        random.below(2) != 0 ? NAN : -INFINITY;
  }
}

// `count` lengths of 0 or more that sum to num_tokens.
std::vector<int32_t> make_lengths(Random& random, int64_t num_tokens, int64_t count) {
  std::vector<int32_t> lengths(static_cast<size_t>(count), 0);
  for (int64_t t = 0; t < num_tokens; ++t) ++lengths[static_cast<size_t>(random.below(count))];
  return lengths;
}

TEST_CASE("per sequence") {
  Random random(20261127);
  const DeviceLimits& limits = current().limits;
  for (const int64_t num_tokens : {1, 31, 33, 128, 129, 700}) {
    for (const int64_t num_experts : {1, 8, 61, 130}) {
      for (const int64_t top_k : {1, 2}) {
        if (top_k > num_experts) continue;
        for (const int64_t num_sequences : {0, 1, 7, 1500}) {
          if (num_sequences == 1500 && num_tokens != 700) continue;
          Call call = call_of(random, num_tokens, num_experts, top_k, SE_CAPACITY_PER_SEQUENCE);
          call.routing.expert_capacity = 1 + random.below(6);
          if (num_sequences > 0) call.lengths = make_lengths(random, num_tokens, num_sequences);
          if (random.below(2) != 0) flag_some(random, &call);
          if (random.below(3) == 0)
            for (int64_t t = 0; t < num_tokens; ++t)
              call.row_top_k.push_back(static_cast<uint8_t>(random.below(top_k + 1)));
          check_call(call, limits,
                     "per sequence T " + std::to_string(num_tokens) + " E " +
                         std::to_string(num_experts) + " k " + std::to_string(top_k) +
                         " sequences " + std::to_string(num_sequences));
        }
      }
    }
  }
  // Sequences that end where windows of slots do, and empty ones in between.
  Call call = call_of(random, 256, 4, 1, SE_CAPACITY_PER_SEQUENCE);
  call.routing.expert_capacity = 5;
  call.lengths = {0, 32, 0, 0, 1, 31, 64, 127, 0, 1, 0};
  check_call(call, limits, "per sequence, at the windows' ends");
}

TEST_CASE("batch") {
  Random random(20261127);
  const DeviceLimits& limits = current().limits;
  int turn = 0;
  for (const int64_t num_tokens : {1, 31, 32, 127, 129, 257, 600}) {
    for (const int64_t num_experts : {2, 8, 61}) {
      for (int variant = 0; variant < 8; ++variant) {
        Call call = call_of(random, num_tokens, num_experts, 2, SE_CAPACITY_BATCH);
        call.routing.batch_prioritized = variant & 1;
        call.routing.normalize_before_dropping = variant >> 1 & 1;
        call.routing.normalization = (variant & 4) != 0 ? SE_NORM_FLOOR : SE_NORM_SUM;
        call.routing.norm_value = (variant & 4) != 0 ? 0.4 : 1e-9;
        switch (turn++ % 3) {
          case 0:
            break;  // derived
          case 1:
            call.routing.expert_capacity = 1 + random.below(20);
            break;
          default:
            call.routing.capacity_token_fraction = 0.1;
            break;
        }
        if (turn % 2 == 0) flag_some(random, &call);
        if (turn % 5 == 0) {
          call.routing.scaling_factor = 1.5;
          call.per_expert_scale = random_array<float>(random, num_experts);
        }
        if (turn % 4 == 0)
          for (int64_t t = 0; t < num_tokens; ++t)
            call.row_top_k.push_back(static_cast<uint8_t>(random.below(3)));
        const std::string what = "batch T " + std::to_string(num_tokens) + " E " +
                                 std::to_string(num_experts) + " variant " +
                                 std::to_string(variant);
        check_call(call, limits, what);
        if (variant == 3) {
          Result first;
          Result second;
          if (run_call(call, limits, what, &first) && run_call(call, limits, what, &second))
            CHECK_MESSAGE(
                (same_bits(first.ids, second.ids) && same_bits(first.weights, second.weights)),
                what, ": rerun");
        }
      }
    }
  }
}

// The rule that the CPU's oracle spells out for top-2, where no row is flagged.
TEST_CASE("against oracle") {
  Random random(20261127);
  const DeviceLimits& limits = current().limits;
  for (const bool prioritized : {false, true}) {
    Call call = call_of(random, 200, 10, 2, SE_CAPACITY_BATCH);
    call.routing.batch_prioritized = prioritized;
    call.routing.normalization = SE_NORM_FLOOR;
    call.routing.norm_value = 1e-6;
    SeSelectArgs args = {};
    args.num_tokens = 200;
    args.call_top_k = 2;
    args.top_p = 1;
    const OracleRouting expected = oracle_select(call.routing, args, to_doubles(call.logits));
    Result out;
    const std::string what = std::string("batch, oracle") + (prioritized ? ", prioritized" : "");
    if (!run_call(call, limits, what, &out)) continue;
    check_equal(out.ids, expected.ids, what);
    check_close(to_doubles(out.weights), expected.weights, 1e-7, what);
  }
}

TEST_CASE("capacity") {
  CapacityKernelArgs args = {};
  args.routing.top_k = 1;
  CHECK_MESSAGE(launch_capacity(args, nullptr) == cudaSuccess, "capacity: no tokens");
  args.num_tokens = 5;
  CHECK_MESSAGE(launch_capacity(args, nullptr) == cudaSuccess, "capacity: a family without it");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
