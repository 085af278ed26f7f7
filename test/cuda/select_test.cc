// Selection against the oracle in double: every rule, awkward numbers of experts, ties, rows that
// are not finite; the same bits alone, in a batch, and with any number of warps per token.
#include "cuda/ops/select.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/harness.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("select");

using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::launch_select;
using sparse_experts::cuda::SelectKernelArgs;

// A call on host arrays. Empty vectors: not given.
struct Call {
  SeRouting routing = {};
  int64_t num_tokens = 0;
  std::vector<float> logits;
  std::vector<float> selection_bias;
  std::vector<float> per_expert_scale;
  std::vector<int32_t> hash_table;
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> row_top_k;
  int64_t call_top_k = 0;
  std::vector<double> row_top_p;
  double top_p = 1;
  // The logits as splits to add; empty: `logits` is the one split.
  std::vector<float> partials;
  int32_t num_splits = 1;
  std::vector<float> router_bias;
};

struct Result {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<uint8_t> flags;
};

SeRouting routing_of(int64_t num_experts, int64_t top_k, int32_t scoring) {
  SeRouting routing = {};
  routing.scoring = scoring;
  routing.num_experts = num_experts;
  routing.top_k = top_k;
  routing.num_expert_groups = 1;
  routing.topk_group = 1;
  routing.scaling_factor = 1;
  return routing;
}

Call call_of(Random& random, int64_t num_tokens, int64_t num_experts, int64_t top_k,
             int32_t scoring) {
  Call call;
  call.routing = routing_of(num_experts, top_k, scoring);
  call.num_tokens = num_tokens;
  call.logits = random_array<float>(random, num_tokens * num_experts, 2);
  call.call_top_k = top_k;
  return call;
}

// Many SMs: several warps per token; one SM: one warp, four tokens per block.
DeviceLimits with_multiprocessors(DeviceLimits limits, int32_t count) {
  limits.num_multiprocessors = count;
  return limits;
}

template <typename T>
const T* or_null(const DeviceArray<T>& array) {
  return array.size() > 0 ? array.data() : nullptr;
}

bool run_select(const Call& call, const DeviceLimits& limits, const std::string& what,
                Result* out) {
  constexpr int64_t kGuard = 64;
  const int64_t num_slots = call.num_tokens * call.routing.top_k;
  const DeviceArray<float> partials(call.partials.empty() ? call.logits : call.partials);
  const DeviceArray<float> router_bias(call.router_bias);
  const DeviceArray<float> selection_bias(call.selection_bias);
  const DeviceArray<float> per_expert_scale(call.per_expert_scale);
  const DeviceArray<int32_t> hash_table(call.hash_table);
  const DeviceArray<int32_t> token_ids(call.token_ids);
  const DeviceArray<uint8_t> row_top_k(call.row_top_k);
  const DeviceArray<double> row_top_p(call.row_top_p);
  const DeviceArray<int32_t> ids(num_slots + kGuard);
  const DeviceArray<float> weights(num_slots + kGuard);
  const DeviceArray<uint8_t> flags(call.num_tokens + kGuard);
  SelectKernelArgs args = {};
  args.logits.partials = partials;
  args.logits.num_splits = call.num_splits;
  args.logits.bias = or_null(router_bias);
  args.routing = call.routing;
  args.routing.selection_bias = or_null(selection_bias);
  args.routing.per_expert_scale = or_null(per_expert_scale);
  args.routing.hash_table = or_null(hash_table);
  args.num_tokens = call.num_tokens;
  args.token_ids = or_null(token_ids);
  args.row_top_k = or_null(row_top_k);
  args.call_top_k = call.call_top_k;
  args.row_top_p = or_null(row_top_p);
  args.top_p = call.top_p;
  args.topk_ids = ids;
  args.topk_weights = weights;
  args.non_finite = flags;
  if (!synced(launch_select(args, limits, nullptr), what)) return false;
  out->ids = ids.download();
  out->weights = weights.download();
  out->flags = flags.download();
  check_poison(out->ids, static_cast<size_t>(num_slots), kGuard, what + ": behind ids");
  check_poison(out->weights, static_cast<size_t>(num_slots), kGuard, what + ": behind weights");
  check_poison(out->flags, static_cast<size_t>(call.num_tokens), kGuard, what + ": behind flags");
  out->ids.resize(static_cast<size_t>(num_slots));
  out->weights.resize(static_cast<size_t>(num_slots));
  out->flags.resize(static_cast<size_t>(call.num_tokens));
  return true;
}

