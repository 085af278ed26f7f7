// Forwards whose kernels may start before the one before them has ended: on an emulated device of sm_90,
// where every kernel must wait by the rules, and the bits are those of ordinary launches.
#include <algorithm>
#include <string>
#include <vector>

#include "cases.h"
#include "cpp/check.h"
#include "cuda/architecture.h"
#include "cuda/context.h"
#include "cuda/device_layer.h"
#include "cuda/runtime/device.h"
#include "oracle/fixture.h"

#if defined(SIMT_EMULATOR)
namespace native_test {
namespace {

TEST_SUITE_BEGIN("early_launch");

TEST_CASE("where they are possible") {
  {
    const Architecture ampere("80");
    const OpenDevice device;
    CHECK_MESSAGE(!device.get()->early_launches(), "sm_80");
  }
  const Architecture hopper("90");
  const OpenDevice device;
  const OpenDevice switched_off("SPARSE_EXPERTS_CUDA_EARLY_LAUNCHES", "0");
  CHECK_MESSAGE(device.get()->early_launches(), "sm_90");
  CHECK_MESSAGE(!switched_off.get()->early_launches(), "switched off");
}

// Replayed, recorded and plain; sizes that take the large form of dispatch and several waves.
TEST_CASE("forwards") {
  const Architecture hopper("90");
  const OpenDevice early("SPARSE_EXPERTS_CUDA_WAVE_BYTES", "100000");
  const OpenDevice ordinary("SPARSE_EXPERTS_CUDA_EARLY_LAUNCHES", "0");
  for (const auto& [name, kind] : layer_kinds()) {
    LayerOptions options = kind;
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const DeviceLayer layer(early.get(), fixture.layer);
    const DeviceLayer expected_layer(ordinary.get(), fixture.layer);
    for (const int64_t num_tokens :
         is_first_schedule() ? std::vector<int64_t>{1, 70} : std::vector<int64_t>{3}) {
      const std::vector<char> hidden =
          random_bytes(&fixture.random, num_tokens * fixture.layer.hidden_size, SE_F32, 1);
      const ForwardCall call(fixture, hidden, SE_F32);
      const ForwardResult expected = run_on_device(expected_layer, call);
      Every same;
      for (int run = 0; run < 3; ++run) {
        const ForwardResult result = run_on_device(layer, call);
        same.that(result.code == SE_OK && same_bits(result.output, expected.output) &&
                  same_bits(result.ids, expected.ids) &&
                  same_bits(result.weights, expected.weights) &&
                  same_bits(result.flags, expected.flags));
      }
      same.check("early launches " + name + " T=" + std::to_string(num_tokens));
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
#endif
