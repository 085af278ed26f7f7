// select_experts: every rule against the oracle on the same f32 logits.
#include <algorithm>
#include <array>

#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("routing");

struct Case {
  const char* name;
  SeRouting routing;
  int64_t num_tokens = 37;
  double top_p = 1;  // 0: one for each row
  int64_t call_top_k = -1;
  bool row_top_k = false;
  std::vector<int32_t> sequences = {};
  bool bias = false;
  bool scale = false;
};

SeRouting rule(int32_t scoring, int64_t num_experts, int64_t top_k,
               int32_t normalization = SE_NORM_NONE) {
  SeRouting routing{};
  routing.scoring = scoring;
  routing.num_experts = num_experts;
  routing.top_k = top_k;
  routing.num_expert_groups = 1;
  routing.topk_group = 1;
  routing.normalization = normalization;
  routing.scaling_factor = 1;
  return routing;
}

SeRouting grouped(SeRouting routing, int64_t groups, int64_t kept, int32_t score) {
  routing.num_expert_groups = groups;
  routing.topk_group = kept;
  routing.group_score = score;
  return routing;
}

SeRouting capacity(SeRouting routing, int32_t kind, int64_t size, double fraction, bool before,
                   bool prioritized) {
  routing.capacity = kind;
  routing.expert_capacity = size;
  routing.capacity_token_fraction = fraction;
  routing.normalize_before_dropping = before;
  routing.batch_prioritized = prioritized;
  routing.norm_value = kind == SE_CAPACITY_BATCH ? 1e-7 : 0;
  return routing;
}

void run_case(const Context& context, Case c, uint64_t seed) {
  Random random(seed);
  SeRouting& routing = c.routing;
  const int64_t num_experts = routing.num_experts;
  const int64_t num_slots = c.num_tokens * routing.top_k;
  std::vector<float> logits(c.num_tokens * num_experts);
  for (float& z : logits) z = static_cast<float>(random.normal() * 2);
  std::vector<float> bias(num_experts);
  for (float& b : bias) b = static_cast<float>(random.normal() * 0.4 - 0.5);
  std::vector<float> scale(num_experts);
  for (float& s : scale) s = static_cast<float>(0.5 + random.uniform());
  if (c.bias) routing.selection_bias = bias.data();
  if (c.scale) routing.per_expert_scale = scale.data();
  std::vector<int32_t> token_ids(c.num_tokens);
  std::vector<int32_t> table(50 * routing.top_k);
  for (int32_t& id : token_ids) id = static_cast<int32_t>(random.below(50));
  for (size_t i = 0; i < table.size(); ++i)
    table[i] = static_cast<int32_t>((i / routing.top_k * 7 + i % routing.top_k * 3) % num_experts);
  if (routing.hash_routed) {
    routing.hash_table = table.data();
    routing.vocab_size = 50;
  }
  std::vector<uint8_t> row_top_k(c.num_tokens);
  for (uint8_t& k : row_top_k) k = static_cast<uint8_t>(random.below(routing.top_k + 1));
  std::vector<int32_t> ids(num_slots, 0x7fffffff);
  std::vector<float> weights(num_slots, NAN);
  std::vector<uint8_t> flags(c.num_tokens, 255);
  SeSelectArgs args{};
  args.num_tokens = c.num_tokens;
  args.router_logits = logits.data();
  args.token_ids = token_ids.data();
  args.row_top_k = c.row_top_k ? row_top_k.data() : nullptr;
  args.call_top_k = c.call_top_k < 0 ? routing.top_k : c.call_top_k;
  const std::array<double, 4> shares = {0.05, 0.5, 0.8, 1};
  std::vector<double> row_top_p(c.num_tokens);
  for (int64_t t = 0; t < c.num_tokens; ++t) row_top_p[t] = shares[t % 4];
  args.row_top_p = c.top_p == 0 ? row_top_p.data() : nullptr;
  args.top_p = c.top_p;
  args.sequence_lengths = c.sequences.empty() ? nullptr : c.sequences.data();
  args.num_sequences = static_cast<int64_t>(c.sequences.size());
  args.topk_ids = ids.data();
  args.topk_weights = weights.data();
  args.non_finite = flags.data();
  SeStatus status{};
  const std::string what = std::string("select ") + c.name;
  if (!CHECK_MESSAGE(
          context.backend->select_experts(context.device, &routing, &args, &status) == SE_OK, what,
          std::string(status.message)))
    return;
  const OracleRouting expected =
      oracle_select(routing, args, std::vector<double>(logits.begin(), logits.end()));
  check_same_bits(ids, expected.ids, what + ": ids");
  check_close(std::vector<double>(weights.begin(), weights.end()), expected.weights, 2e-7,
              what + ": weights");
  CHECK_MESSAGE(std::all_of(flags.begin(), flags.end(), [](uint8_t f) { return f == 0; }), what,
                ": flags");
}

