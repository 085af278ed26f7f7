#include "cuda/runs_layer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/dtype.h"
#include "core/numeric.h"
#include "cpp/check.h"

namespace native_test {
namespace {

const SeBackend& backend() { return *se_backend_entry(); }

std::vector<const void*> download_table(SeDevice* device, const SeMatrixTable& table,
                                        int64_t count) {
  std::vector<const void*> entries(table.data == nullptr ? 0 : static_cast<size_t>(count));
  SeStatus status{};
  if (!entries.empty())
    REQUIRE(backend().copy_to_host(device, entries.data(), table.data,
                                   entries.size() * sizeof(void*), &status) == SE_OK);
  return entries;
}

}  // namespace

CachedDeviceLayer::CachedDeviceLayer(SeDevice* device, const SeMoeLayer& host,
                                     int32_t batch_invariant)
    : all_(device, host, batch_invariant), description_(all_.description()) {
  SeExperts& experts = description_.experts;
  gate_ = download_table(device, experts.gate, experts.num_experts);
  up_ = download_table(device, experts.up, experts.num_experts);
  down_ = download_table(device, experts.down, experts.num_experts);
  const std::vector<const void*> none(static_cast<size_t>(experts.num_experts), nullptr);
  absent_.push_back(to_device(device, none));
  for (SeMatrixTable* table : {&experts.gate, &experts.up, &experts.down})
    if (table->data != nullptr) table->data = absent_.back().as<const void*>();
  options_.batch_invariant = batch_invariant;
  options_.cached = 1;
  code = backend().layer_open(device, &description_, &options_, &opened_, &status);
}

CachedDeviceLayer::~CachedDeviceLayer() { backend().layer_close(opened_); }

// In one block, the gate before the up matrix, as the engine lays them out.
SeExpertMatrices CachedDeviceLayer::copy(int32_t expert) {
  const SeExperts& experts = description_.experts;
  const auto bytes_of = [&](const SeMatrixTable& table) {
    return static_cast<uint64_t>(table.rows * table.row_stride *
                                 sparse_experts::dtype_bytes(experts.dtype));
  };
  const auto place_of = [&](const SeMatrixTable& table) {
    return sparse_experts::round_up(bytes_of(table), uint64_t{64});
  };
  const bool gated = !gate_.empty();
  const uint64_t up_at = gated ? place_of(experts.gate) : 0;
  const uint64_t down_at = up_at + place_of(experts.up);
  blocks_.emplace_back(device(), down_at + bytes_of(experts.down));
  char* const block = blocks_.back().as<char>();
  const auto bring = [&](uint64_t at, const void* from, uint64_t bytes) -> const void* {
    std::vector<char> matrix(bytes);
    REQUIRE(backend().copy_to_host(device(), matrix.data(), from, bytes, &status) == SE_OK);
    REQUIRE(backend().copy_to_device(device(), block + at, matrix.data(), bytes, &status) == SE_OK);
    return block + at;
  };
  const auto e = static_cast<size_t>(expert);
  SeExpertMatrices matrices = {};
  if (gated) matrices.gate = bring(0, gate_[e], bytes_of(experts.gate));
  matrices.up = bring(up_at, up_[e], bytes_of(experts.up));
  matrices.down = bring(down_at, down_[e], bytes_of(experts.down));
  return matrices;
}

int32_t CachedDeviceLayer::set(const std::vector<int32_t>& experts,
                               const std::vector<SeExpertMatrices>& matrices) {
  return backend().layer_set_experts(opened_, experts.data(), static_cast<int64_t>(experts.size()),
                                     matrices.data(), &status);
}

int32_t CachedDeviceLayer::place(const std::vector<int32_t>& experts) {
  std::vector<SeExpertMatrices> matrices;
  for (const int32_t expert : experts) matrices.push_back(copy(expert));
  placed_.insert(placed_.end(), experts.begin(), experts.end());
  return set(experts, matrices);
}

void CachedDeviceLayer::clear() {
  CHECK(set(placed_, std::vector<SeExpertMatrices>(placed_.size())) == SE_OK);
  placed_.clear();
  for (DeviceMemory& block : blocks_) {
    const std::vector<char> poison(block.download().size(), '\xff');
    block.upload(poison.data(), poison.size());
    old_blocks_.push_back(std::move(block));
  }
  blocks_.clear();
}

StepCall::StepCall(const ForwardCall& call, SeDevice* device, const SeMoeLayer& layer,
                   const SeLayerOptions& options)
    : args(call.args),
      workspace_bytes(
          backend().forward_workspace_bytes(device, &layer, &options, call.args.select.num_tokens)),
      workspace(device, workspace_bytes) {
  const int64_t num_tokens = args.select.num_tokens;
  const int64_t num_slots = num_tokens * layer.routing.top_k;
  const int32_t dtype = args.hidden.dtype;
  result.output.assign(
      static_cast<size_t>(num_tokens * layer.hidden_size * sparse_experts::dtype_bytes(dtype)),
      '\xff');
  if ((args.device_arrays & SE_ARRAY_OUTPUT) == 0)
    args.output = tensor_of(result.output.data(), dtype, {num_tokens, layer.hidden_size});
  result.ids.assign(static_cast<size_t>(num_slots), 0x7fffffff);
  result.weights.assign(static_cast<size_t>(num_slots), NAN);
  if (args.replay != 0) {
    std::copy_n(args.select.topk_ids, num_slots, result.ids.begin());
    std::copy_n(args.select.topk_weights, num_slots, result.weights.begin());
  }
  result.flags.assign(static_cast<size_t>(num_tokens), 0xff);
  args.select.topk_ids = result.ids.data();
  args.select.topk_weights = result.weights.data();
  args.select.non_finite = result.flags.data();
}

namespace {

// One wave: every expert once, in steps.
int32_t run_wave(CachedDeviceLayer& layer, SeForwardRun* run, std::vector<int32_t> order,
                 size_t at_once, SeStatus* status) {
  for (size_t at = 0; at < order.size(); at += at_once) {
    const size_t end = std::min(order.size(), at + at_once);
    const std::vector<int32_t> step(order.begin() + static_cast<int64_t>(at),
                                    order.begin() + static_cast<int64_t>(end));
    if (const int32_t code = layer.place(step)) return code;
    if (const int32_t code =
            backend().forward_experts(run, step.data(), static_cast<int64_t>(step.size()), status))
      return code;
    layer.clear();
  }
  return backend().forward_finish(run, status);
}

}  // namespace

ForwardResult run_in_steps(CachedDeviceLayer& layer, const ForwardCall& call, int64_t at_once,
                           int64_t* num_waves) {
  StepCall own(call, layer.device(), layer.description(), layer.options());
  ForwardResult& result = own.result;
  result.code = layer.code;
  result.status = layer.status;
  if (result.code != SE_OK) return result;
  SeForwardRun* run = nullptr;
  result.code = backend().forward_begin(layer.get(), &own.args, own.workspace.as<>(),
                                        own.workspace_bytes, &run, &result.status);
  if (result.code != SE_OK) return result;
  Random random(static_cast<uint64_t>(at_once) + 99);
  std::vector<int32_t> order(static_cast<size_t>(layer.num_experts()));
  std::iota(order.begin(), order.end(), 0);
  int64_t waves = 0;
  for (SeForwardWave wave{};; ++waves) {
    result.code = backend().forward_wave(run, &wave, &result.status);
    if (result.code != SE_OK || wave.num_tokens == 0) break;
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    result.code = run_wave(layer, run, order, static_cast<size_t>(at_once), &result.status);
    if (result.code != SE_OK) break;
  }
  backend().forward_end(run);
  if (num_waves != nullptr) *num_waves = waves;
  return result;
}

void check_steps(SeDevice* device, const LayerFixture& fixture, const ForwardCall& call,
                 const std::string& what, const std::vector<int64_t>& steps) {
  CachedDeviceLayer layer(device, fixture.layer, call.options.batch_invariant);
  const ForwardResult whole = run_on_device(layer.resident(), call);
  if (!CHECK_MESSAGE(whole.code == SE_OK, what, ": ", std::string(whole.status.message))) return;
  for (const int64_t at_once : steps) {
    const ForwardResult part = run_in_steps(layer, call, at_once);
    const std::string name = what + ", " + std::to_string(at_once) + " experts at once";
    if (!CHECK_MESSAGE(part.code == SE_OK, name, ": ", std::string(part.status.message))) continue;
    check_same_bits(part.output, whole.output, name);
    check_same_bits(part.ids, whole.ids, name + ": ids");
    check_same_bits(part.weights, whole.weights, name + ": weights");
    check_same_bits(part.flags, whole.flags, name + ": flags");
  }
}

}  // namespace native_test