bool same_result(const Result& a, const Result& b) {
  return same_bits(a.ids, b.ids) && same_bits(a.weights, b.weights) && same_bits(a.flags, b.flags);
}

// All launch forms give the same bits; returns one of them.
bool run_all_forms(const Call& call, const DeviceLimits& limits, const std::string& what,
                   Result* out) {
  Result one_warp;
  if (!run_select(call, with_multiprocessors(limits, 1 << 20), what + " (team)", out) ||
      !run_select(call, with_multiprocessors(limits, 0), what + " (warp)", &one_warp))
    return false;
  return CHECK_MESSAGE(same_result(*out, one_warp), what,
                       ": one warp and a team give the same bits");
}

OracleRouting oracle_of(const Call& call) {
  SeRouting routing = call.routing;
  const auto pointer = [](const auto& values) { return values.empty() ? nullptr : values.data(); };
  routing.selection_bias = pointer(call.selection_bias);
  routing.per_expert_scale = pointer(call.per_expert_scale);
  routing.hash_table = pointer(call.hash_table);
  SeSelectArgs args = {};
  args.num_tokens = call.num_tokens;
  args.token_ids = pointer(call.token_ids);
  args.row_top_k = pointer(call.row_top_k);
  args.call_top_k = call.call_top_k;
  args.row_top_p = pointer(call.row_top_p);
  args.top_p = call.top_p;
  return oracle_select(routing, args, to_doubles(call.logits));
}

// Every weight within f32's rounding of the oracle's: a relative error, slot by slot.
bool check_result(const Call& call, const Result& out, const std::string& what) {
  const OracleRouting expected = oracle_of(call);
  const size_t top_k = static_cast<size_t>(call.routing.top_k);
  Every flags, ids, weights;
  for (size_t slot = 0; slot < out.ids.size(); ++slot) {
    const size_t token = slot / top_k;
    flags.equal(int{out.flags[token]}, 0);
    // A gap of some f64 roundings may fall either way; exact ties may not.
    const double margin = expected.margins[token];
    if (margin > 0 && margin < 1e-14) continue;
    ids.equal(out.ids[slot], expected.ids[slot]);
    const double wanted = out.ids[slot] < 0 ? 0 : expected.weights[slot];
    weights.near(static_cast<double>(out.weights[slot]), wanted, 2e-7 * std::fabs(wanted) + 1e-44);
  }
  const bool good = flags.check(what + ": flags of slots");
  return ids.check(what + ": experts") && weights.check(what + ": weights") && good;
}

void check_call(const Call& call, const DeviceLimits& limits, const std::string& what) {
  Result out;
  if (run_all_forms(call, limits, what, &out)) check_result(call, out, what);
}

std::string name_of(const Call& call, const std::string& more) {
  return "select E " + std::to_string(call.routing.num_experts) + " k " +
         std::to_string(call.routing.top_k) + " scoring " + std::to_string(call.routing.scoring) +
         " " + more;
}

