// Layers of the oracle's kinds whose experts lie on several ranks of this process, and calls of them.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "cpp/check.h"
#include "cpu/backend.h"
#include "engine/rank_group.h"
#include "engine/store_matrix.h"
#include "fixture.h"
#include "oracle/fixture.h"
#include "transport/local.h"

namespace engine_test {

using native_test::ForwardCall;
using native_test::ForwardResult;
using native_test::LayerFixture;
using sparse_experts::transport::local_transport;
using sparse_experts::transport::LocalFaults;
using sparse_experts::transport::LocalNetwork;

constexpr uint32_t kLayer = 3;
constexpr uint64_t kGroup = 0xabcd'ef01'2345'6789ULL;
constexpr uint32_t kEpoch = 2;
// A deadline that no call meets, however busy the machine is.
constexpr std::chrono::minutes kNever{60};

inline std::shared_ptr<DeviceExecutor> make_rank_cpu() {
  static std::atomic<int> number{0};
  return std::make_shared<DeviceExecutor>(sparse_experts::cpu_backend(), 0,
                                          "rank-" + std::to_string(number++));
}

// A fixture's layer as the engine makes it, with the experts of one rank.
class LayerOfRank {
 public:
  LayerOfRank(const LayerFixture& fixture, std::vector<uint8_t> owned,
              const SeLayerOptions& options = {})
      : fixture_(fixture) {
    const SeMoeLayer& from = fixture.layer;
    LayerDescription layer;
    layer.dtype = from.experts.dtype;
    layer.hidden_size = from.hidden_size;
    layer.intermediate_size = from.experts.up.rows;
    layer.latent_size = from.latent_size;
    layer.num_experts = from.experts.num_experts;
    layer.routing = from.routing;
    layer.activation = from.experts.activation;
    layer.weight_on_input = from.weight_on_input;
    layer.router_norm_epsilon = from.router_norm_epsilon;
    layer.latent_norm_epsilon = from.latent_norm_epsilon;
    layer.num_threads = 1;
    layer.max_joint_rows = 256;
    layer.owned = std::move(owned);
    layer.options = options;
    if (from.shared.num_experts > 0) {
      layer.shared_intermediate_size = from.shared.up.rows;
      layer.shared_activation = from.shared.activation;
      layer.shared_gate_mode = from.shared_gate_mode;
    }
    take_vectors(&layer);
    take_formats(&layer, MatrixRole::kExpert, from.experts);
    take_formats(&layer, MatrixRole::kShared, from.shared);
    state = LayerState::create(layer, make_rank_cpu());
    write();
  }

  std::shared_ptr<LayerState> state;

