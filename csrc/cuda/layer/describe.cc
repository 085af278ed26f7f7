#include "cuda/layer/describe.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "abi/enum_names.h"
#include "core/dtype.h"
#include "core/numeric.h"

namespace sparse_experts::cuda {
namespace {

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
std::string format(const char* pattern, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

template <size_t size>
void put(char (&out)[size], const std::string& text) {
  std::snprintf(out, size, "%s", text.c_str());
}

std::string matmul_text(const MatmulConfig& config) {
  char text[200] = "";
  describe_matmul(config, text, sizeof text);
  return text;
}

const char* scoring_text(const SeRouting& routing) {
  const EnumName* row = find_name(kScoringNames, routing.scoring);
  return row != nullptr ? row->explanation : "unknown scoring";
}

long long number(int64_t value) { return static_cast<long long>(value); }

std::string router_text(const SeMoeLayer& layer, const ForwardPlan& plan, int64_t num_tokens) {
  std::string text = format("cuda-core f32, %d K-split(s)", plan.num_splits);
  if (layer.router_input_scale != nullptr) text += ", rows scaled by their norm first";
  if (plan.route_tokens < num_tokens)
    text += format(", %lld chunks of %lld tokens", number(ceil_div(num_tokens, plan.route_tokens)),
                   number(plan.route_tokens));
  return text;
}

std::string select_text(const SeRouting& routing) {
  std::string text = format("team of warps per token, %lld experts, k %lld, ",
                            number(routing.num_experts), number(routing.top_k));
  text += scoring_text(routing);
  if (routing.hash_routed != 0) text += ", ids from the hash table";
  if (routing.num_expert_groups > 1)
    text += format(", %lld of %lld groups", number(routing.topk_group),
                   number(routing.num_expert_groups));
  if (routing.capacity == SE_CAPACITY_PER_SEQUENCE) text += ", capacity per sequence";
  if (routing.capacity == SE_CAPACITY_BATCH) text += ", capacity of the batch";
  return text;
}

std::string dispatch_text(const SeMoeLayer& layer, const SeLayerOptions& options,
                          const ForwardPlan& plan, const WaveConfigs& configs, int64_t num_tokens) {
  if (layer.experts.num_experts == 0) return "none: identity experts only";
  std::string text = format("stable counting sort of %lld slots, tiles of %d and %d tokens",
                            number(std::min(plan.wave_tokens, num_tokens) * layer.routing.top_k),
                            configs.gate_up.tile_tokens, configs.down.tile_tokens);
  if (plan.wave_tokens < num_tokens)
    text += format(", %lld waves of %lld tokens", number(ceil_div(num_tokens, plan.wave_tokens)),
                   number(plan.wave_tokens));
  if (options.cached != 0) text += ", in steps as experts come";
  return text;
}

// "experts" alone, with the shared one in the same launch, or with one of its own.
std::string experts_text(const SeMoeLayer& layer, const ForwardPlan& plan,
                         const MatmulConfig& routed, const MatmulConfig& shared) {
  std::string text;
  if (layer.experts.num_experts > 0) text = matmul_text(routed);
  if (layer.shared.num_experts == 0) return text.empty() ? "none" : text;
  if (plan.joint_shared) return text + "; shared expert in the same launch";
  return text + (text.empty() ? "" : "; ") + "shared " + matmul_text(shared);
}

std::string combine_text(const SeMoeLayer& layer, const WaveConfigs& configs) {
  std::string text = "f32 sums in slot order";
  if (layer.latent_norm != nullptr) text += ", latent sum normalised";
  if (layer.latent_size > 0) text += ", latent up " + matmul_text(configs.latent_up);
  if (layer.shared.num_experts > 0) text += ", shared expert added";
  if (layer.output_bias != nullptr) text += ", bias added";
  return text;
}

}  // namespace

void describe_forward(const SeMoeLayer& layer, const SeLayerOptions& options,
                      const PlanLimits& limits, const BulkReady& ready, int64_t num_tokens,
                      SeForwardDescription* description) {
  const int64_t tokens = std::max<int64_t>(1, num_tokens);
  const ForwardPlan plan = plan_forward(layer, limits, tokens);
  const WaveConfigs configs = choose_wave_configs(layer, options, plan, limits.device, ready,
                                                  std::min(plan.wave_tokens, tokens));
  put(description->gate, router_text(layer, plan, tokens));
  put(description->select, select_text(layer.routing));
  put(description->dispatch, dispatch_text(layer, options, plan, configs, tokens));
  std::string gate_up = experts_text(layer, plan, configs.gate_up, configs.shared_gate_up);
  if (layer.latent_size > 0)
    gate_up = "latent down " + matmul_text(configs.latent_down) + "; " + gate_up;
  put(description->gate_up, gate_up);
  put(description->down, experts_text(layer, plan, configs.down, configs.shared_down));
  put(description->combine, combine_text(layer, configs));
}

}  // namespace sparse_experts::cuda