TEST_CASE("sizes") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  constexpr int32_t kScorings[] = {SE_SOFTMAX, SE_SIGMOID, SE_SQRT_SOFTPLUS, SE_TOPK_SOFTMAX,
                                   SE_TOPK_SIGMOID};
  int turn = 0;
  for (const int64_t num_experts : {1,   2,   3,   31,  60,  63,  65,   127,  160,  192, 255,
                                    257, 288, 384, 512, 576, 896, 1023, 1024, 1025, 4096}) {
    for (const int64_t top_k : {1, 2, 6, 8, 10, 22, 64}) {
      if (top_k > num_experts) continue;
      Call call = call_of(random, 3, num_experts, top_k, kScorings[turn++ % 5]);
      if (turn % 3 == 0) call.selection_bias = random_array<float>(random, num_experts, 0.5);
      if (turn % 4 == 0) call.routing.normalization = SE_NORM_SUM;
      check_call(call, limits, name_of(call, "sizes"));
    }
    // As many as there are.
    if (num_experts <= 600) {
      Call call = call_of(random, 2, num_experts, num_experts, kScorings[turn % 5]);
      check_call(call, limits, name_of(call, "all experts"));
    }
  }
}

// Plain softmax routing has a kernel of its own: the bits of the general one, which a top_p for each row
// asks for even where it cuts nothing.
TEST_CASE("plain softmax") {
  Random random(20261130);
  const DeviceLimits& limits = current().limits;
  for (const int64_t num_experts : {1, 2, 31, 33, 60, 64, 65, 100, 128, 129, 200, 255, 256, 257}) {
    for (const int64_t top_k : {1, 4, 8, 31, 32, 33}) {
      if (top_k > num_experts) continue;
      for (const int32_t normalization : {SE_NORM_NONE, SE_NORM_SUM, SE_NORM_FLOOR}) {
        Call call = call_of(random, 9, num_experts, top_k, SE_SOFTMAX);
        call.routing.normalization = normalization;
        call.routing.norm_value = normalization == SE_NORM_FLOOR ? 0.3 : 1e-20;
        call.routing.scaling_factor = 2.5;
        if (top_k % 2 == 0) call.per_expert_scale = random_array<float>(random, num_experts, 1);
        call.call_top_k = std::max<int64_t>(0, top_k - random.below(3));
        for (int64_t t = 0; t < 9 && top_k == 8; ++t)
          call.row_top_k.push_back(static_cast<uint8_t>(random.below(top_k + 2)));
        const size_t experts = static_cast<size_t>(num_experts);
        for (size_t e = 0; e < experts; ++e) {
          // Different logits, equal probabilities: less than a rounding of the largest apart, or all 0.
          call.logits[e] = e == experts / 2 ? 5.0f : 1e-30f * static_cast<float>(e % 7);
          call.logits[experts + e] = e == experts / 2 ? 3e38f : static_cast<float>(e % 5) * -1e37f;
          call.logits[2 * experts + e] = static_cast<float>(random.below(3));
        }
        call.logits[3 * experts + static_cast<size_t>(random.below(num_experts))] = NAN;
        Call general = call;
        general.row_top_p.assign(9, 1.0);
        Result out;
        Result expected;
        const std::string what = name_of(call, "plain softmax");
        if (!run_all_forms(call, limits, what, &out) ||
            !run_all_forms(general, limits, what, &expected))
          continue;
        CHECK_MESSAGE(same_result(out, expected), what, ": the bits of the general kernel");
      }
    }
  }
}

// The winner may sit anywhere.
TEST_CASE("planted") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX}) {
    for (const int64_t top_k : {1, 8}) {
      Call call = call_of(random, 300, 300, top_k, scoring);
      for (int64_t t = 0; t < 300; ++t) call.logits[static_cast<size_t>(t * 300 + t)] = 12;
      Result out;
      const std::string what = name_of(call, "planted winner");
      if (!run_all_forms(call, limits, what, &out)) continue;
      Every first;
      for (int64_t t = 0; t < 300; ++t) first.equal(out.ids[static_cast<size_t>(t * top_k)], t);
      first.check(what + ": leads everywhere");
      check_result(call, out, what);
    }
  }
}