 private:
  void take(LayerDescription* layer, int role, const float* values, int64_t count) {
    if (values != nullptr) layer->vectors[role] = {values, static_cast<uint64_t>(count)};
  }
  void take(LayerDescription* layer, int role, const SeBiasTable& biases, int64_t num_experts,
            int64_t length) {
    if (biases.data == nullptr) return;
    std::vector<float>& dense = biases_.emplace_back();
    for (int64_t e = 0; e < num_experts; ++e)
      for (int64_t i = 0; i < length; ++i) dense.push_back(biases.data[e][i * biases.stride]);
    take(layer, role, dense.data(), static_cast<int64_t>(dense.size()));
  }
  void take_vectors(LayerDescription* layer) {
    namespace se = sparse_experts;
    const SeMoeLayer& from = fixture_.layer;
    const int64_t hidden = from.hidden_size;
    const int64_t routed = from.routing.num_experts;
    take(layer, se::kRouterWeight, from.router_weight, routed * hidden);
    take(layer, se::kRouterBias, from.router_bias, routed);
    take(layer, se::kSelectionBias, from.routing.selection_bias, routed);
    take(layer, se::kPerExpertScale, from.routing.per_expert_scale, routed);
    take(layer, se::kRouterInputScale, from.router_input_scale, hidden);
    take(layer, se::kSharedGate, from.shared_gate, hidden);
    take(layer, se::kSharedLogitBias, from.shared_logit_bias, 1);
    take(layer, se::kLatentNorm, from.latent_norm, from.latent_size);
    take(layer, se::kOutputBias, from.output_bias, hidden);
    const SeExperts& experts = from.experts;
    take(layer, se::kGateBias, experts.gate_bias, experts.num_experts, experts.up.rows);
    take(layer, se::kUpBias, experts.up_bias, experts.num_experts, experts.up.rows);
    take(layer, se::kDownBias, experts.down_bias, experts.num_experts, experts.down.rows);
    const SeExperts& shared = from.shared;
    take(layer, se::kSharedGateBias, shared.gate_bias, shared.num_experts, shared.up.rows);
    take(layer, se::kSharedUpBias, shared.up_bias, shared.num_experts, shared.up.rows);
    take(layer, se::kSharedDownBias, shared.down_bias, shared.num_experts, shared.down.rows);
  }
  void take_formats(LayerDescription* layer, MatrixRole role, const SeExperts& experts) {
    const std::pair<MatrixKind, const SeMatrixTable*> tables[] = {
        {MatrixKind::kGate, &experts.gate},
        {MatrixKind::kUp, &experts.up},
        {MatrixKind::kDown, &experts.down}};
    for (const auto& [kind, table] : tables) {
      for (int64_t e = 0; table->data != nullptr && e < experts.num_experts; ++e) {
        const auto found = fixture_.quantised.find(table->data[e]);
        if (found == fixture_.quantised.end()) continue;
        layer->held.push_back({role, e, kind, layer->formats.size()});
        layer->formats.push_back(found->second.format);
      }
    }
  }
  // In pieces of what the backend packs together, as a load brings them.
  void write(const native_test::QuantisedMatrix& matrix, const MatrixSlot& slot) {
    throw_if_failed(
        state->executor().call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
          const int64_t granule = std::max<int64_t>(1, backend.matrix_granule(device));
          for (int64_t row = 0; row < slot.rows; row += granule) {
            const SeMatrixRows rows =
                matrix.rows_of(row, std::min(granule, slot.rows - row), slot.dtype, slot.data);
            if (const int32_t code = backend.matrix_write(device, &rows, status)) return code;
          }
          return static_cast<int32_t>(SE_OK);
        }));
  }
  void write(MatrixRole role, MatrixKind kind, const SeMatrixTable& table, int64_t count) {
    if (table.data == nullptr) return;
    for (int64_t e = 0; e < count; ++e) {
      if (role == MatrixRole::kExpert && !state->owns(e)) continue;
      const MatrixSlot slot = state->matrix_slot(role, e, kind);
      const auto quantised = fixture_.quantised.find(table.data[e]);
      if (quantised != fixture_.quantised.end()) {
        write(quantised->second, slot);
      } else {
        const StridedSource source = {static_cast<const uint8_t*>(table.data[e]),
                                      fixture_.layer.experts.dtype, table.row_stride, 1};
        store_matrix(state->executor(), source, slot);
      }
      state->mark_written(role, e, kind);
    }
  }
  void write(MatrixRole role, const SeExperts& experts) {
    if (experts.num_experts == 0) return;
    write(role, MatrixKind::kGate, experts.gate, experts.num_experts);
    write(role, MatrixKind::kUp, experts.up, experts.num_experts);
    write(role, MatrixKind::kDown, experts.down, experts.num_experts);
  }
  void write() {
    write(MatrixRole::kExpert, fixture_.layer.experts);
    write(MatrixRole::kShared, fixture_.layer.shared);
    if (fixture_.layer.latent_size == 0) return;
    write(MatrixRole::kLatent, MatrixKind::kDown, fixture_.layer.latent_down, 1);
    write(MatrixRole::kLatent, MatrixKind::kUp, fixture_.layer.latent_up, 1);
  }

  const LayerFixture& fixture_;
  std::list<std::vector<float>> biases_;
};

// All ranks of a group, each with its part of one layer.
class Ranks {
 public:
  Ranks(const LayerFixture& fixture, std::vector<int32_t> owner_of, int32_t size,
        const LocalFaults& faults = {}, std::chrono::nanoseconds timeout = kNever,
        const SeLayerOptions& layer_options = {})
      : network(size, faults) {
    std::vector<SeTransport*> transports;
    for (int32_t rank = 0; rank < size; ++rank) {
      SeTransportOptions options = {};
      options.rank = rank;
      options.size = size;
      options.max_message_bytes = uint64_t{1} << 30;
      options.network = network.handle();
      SeStatus status = {};
      transports.emplace_back();
      REQUIRE(local_transport().open(&options, &transports.back(), &status) == SE_TRANSPORT_OK);
    }
    for (SeTransport* own : transports) connect(own, transports);
    for (int32_t rank = 0; rank < size; ++rank) {
      std::vector<uint8_t> owned;
      for (const int32_t owner : owner_of) owned.push_back(owner == rank ? 1 : 0);
      layers.push_back(std::make_unique<LayerOfRank>(fixture, owned, layer_options));
      RankOptions options;
      options.rank = rank;
      options.size = size;
      options.group = kGroup;
      options.epoch = kEpoch;
      options.timeout = timeout;
      groups.push_back(std::make_unique<RankGroup>(options, local_transport(),
                                                   transports[static_cast<size_t>(rank)]));
      groups.back()->add_layer(kLayer, layers.back()->state, owner_of);
    }
    for (const auto& group : groups) group->start();
  }