TEST_CASE("ties, and rows that are not finite") {
  const Context& context = current();
  SeRouting routing = rule(SE_SIGMOID, 6, 3, SE_NORM_SUM);
  const float inf = INFINITY;
  const std::vector<float> logits = {1,    2,   2, 0, 2, 2, 50,  60,  50,  60,  70,  50,
                                     0,    NAN, 0, 0, 0, 0, 1,   inf, 0,   0,   0,   0,
                                     -inf, 1,   2, 3, 4, 5, -90, -91, -92, -93, -94, -95};
  std::vector<int32_t> ids(18, -7);
  std::vector<float> weights(18, -7);
  std::vector<uint8_t> flags(6, 7);
  SeSelectArgs args{};
  args.num_tokens = 6;
  args.router_logits = logits.data();
  args.call_top_k = 3;
  args.top_p = 1;
  args.topk_ids = ids.data();
  args.topk_weights = weights.data();
  args.non_finite = flags.data();
  SeStatus status{};
  CHECK_MESSAGE(context.backend->select_experts(context.device, &routing, &args, &status) == SE_OK,
                "ties run");
  check_same_bits(ids, std::vector<int32_t>{1, 2, 4, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2},
                  "ties go to the lower expert; rows that are not finite get 0..k-1");
  check_same_bits(flags, std::vector<uint8_t>{0, 0, 1, 1, 1, 0},
                  "flags of rows that are not finite");
  for (int i = 0; i < 18; ++i)
    CHECK_MESSAGE(std::isnan(weights[i]) == (flags[i / 3] == 1),
                  "weights are NaN exactly in flagged rows");
}

// With every option at its neutral value the bits are those of a call without options.
TEST_CASE("neutral options change no bit") {
  const Context& context = current();
  for (const int32_t scoring : {SE_SOFTMAX, SE_SIGMOID, SE_TOPK_SOFTMAX, SE_TOPK_SIGMOID}) {
    SeRouting routing =
        rule(scoring, 60, 6, scoring < SE_TOPK_SOFTMAX ? SE_NORM_SUM : SE_NORM_NONE);
    Random random(5);
    std::vector<float> logits(20 * 60);
    for (float& z : logits) z = static_cast<float>(random.normal());
    std::vector<int32_t> ids[2] = {std::vector<int32_t>(120), std::vector<int32_t>(120)};
    std::vector<float> weights[2] = {std::vector<float>(120), std::vector<float>(120)};
    std::vector<uint8_t> flags(20);
    const std::vector<uint8_t> all(20, 6);
    for (int i = 0; i < 2; ++i) {
      SeSelectArgs args{};
      args.num_tokens = 20;
      args.router_logits = logits.data();
      args.row_top_k = i == 0 ? nullptr : all.data();
      args.call_top_k = 6;
      args.top_p = 1;
      args.topk_ids = ids[i].data();
      args.topk_weights = weights[i].data();
      args.non_finite = flags.data();
      SeStatus status{};
      CHECK_MESSAGE(
          context.backend->select_experts(context.device, &routing, &args, &status) == SE_OK,
          "neutral options run");
    }
    check_same_bits(ids[0], ids[1], "neutral options change no bit");
    check_same_bits(weights[0], weights[1], "neutral options change no bit");
  }
}