TEST_CASE("ties") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int64_t num_experts : {1, 8, 60, 257, 1024}) {
    for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_SQRT_SOFTPLUS, SE_TOPK_SOFTMAX}) {
      const int64_t top_k = std::min<int64_t>(8, num_experts);
      Call call = call_of(random, 6, num_experts, top_k, scoring);
      for (size_t i = 0; i < call.logits.size(); ++i) {
        const size_t token = i / static_cast<size_t>(num_experts);
        if (token == 0) call.logits[i] = 0.5f;                                 // all equal
        if (token == 1) call.logits[i] = random.below(2) != 0 ? 0.0f : -0.0f;  // all zero
        if (token > 1) call.logits[i] = static_cast<float>(random.below(3));   // three levels
      }
      Result out;
      const std::string what = name_of(call, "ties");
      if (!run_all_forms(call, limits, what, &out)) continue;
      for (int64_t slot = 0; slot < 2 * top_k; ++slot) {
        if (out.ids[static_cast<size_t>(slot)] != slot % top_k)
          CHECK_MESSAGE(false, what, ": the lower index first");
      }
      check_result(call, out, what);
    }
  }
}

TEST_CASE("not finite") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int64_t num_experts : {1, 60, 300}) {
    for (const int32_t scoring :
         {SE_SOFTMAX, SE_SIGMOID, SE_SQRT_SOFTPLUS, SE_TOPK_SOFTMAX, SE_TOPK_SIGMOID}) {
      const int64_t top_k = std::min<int64_t>(6, num_experts);
      const Call good = call_of(random, 12, num_experts, top_k, scoring);
      Call bad = good;
      const std::vector<int64_t> rows = {1, 2, 4, 5, 7, 8, 11};
      for (size_t i = 0; i < rows.size(); ++i) {
        float* const row = bad.logits.data() + rows[i] * num_experts;
        const float value = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        if (i < 3)
          std::fill_n(row, num_experts, value);
        else
          row[i == 4 ? num_experts - 1 : random.below(num_experts)] = value;
      }
      // Neither of these changes what a flagged row gets.
      bad.top_p = 0.5;
      Call good_cut = good;
      good_cut.top_p = 0.5;
      Result out;
      Result clean;
      const std::string what = name_of(bad, "not finite");
      if (!run_all_forms(bad, limits, what, &out) || !run_all_forms(good_cut, limits, what, &clean))
        continue;
      Every flagged;
      Every untouched;
      for (int64_t t = 0; t < 12; ++t) {
        const bool is_bad = std::find(rows.begin(), rows.end(), t) != rows.end();
        flagged.equal(out.flags[static_cast<size_t>(t)], (is_bad ? 1 : 0));
        for (int64_t k = 0; k < top_k; ++k) {
          const size_t slot = static_cast<size_t>(t * top_k + k);
          if (is_bad) {
            flagged.that(out.ids[slot] == k && std::isnan(out.weights[slot]));
          } else {
            untouched.that(out.ids[slot] == clean.ids[slot] &&
                           out.weights[slot] == clean.weights[slot]);
          }
        }
      }
      flagged.check(what + ": ids 0 to k - 1, NaN weights, a flag");
      untouched.check(what + ": other rows keep their bits");
      check_result(good_cut, clean, what);
    }
  }
}

TEST_CASE("groups") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  struct Groups {
    int64_t num_experts, num_groups, kept, top_k;
  };
  for (const Groups& g : std::vector<Groups>{{256, 8, 4, 8},
                                             {160, 8, 3, 6},
                                             {60, 4, 2, 4},
                                             {12, 12, 5, 5},
                                             {64, 32, 32, 8},
                                             {63, 7, 1, 9},
                                             {300, 100, 40, 22},
                                             {6, 2, 1, 1}}) {
    for (const int32_t rule : {SE_GROUP_MAX, SE_GROUP_TOP2_SUM, SE_GROUP_TOP2_SUM_ZEROED}) {
      for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX}) {
        for (const bool biased : {false, true}) {
          Call call = call_of(random, 5, g.num_experts, g.top_k, scoring);
          call.routing.num_expert_groups = g.num_groups;
          call.routing.topk_group = g.kept;
          call.routing.group_score = rule;
          // Far below 0: a mask of 0 would win.
          if (biased) {
            call.selection_bias = random_array<float>(random, g.num_experts, 0.3);
            for (float& value : call.selection_bias) value -= 3;
          }
          // One row of ties between whole groups.
          std::fill_n(call.logits.begin(), g.num_experts, 1.0f);
          check_call(call, limits,
                     name_of(call, "groups " + std::to_string(g.num_groups) + "/" +
                                       std::to_string(g.kept) + " rule " + std::to_string(rule)));
        }
      }
    }
  }
}