  RankGroup& group(int32_t rank) { return *groups[static_cast<size_t>(rank)]; }
  const std::shared_ptr<LayerState>& layer(int32_t rank) {
    return layers[static_cast<size_t>(rank)]->state;
  }

  LocalNetwork network;
  std::vector<std::unique_ptr<LayerOfRank>> layers;
  std::vector<std::unique_ptr<RankGroup>> groups;

 private:
  static void connect(SeTransport* own, const std::vector<SeTransport*>& all) {
    for (size_t peer = 0; peer < all.size(); ++peer) {
      if (all[peer] == own) continue;
      uint8_t address[SE_TRANSPORT_MAX_ADDRESS_BYTES];
      uint64_t bytes = 0;
      SeStatus status = {};
      REQUIRE(local_transport().address(all[peer], address, sizeof address, &bytes, &status) ==
              SE_TRANSPORT_OK);
      REQUIRE(local_transport().connect(own, static_cast<int32_t>(peer), address, bytes, &status) ==
              SE_TRANSPORT_OK);
    }
  }
};

// A call of a rank with its results, all of them NaN bits before.
class RankCall {
 public:
  RankCall(Ranks& ranks, int32_t rank, const LayerFixture& fixture, const ForwardCall& call)
      : RankCall(ranks.group(rank), ranks.layer(rank), fixture, call) {}
  RankCall(RankGroup& group, const std::shared_ptr<LayerState>& layer, const LayerFixture& fixture,
           const ForwardCall& call)
      : group_(group) {
    SeForwardArgs args = call.args;
    const int64_t num_tokens = args.select.num_tokens;
    const int64_t num_slots = num_tokens * fixture.layer.routing.top_k;
    const int64_t hidden = fixture.layer.hidden_size;
    result.output.assign(
        static_cast<size_t>(num_tokens * hidden * (args.hidden.dtype == SE_F32 ? 4 : 2)), '\xff');
    args.output =
        native_test::tensor_of(result.output.data(), args.hidden.dtype, {num_tokens, hidden});
    result.ids.assign(static_cast<size_t>(num_slots), 0x7fffffff);
    result.weights.assign(static_cast<size_t>(num_slots), NAN);
    result.flags.assign(static_cast<size_t>(num_tokens), 0xff);
    args.select.topk_ids = result.ids.data();
    args.select.topk_weights = result.weights.data();
    args.select.non_finite = result.flags.data();
    args.num_threads = 1;
    forward = std::make_shared<RankedForward>(layer, args);
    forward->completions = inbox_.queue();
    forward->call_id = 1;
    group_.submit(kLayer, forward);
  }
  bool has_ended() { return inbox_.done() > 0; }
  const Failure& wait() {
    // Several times what other ends have: with sanitizers, waves of a quarter of a gigabyte.
    for (int i = 0; i < 10 && !has_ended(); ++i) wait_until([&] { return has_ended(); });
    REQUIRE(has_ended());
    return forward->failure();
  }
  void cancel() { group_.cancel(forward); }

  ForwardResult result;
  std::shared_ptr<RankedForward> forward;

 private:
  RankGroup& group_;
  Inbox inbox_;
};

// What the backend makes of the call with all experts in one place.
inline ForwardResult whole_of(const LayerFixture& fixture, const ForwardCall& call) {
  static const std::shared_ptr<DeviceExecutor> cpu = make_rank_cpu();
  ForwardResult result = native_test::run_forward(&cpu->backend(), cpu->device(), fixture, call);
  CHECK_MESSAGE(result.code == SE_OK, std::string(result.status.message));
  return result;
}

inline void check_same(const RankCall& call, const ForwardResult& whole, const std::string& what) {
  native_test::check_same_bits(call.result.output, whole.output, what);
  native_test::check_same_bits(call.result.ids, whole.ids, what + ": ids");
  native_test::check_same_bits(call.result.weights, whole.weights, what + ": weights");
  native_test::check_same_bits(call.result.flags, whole.flags, what + ": flags");
}

}  // namespace engine_test