TEST_CASE("every rule against the oracle") {
  const Context& context = current();
  std::vector<Case> cases;
  for (const int64_t e : {1, 2, 3, 31, 60, 64, 65, 127, 160, 256, 288, 384, 512, 1024, 4096})
    for (const int64_t k : {1, 2, 6, 8, 10, 22, 64})
      if (k <= e) cases.push_back({"softmax sizes", rule(SE_SOFTMAX, e, k, SE_NORM_SUM), 5});
  cases.push_back({"all experts", rule(SE_SIGMOID, 257, 257, SE_NORM_SUM), 3});
  cases.push_back({"no tokens", rule(SE_SOFTMAX, 8, 2), 0});
  SeRouting r = rule(SE_SIGMOID, 256, 8, SE_NORM_SUM);
  r.norm_value = 1e-20;
  r.scaling_factor = 2.5;
  cases.push_back({"deepseek_v3", grouped(r, 8, 4, SE_GROUP_TOP2_SUM), 37, 1, -1, false, {}, true});
  cases.push_back({"axk1", grouped(r, 8, 4, SE_GROUP_TOP2_SUM_ZEROED), 37, 1, -1, false, {}, true});
  cases.push_back(
      {"zeroed logits", grouped(rule(SE_TOPK_SOFTMAX, 63, 9), 7, 1, SE_GROUP_TOP2_SUM_ZEROED)});
  cases.push_back(
      {"deepseek_v3 top_p", grouped(r, 8, 4, SE_GROUP_TOP2_SUM), 37, 0.6, -1, false, {}, true});
  r = rule(SE_SOFTMAX, 160, 6);
  r.scaling_factor = 16;
  cases.push_back({"deepseek_v2", grouped(r, 8, 3, SE_GROUP_MAX)});
  cases.push_back({"groups of one", grouped(rule(SE_SIGMOID, 8, 2), 8, 3, SE_GROUP_TOP2_SUM)});
  r = rule(SE_SQRT_SOFTPLUS, 256, 6, SE_NORM_SUM);
  r.norm_value = 1e-20;
  r.scaling_factor = 1.5;
  cases.push_back({"deepseek_v4", r, 37, 1, -1, false, {}, true});
  r.hash_routed = 1;
  cases.push_back({"hash", r});
  cases.push_back({"hash top_k per row", r, 37, 0.7, -1, true});
  cases.push_back({"hash top_k and top_p per row", r, 37, 0, -1, true});
  cases.push_back({"topk_softmax, top_p per row", rule(SE_TOPK_SOFTMAX, 128, 4), 37, 0});
  cases.push_back({"topk_softmax", rule(SE_TOPK_SOFTMAX, 128, 4)});
  cases.push_back({"topk_softmax, top_k per call", rule(SE_TOPK_SOFTMAX, 128, 4), 37, 1, 2});
  cases.push_back({"topk_softmax, top_p", rule(SE_TOPK_SOFTMAX, 128, 4), 37, 0.5});
  cases.push_back({"topk_sigmoid", rule(SE_TOPK_SIGMOID, 16, 3), 37, 0.8});
  r = rule(SE_SPARSEMIXER, 16, 2);
  r.sparsemixer_epsilon = 0.01;
  cases.push_back({"sparsemixer", r});
  r.sparsemixer_epsilon = 0.4;
  cases.push_back({"sparsemixer wide", r, 37, 1, 1});
  cases.push_back({"top_k per row", rule(SE_SOFTMAX, 60, 8, SE_NORM_SUM), 37, 1, -1, true});
  cases.push_back({"top_k 0", rule(SE_SOFTMAX, 60, 8, SE_NORM_SUM), 37, 1, 0});
  cases.push_back({"top_p per row", rule(SE_SOFTMAX, 60, 8, SE_NORM_SUM), 37, 0});
  cases.push_back({"top_p", rule(SE_SOFTMAX, 60, 8, SE_NORM_SUM), 37, 0.5});
  r = rule(SE_SOFTMAX, 64, 6, SE_NORM_FLOOR);
  r.norm_value = 1e-12;
  cases.push_back({"ernie", r, 37, 1, -1, false, {}, true});
  r = rule(SE_SOFTMAX, 16, 4, SE_NORM_P);
  r.norm_value = 2;
  cases.push_back({"p-norm", r});
  r = rule(SE_SIGMOID, 64, 6, SE_NORM_SUM);
  r.logit_softcap = 1.5;
  cases.push_back({"softcap", r, 37, 1, -1, false, {}, true});
  cases.push_back({"per-expert scale",
                   rule(SE_SOFTMAX, 128, 8, SE_NORM_SUM),
                   37,
                   1,
                   -1,
                   false,
                   {},
                   false,
                   true});
  const SeRouting one = rule(SE_SOFTMAX, 8, 1);
  cases.push_back({"switch", capacity(one, SE_CAPACITY_PER_SEQUENCE, 3, 0, false, false)});
  cases.push_back({"switch sequences",
                   capacity(one, SE_CAPACITY_PER_SEQUENCE, 1, 0, false, false),
                   37,
                   1,
                   -1,
                   false,
                   {10, 0, 1, 20, 6}});
  const SeRouting two = rule(SE_SOFTMAX, 8, 2, SE_NORM_FLOOR);
  for (const bool before : {false, true})
    for (const bool prioritized : {false, true}) {
      cases.push_back({"nllb size", capacity(two, SE_CAPACITY_BATCH, 4, 0, before, prioritized)});
      cases.push_back(
          {"nllb fraction", capacity(two, SE_CAPACITY_BATCH, 64, 0.1, before, prioritized)});
      cases.push_back(
          {"nllb derived", capacity(two, SE_CAPACITY_BATCH, 0, 0, before, prioritized), 300});
      cases.push_back({"nllb per row", capacity(two, SE_CAPACITY_BATCH, 3, 0, before, prioritized),
                       37, 1, -1, true});
    }
  uint64_t seed = 0;
  for (const Case& c : cases) run_case(context, c, ++seed);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