// Every scoring x normalisation x scale, with and without a soft-cap.
TEST_CASE("weights") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  struct Norm {
    int32_t kind;
    double value;
  };
  for (const int32_t scoring :
       {SE_SOFTMAX, SE_SIGMOID, SE_SQRT_SOFTPLUS, SE_TOPK_SOFTMAX, SE_TOPK_SIGMOID}) {
    for (const Norm& norm :
         {Norm{SE_NORM_NONE, 0}, Norm{SE_NORM_SUM, 1e-20}, Norm{SE_NORM_SUM, 0},
          Norm{SE_NORM_FLOOR, 0.3}, Norm{SE_NORM_P, 1}, Norm{SE_NORM_P, 2}, Norm{SE_NORM_P, 2.5}}) {
      for (int variant = 0; variant < 8; ++variant) {
        Call call = call_of(random, 4, 60, 6, scoring);
        call.routing.normalization = norm.kind;
        call.routing.norm_value = norm.value;
        call.routing.scaling_factor = (variant & 1) != 0 ? 2.5 : 1;
        if ((variant & 2) != 0) call.per_expert_scale = random_array<float>(random, 60);
        if ((variant & 4) != 0) call.routing.logit_softcap = 3;
        if (variant == 5) call.selection_bias = random_array<float>(random, 60);
        if (variant == 6) call.call_top_k = 4;
        if (variant == 7) call.top_p = 0.6;
        check_call(call, limits,
                   name_of(call, "norm " + std::to_string(norm.kind) + " variant " +
                                     std::to_string(variant)));
      }
    }
  }
}

// Logits at which exponentials overflow or vanish.
TEST_CASE("extremes") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t scoring :
       {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX, SE_TOPK_SIGMOID, SE_SQRT_SOFTPLUS}) {
    for (const float size : {40.0f, 600.0f}) {
      Call call = call_of(random, 4, 33, 4, scoring);
      for (float& z : call.logits) z *= size / 2;
      // The oracle's exponential overflows where the device's does not.
      if (scoring == SE_SQRT_SOFTPLUS && size > 100) continue;
      check_call(call, limits, name_of(call, "extreme logits"));
    }
  }
  for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX, SE_SQRT_SOFTPLUS}) {
    Call call = call_of(random, 3, 70, 8, scoring);
    for (float& z : call.logits)
      z = static_cast<float>(std::clamp(random.normal(), -3.0, 3.0)) * 1e38f;
    Result out;
    const std::string what = name_of(call, "largest floats");
    if (!run_all_forms(call, limits, what, &out)) continue;
    Every good;
    for (const float w : out.weights) good.that(std::isfinite(w));
    for (const int32_t id : out.ids) good.that(id >= 0 && id < 70);
    good.check(what);
  }
}

