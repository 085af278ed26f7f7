// What is left when a step of a run fails, on the emulator.
#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/one_token.h"
#include "cuda/runs_layer.h"

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

const SeBackend& backend() { return *se_backend_entry(); }

// Every copy, launch and allocation of a run fails once: the run says so and goes no further, and the
// next one has the right bits.
TEST_CASE("planned faults in a run") {
  OneToken one;
  one.end();
  int num_failed = 0;
  for (const char* kind : {"copy", "launch", "malloc", "host", "event"}) {
    for (int n = 1; n < 60; ++n) {
      CachedDeviceLayer layer(one.device.get(), one.fixture.layer);
      StepCall own(one.call, one.device.get(), layer.description(), layer.options());
      CHECK(layer.place(one.needed) == SE_OK);
      simt::set_faults(std::string(kind) + ":" + std::to_string(n));
      SeForwardRun* run = nullptr;
      int32_t code = backend().forward_begin(layer.get(), &own.args, own.workspace.as<>(),
                                             own.workspace_bytes, &run, &one.status);
      SeForwardWave wave{};
      const auto step = [&](auto&& body) {
        if (code == SE_OK) code = body();
      };
      step([&] { return backend().forward_wave(run, &wave, &one.status); });
      for (const int32_t expert : one.needed)
        step([&] { return backend().forward_experts(run, &expert, 1, &one.status); });
      step([&] { return backend().forward_finish(run, &one.status); });
      const std::string what = std::string(kind) + ":" + std::to_string(n);
      if (code == SE_OK) {
        check_same_bits(own.result.output, one.whole.output, what);
      } else {
        ++num_failed;
        if (run != nullptr)
          CHECK_MESSAGE(backend().forward_finish(run, &one.status) != SE_OK, what);
      }
      backend().forward_end(run);
      const bool is_reached = simt::pending_faults() == 0;
      simt::clear_faults();
      layer.clear();
      const ForwardResult again = run_in_steps(layer, one.call, 1);
      CHECK_MESSAGE(again.code == SE_OK, what, ": ", std::string(again.status.message));
      check_same_bits(again.output, one.whole.output, what + ": the next run");
      if (!is_reached) break;
    }
  }
  CHECK_MESSAGE(num_failed > 10, num_failed, " faults were met");
}

TEST_CASE("a device that is lost in a run") {
  {
    OneToken one;
    CHECK(one.layer.place(one.needed) == SE_OK);
    simt::set_faults("sticky:1");
    CHECK(one.compute(one.needed) == SE_OK);  // nobody has waited
    CHECK(one.finish() == SE_DEVICE_LOST);
    CHECK(one.finish() == SE_DEVICE_LOST);
    CHECK(one.compute({0}) == SE_DEVICE_LOST);
    one.end();
    CHECK(one.begin() == SE_DEVICE_LOST);
    CHECK(one.run == nullptr);
  }
  simt::revive_devices();
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
#endif
