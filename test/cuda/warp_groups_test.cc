// Forwards of layers whose matmuls run on warp-group instructions, on an emulated device of sm_90: the
// bits of the same layers without them, and when they are taken.
#include <string>
#include <vector>

#include "cases.h"
#include "cpp/check.h"
#include "cuda/architecture.h"
#include "cuda/context.h"
#include "cuda/device_layer.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>

namespace native_test {
namespace {

TEST_SUITE_BEGIN("warp_groups");

constexpr const char* kSwitch = "SPARSE_EXPERTS_CUDA_WARP_GROUPS";

struct Run {
  ForwardResult result;
  uint64_t launches = 0;  // of matmuls on wgmma
};

Run run(SeDevice* device, const LayerFixture& fixture, const ForwardCall& call,
        int32_t batch_invariant = 0) {
  const DeviceLayer layer(device, fixture.layer, batch_invariant);
  simt::reset_counters();
  Run run;
  run.result = run_on_device(layer, call);
  run.launches = simt::counters("wg_expert_matmul").launches;
  return run;
}

bool same_results(const ForwardResult& one, const ForwardResult& other) {
  return one.code == SE_OK && other.code == SE_OK && same_bits(one.output, other.output) &&
         same_bits(one.ids, other.ids) && same_bits(one.weights, other.weights) &&
         same_bits(one.flags, other.flags);
}

// Of each kind of layer there is; all of a shared expert's launches, whatever it shares with the routed
// ones, and a latent space.
TEST_CASE("the bits of mma.sync") {
  const Architecture hopper("90");
  const OpenDevice with;
  const OpenDevice without(kSwitch, "0");
  uint64_t launches = 0;
  for (const auto& [name, kind] : layer_kinds()) {
    LayerOptions options = kind;
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const std::vector<char> hidden =
        random_bytes(&fixture.random, 120 * fixture.layer.hidden_size, SE_BF16, 1);
    const ForwardCall call(fixture, hidden, SE_BF16);
    const Run wg = run(with.get(), fixture, call);
    const Run mma = run(without.get(), fixture, call);
    CHECK_MESSAGE(same_results(wg.result, mma.result), name);
    CHECK_MESSAGE(mma.launches == 0, name, ": switched off");
    launches += wg.launches;
  }
  CHECK_MESSAGE(launches >= 10, launches, " launches on wgmma in all");
}

LayerOptions plain_options() {
  LayerOptions options;
  options.dtype = SE_F16;
  options.shared = 40;
  return options;
}

// Both matmuls of a layer with a shared expert, in waves too, against the oracle.
TEST_CASE("against the oracle") {
  const Architecture hopper("90");
  const OpenDevice at_once;
  const OpenDevice in_waves("SPARSE_EXPERTS_CUDA_WAVE_BYTES", "180000");
  LayerFixture fixture(plain_options());
  const std::vector<char> hidden =
      random_bytes(&fixture.random, 300 * fixture.layer.hidden_size, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  const Run whole = run(at_once.get(), fixture, call);
  const Run waves = run(in_waves.get(), fixture, call);
  REQUIRE(whole.result.code == SE_OK);
  CHECK_MESSAGE(whole.launches == 2, "gate and up, down");
  CHECK_MESSAGE(waves.launches > 2, "in waves");
  CHECK_MESSAGE(same_results(whole.result, waves.result), "waves change no bit");
  check_close(whole.result.values(SE_F32),
              oracle_experts(fixture.layer, call.args.hidden, whole.result.ids.data(),
                             whole.result.weights.data()),
              layer_bound(SE_F16) + output_rounding(SE_F32), "warp groups");
}

TEST_CASE("when they are taken") {
  const Architecture hopper("90");
  const OpenDevice device;
  const auto launches = [&](const LayerOptions& options, int64_t num_tokens,
                            int32_t batch_invariant) {
    LayerFixture fixture(options);
    const std::vector<char> hidden =
        random_bytes(&fixture.random, num_tokens * fixture.layer.hidden_size, SE_F32, 1);
    const Run one =
        run(device.get(), fixture, ForwardCall(fixture, hidden, SE_F32), batch_invariant);
    CHECK_MESSAGE(one.result.code == SE_OK, std::string(one.result.status.message));
    // What explain() says of it.
    const DeviceLayer layer(device.get(), fixture.layer, batch_invariant);
    SeForwardDescription text{};
    se_backend_entry()->describe_forward(device.get(), &layer.description(), &layer.options(),
                                         num_tokens, &text);
    const auto named = static_cast<uint64_t>(
        (std::string(text.gate_up).find("wgmma") != std::string::npos ? 1 : 0) +
        (std::string(text.down).find("wgmma") != std::string::npos ? 1 : 0));
    CHECK_MESSAGE(named == one.launches, "described: ", std::string(text.gate_up));
    return one.launches;
  };
  CHECK_MESSAGE(launches(plain_options(), 120, 0) == 2, "many tokens");
  CHECK_MESSAGE(launches(plain_options(), 60, 0) == 0, "few tokens");
  CHECK_MESSAGE(launches(plain_options(), 120, 1) == 0, "batch invariant");
  LayerOptions options = plain_options();
  options.dtype = SE_F32;
  CHECK_MESSAGE(launches(options, 120, 0) == 0, "f32");
  options = plain_options();
  options.row_padding = 3;
  CHECK_MESSAGE(launches(options, 120, 0) == 0, "rows at odd places");
  options = plain_options();
  options.shared = 0;
  options.intermediate = 44;
  CHECK_MESSAGE(launches(options, 120, 0) == 0, "outputs that make no groups of 8");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
#endif