TEST_CASE("top_k and top_p") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t scoring :
       {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX, SE_TOPK_SIGMOID, SE_SQRT_SOFTPLUS}) {
    for (const int64_t top_k : {1, 6, 40}) {
      for (const double top_p : {1.0, 0.95, 0.5, 1e-9}) {
        for (const int32_t norm : {SE_NORM_NONE, SE_NORM_SUM}) {
          Call call = call_of(random, 9, 65, top_k, scoring);
          call.routing.normalization = norm;
          call.routing.norm_value = 1e-20;
          call.top_p = top_p;
          // The largest scores need not come first where a bias ranks them.
          if (top_k == 6) call.selection_bias = random_array<float>(random, 65, 2);
          for (int64_t t = 0; t < 9; ++t)
            call.row_top_k.push_back(
                static_cast<uint8_t>(t < 2 ? t * top_k : random.below(top_k + 1)));
          check_call(call, limits, name_of(call, "row_top_k, top_p " + std::to_string(top_p)));
          call.row_top_k.clear();
          call.call_top_k = random.below(top_k + 1);
          check_call(call, limits, name_of(call, "call_top_k, top_p " + std::to_string(top_p)));
          for (int64_t t = 0; t < 9; ++t) call.row_top_p.push_back(t % 2 == 0 ? top_p : 1);
          check_call(call, limits, name_of(call, "top_p per row " + std::to_string(top_p)));
        }
      }
    }
  }
  // Ties among shares: the earlier slot stays.
  Call call = call_of(random, 2, 16, 8, SE_SIGMOID);
  std::fill(call.logits.begin(), call.logits.end(), 0.0f);
  call.top_p = 0.5;
  check_call(call, limits, name_of(call, "top_p over ties"));
}

TEST_CASE("hash") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t scoring : {SE_SQRT_SOFTPLUS, SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX}) {
    for (const int64_t num_experts : {8, 256}) {
      Call call = call_of(random, 20, num_experts, 6, scoring);
      call.routing.hash_routed = 1;
      call.routing.vocab_size = 50;
      call.routing.normalization = SE_NORM_SUM;
      call.routing.norm_value = 1e-20;
      call.routing.scaling_factor = 1.5;
      for (int64_t i = 0; i < 50 * 6; ++i)
        call.hash_table.push_back(static_cast<int32_t>(random.below(num_experts)));
      for (int64_t t = 0; t < 20; ++t)
        call.token_ids.push_back(static_cast<int32_t>(t < 2 ? t * 49 : random.below(50)));
      check_call(call, limits, name_of(call, "hash"));
      call.top_p = 0.7;
      call.call_top_k = 5;
      check_call(call, limits, name_of(call, "hash, cut"));
    }
  }
}

TEST_CASE("sparsemixer") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int64_t num_experts : {2, 16, 65, 300}) {
    Call call = call_of(random, 8, num_experts, 2, SE_SPARSEMIXER);
    call.routing.sparsemixer_epsilon = 0.01;
    for (int64_t e = 0; e < num_experts; ++e) {
      const size_t i = static_cast<size_t>(e);
      const size_t n = static_cast<size_t>(num_experts);
      call.logits[i] = 0;                                            // 0 / 0
      call.logits[n + i] = -std::fabs(call.logits[n + i]);           // a denominator below 0
      call.logits[2 * n + i] = 1 + static_cast<float>(e % 3) / 100;  // near the threshold, and ties
    }
    check_call(call, limits, name_of(call, "sparsemixer"));
    call.top_p = 0.4;
    check_call(call, limits, name_of(call, "sparsemixer, top_p"));
  }
}

// A bias that has no rank goes last, whatever else is there.
TEST_CASE("odd biases") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  Call call = call_of(random, 3, 40, 6, SE_SIGMOID);
  call.selection_bias = random_array<float>(random, 40);
  for (int e = 0; e < 40; e += 2) call.selection_bias[static_cast<size_t>(e)] = NAN;
  call.selection_bias[7] = INFINITY;
  call.selection_bias[9] = -INFINITY;
  Result out;
  const std::string what = name_of(call, "NaN in the bias");
  if (!run_all_forms(call, limits, what, &out)) return;
  Every good;
  for (int64_t t = 0; t < 3; ++t) {
    good.equal(out.ids[static_cast<size_t>(t * 6)], 7);
    for (int64_t k = 0; k < 6; ++k) {
      const size_t slot = static_cast<size_t>(t * 6 + k);
      good.that(out.ids[slot] % 2 == 1 && out.ids[slot] != 9 && std::isfinite(out.weights[slot]));
    }
  }
  good.check(what);
  // All NaN: ids by index.
  std::fill(call.selection_bias.begin(), call.selection_bias.end(), NAN);
  if (!run_all_forms(call, limits, what, &out)) return;
  Every by_index;
  for (size_t slot = 0; slot < out.ids.size(); ++slot)
    by_index.equal(out.ids[slot], static_cast<int32_t>(slot % 6));
  by_index.check(what + ", in all of it");
}

// Splits are added in rising order and the bias last, in f32.
TEST_CASE("splits") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t num_splits : {1, 2, 5, 16}) {
    for (const int64_t num_experts : {9, 130}) {
      for (const bool biased : {false, true}) {
        Call call = call_of(random, 5, num_experts, 4, SE_SIGMOID);
        call.selection_bias = random_array<float>(random, num_experts);
        const size_t size = call.logits.size();
        call.num_splits = num_splits;
        call.partials = random_array<float>(random, static_cast<int64_t>(size) * num_splits, 1);
        if (biased) call.router_bias = random_array<float>(random, num_experts);
        Call whole = call;
        for (size_t i = 0; i < size; ++i) {
          float sum = call.partials[i];
          for (size_t s = 1; s < static_cast<size_t>(num_splits); ++s)
            sum += call.partials[s * size + i];
          if (biased) sum += call.router_bias[i % static_cast<size_t>(num_experts)];
          whole.logits[i] = sum;
        }
        whole.partials.clear();
        whole.num_splits = 1;
        whole.router_bias.clear();
        Result parts;
        Result sums;
        const std::string what = name_of(call, "splits " + std::to_string(num_splits));
        if (run_all_forms(call, limits, what, &parts) && run_all_forms(whole, limits, what, &sums))
          CHECK_MESSAGE(same_result(parts, sums), what);
        check_result(whole, parts, what);
      }
    }
  }
}

// A row alone has the bits that it has in a batch, and a run those of the last.
TEST_CASE("same bits") {
  Random random(20261126);
  const DeviceLimits& limits = current().limits;
  for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX}) {
    Call call = call_of(random, 37, 128, 8, scoring);
    call.routing.normalization = SE_NORM_SUM;
    Result batch;
    const std::string what = name_of(call, "same bits");
    if (!run_all_forms(call, limits, what, &batch)) continue;
    for (int run = 0; run < 5; ++run) {
      Result again;
      if (run_select(call, limits, what, &again))
        CHECK_MESSAGE(same_result(batch, again), what, ": rerun");
    }
    for (const int64_t token : {0, 11, 36}) {
      Call alone = call;
      alone.num_tokens = 1;
      alone.logits.assign(call.logits.begin() + token * 128,
                          call.logits.begin() + (token + 1) * 128);
      Result row;
      if (!run_select(alone, limits, what, &row)) continue;
      check_same_bits(row.ids, {batch.ids.begin() + token * 8, batch.ids.begin() + token * 8 + 8},
                      what + ": token " + std::to_string(token) + " alone");
      check_same_bits(row.weights,
                      {batch.weights.begin() + token * 8, batch.weights.begin() + token * 8 + 8},
                      what + ": token " + std::to_string(token) + " alone");
    }
  }
}

TEST_CASE("limits") {
  Random random(20261126);
  DeviceLimits limits = current().limits;
  // 99 KiB a block: fewer tokens than warps fit.
  limits.shared_bytes_per_block = 99 * 1024;
  Call call = call_of(random, 7, 4096, 8, SE_SIGMOID);
  check_call(call, limits, name_of(call, "99 KiB"));
  limits.shared_bytes_per_block = 16 * 1024;
  SelectKernelArgs args = {};
  args.routing = call.routing;
  args.num_tokens = 1;
  CHECK_MESSAGE(launch_select(args, limits, nullptr) == cudaErrorInvalidValue,
                "select: more experts than shared memory holds are refused");
  args.num_tokens = 0;
  CHECK_MESSAGE(launch_select(args, limits, nullptr) == cudaSuccess, "select: no tokens");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
