// What goes wrong: rows that are not finite, replayed ids, cancellation, absent experts, bad
// arguments, memory; and threads.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("faults");

TEST_CASE("rows that are not finite") {
  const Context& context = current();
  LayerOptions options;
  options.shared = 40, options.num_experts = 16, options.top_k = 4;
  LayerFixture fixture(options);
  const int64_t num_tokens = 9;
  std::vector<char> hidden =
      random_bytes(&fixture.random, num_tokens * options.hidden_size, SE_F32, 1);
  const ForwardResult clean =
      run_forward(context.backend, context.device, fixture, ForwardCall(fixture, hidden, SE_F32));
  const int64_t row = options.hidden_size;
  reinterpret_cast<float*>(hidden.data())[2 * row + 5] = NAN;
  reinterpret_cast<float*>(hidden.data())[6 * row] = INFINITY;
  reinterpret_cast<float*>(hidden.data())[7 * row + 1] =
      3e38f;  // finite logits may be; the experts overflow
  const ForwardResult result =
      run_forward(context.backend, context.device, fixture, ForwardCall(fixture, hidden, SE_F32));
  CHECK_MESSAGE(result.code == SE_OK, "rows that are not finite are no error");
  const std::vector<double> values = result.values(SE_F32);
  for (int64_t t = 0; t < num_tokens; ++t) {
    const bool bad = t == 2 || t == 6 || t == 7;
    CHECK_MESSAGE((result.flags[t] != 0) == bad, "flag of row ", t);
    if (!bad)
      CHECK_MESSAGE(std::memcmp(result.output.data() + t * row * 4,
                                clean.output.data() + t * row * 4, row * 4) == 0,
                    "other rows keep their bits");
    if (t == 2 || t == 6)
      CHECK_MESSAGE(std::all_of(values.begin() + t * row, values.begin() + (t + 1) * row,
                                [](double v) { return std::isnan(v); }),
                    "a flagged row is NaN");
  }
}

TEST_CASE("replay") {
  const Context& context = current();
  LayerOptions options;
  options.num_identity = 2, options.num_experts = 10, options.top_k = 3;
  LayerFixture fixture(options);
  const int64_t num_tokens = 6;
  const std::vector<char> hidden =
      random_bytes(&fixture.random, num_tokens * options.hidden_size, SE_F32, 1);
  const ForwardResult first =
      run_forward(context.backend, context.device, fixture, ForwardCall(fixture, hidden, SE_F32));
  ForwardCall call(fixture, hidden, SE_F32);
  call.args.replay = 1;
  std::vector<int32_t> ids = first.ids;
  std::vector<float> weights = first.weights;
  call.args.select.topk_ids = ids.data();
  call.args.select.topk_weights = weights.data();
  const ForwardResult again = run_forward(context.backend, context.device, fixture, call);
  CHECK_MESSAGE(again.code == SE_OK, "replay gives the same bits");
  check_same_bits(again.output, first.output, "replay gives the same bits");
  ids = {-1, -1, -1, 4, 4, 4, 0,  -1, 0,
         9,  8,  9,  7, 2, 2, -1, 8,  1};  // nothing, repeats, identity experts
  const ForwardResult odd = run_forward(context.backend, context.device, fixture, call);
  check_close(odd.values(SE_F32),
              oracle_experts(fixture.layer, call.args.hidden, ids.data(), weights.data()), 5e-6,
              "replay with repeats and dropped slots");
  for (const int32_t id : {10, -2, 0x7fffffff}) {
    ids[7] = id;
    const ForwardResult bad = run_forward(context.backend, context.device, fixture, call);
    CHECK_MESSAGE(bad.code == SE_INVALID_ARGUMENT, "a bad replayed id is refused first");
    CHECK_MESSAGE(bad.output[0] == '\xff', "a bad replayed id is refused first");
  }
}

TEST_CASE("absent experts are left out") {
  const Context& context = current();
  LayerOptions options;
  options.num_experts = 6, options.top_k = 3;
  LayerFixture fixture(options);
  const std::vector<char> hidden =
      random_bytes(&fixture.random, 20 * options.hidden_size, SE_F32, 1);
  for (const int e : {1, 4}) {
    fixture.pointers(&fixture.layer.experts.gate)[e] = nullptr;
    fixture.pointers(&fixture.layer.experts.up)[e] = nullptr;
    fixture.pointers(&fixture.layer.experts.down)[e] = nullptr;
  }
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult result = run_forward(context.backend, context.device, fixture, call);
  check_close(
      result.values(SE_F32),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      5e-6, "absent experts are left out");
}

// The weights of experts without tokens lie on pages that may not be read: they cost nothing, or
// the process ends here.
TEST_CASE("experts without tokens are never read") {
  const Context& context = current();
  LayerOptions options;
  options.num_experts = 40, options.top_k = 2;
  LayerFixture fixture(options);
  const std::vector<char> hidden =
      random_bytes(&fixture.random, 3 * options.hidden_size, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_forward(context.backend, context.device, fixture, call);
  const size_t bytes = 4 * options.hidden_size * options.intermediate;
  void* forbidden = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_MESSAGE(forbidden != MAP_FAILED, "pages that may not be read");
  fixture.untouched = forbidden;
  int64_t num_idle = 0;
  for (int32_t e = 0; e < options.num_experts; ++e) {
    if (std::count(expected.ids.begin(), expected.ids.end(), e) > 0) continue;
    ++num_idle;
    fixture.pointers(&fixture.layer.experts.gate)[e] = forbidden;
    fixture.pointers(&fixture.layer.experts.up)[e] = forbidden;
    fixture.pointers(&fixture.layer.experts.down)[e] = forbidden;
  }
  const ForwardResult result = run_forward(context.backend, context.device, fixture, call);
  CHECK_MESSAGE(num_idle >= 34, "experts without tokens are never read");
  CHECK_MESSAGE(result.output == expected.output, "experts without tokens are never read");
  munmap(forbidden, bytes);
}

TEST_CASE("forward with capacity") {
  const Context& context = current();
  LayerOptions options;
  options.num_experts = 4, options.top_k = 2, options.activation = {SE_RELU, 0, 1.0f, 0.0f, 0.0f},
  options.biases = true;
  LayerFixture fixture(options);
  fixture.layer.routing.normalization = SE_NORM_FLOOR;
  fixture.layer.routing.norm_value = 1e-7;
  fixture.layer.routing.capacity = SE_CAPACITY_BATCH;
  fixture.layer.routing.expert_capacity = 5;
  const std::vector<char> hidden =
      random_bytes(&fixture.random, 30 * options.hidden_size, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult result = run_forward(context.backend, context.device, fixture, call);
  int64_t most = 0;
  for (int32_t e = 0; e < 4; ++e)
    most = std::max<int64_t>(most, std::count(result.ids.begin(), result.ids.end(), e));
  CHECK_MESSAGE(most == 5, "no expert holds more than its capacity");
  check_close(
      result.values(SE_F32),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      5e-6, "forward with capacity");
}

TEST_CASE("bad arguments") {
  const Context& context = current();
  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 4 * 64, SE_F32, 1);
  const auto code_of = [&](const ForwardCall& call) {
    return run_forward(context.backend, context.device, fixture, call).code;
  };
  const ForwardCall good(fixture, hidden, SE_F32);
  const int32_t cancel = 1;
  ForwardCall call = good;
  call.args.cancel = &cancel;
  CHECK_MESSAGE(code_of(call) == SE_CANCELLED, "cancelled before it began");
  call = good;
  call.args.hidden.shape[1] = 63;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "wrong hidden size");
  call = good;
  call.args.select.top_p = 0;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "top_p 0");
  call = good;
  call.args.select.call_top_k = 3;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "call_top_k above top_k");
  SeRouting& routing = fixture.layer.routing;
  const SeRouting kept = routing;
  routing.top_k = 9;
  CHECK_MESSAGE(code_of(good) == SE_INVALID_ARGUMENT, "top_k above num_experts");
  routing = kept;
  routing.num_expert_groups = 3;
  CHECK_MESSAGE(code_of(good) == SE_INVALID_ARGUMENT, "groups that do not divide");
  routing = kept;
  CHECK_MESSAGE(code_of(good) == SE_OK, "the good call");
  SeStatus status{};
  SeForwardArgs args = good.args;
  OpenLayer layer(context.backend, context.device, fixture.layer);
  CHECK_MESSAGE(
      context.backend->forward(layer.layer, &args, nullptr, 0, &status) == SE_INVALID_ARGUMENT,
      "no outputs");
}

TEST_CASE("memory") {
  const Context& context = current();
  SeStatus status{};
  void* data = nullptr;
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{9} << 20}) {
    CHECK_MESSAGE(context.backend->memory_allocate(context.device, bytes, &data, &status) == SE_OK,
                  "aligned memory");
    CHECK_MESSAGE(reinterpret_cast<uintptr_t>(data) % 64 == 0, "aligned memory");
    std::memset(data, 1, bytes);
    context.backend->memory_free(context.device, data, bytes);
  }
  for (const uint64_t bytes : {uint64_t{1} << 50, ~uint64_t{0} - 100, ~uint64_t{0}}) {
    CHECK_MESSAGE(
        context.backend->memory_allocate(context.device, bytes, &data, &status) == SE_OUT_OF_MEMORY,
        "an absurd size is refused");
    CHECK_MESSAGE(data == nullptr, "an absurd size is refused");
    CHECK_MESSAGE(status.needed_bytes == bytes, "an absurd size is refused");
    CHECK_MESSAGE(status.free_bytes > 0, "an absurd size is refused");
  }
}

// Raised from another thread in mid-run: the call ends early, or had ended.
TEST_CASE("cancelled from another thread") {
  const Context& context = current();
  LayerOptions options;
  options.hidden_size = 512, options.intermediate = 512, options.num_experts = 16,
  options.top_k = 8;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_bytes(&fixture.random, 256 * 512, SE_F32, 1);
  int32_t cancel = 0;
  ForwardCall call(fixture, hidden, SE_F32);
  call.args.cancel = &cancel;
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
  });
  const ForwardResult result = run_forward(context.backend, context.device, fixture, call);
  other.join();
  CHECK_MESSAGE((result.code == SE_CANCELLED || result.code == SE_OK), "cancelled midway");
  cancel = 0;
  CHECK_MESSAGE(run_forward(context.backend, context.device, fixture, call).code == SE_OK,
                "and runs again");
}

TEST_CASE("one pool from several threads") {
  const Context& context = current();
  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 33 * 64, SE_F32, 1);
  const ForwardResult expected =
      run_forward(context.backend, context.device, fixture, ForwardCall(fixture, hidden, SE_F32));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      // Two on the shared device, two on devices of their own: all share the pool.
      SeDevice* device = context.device;
      SeStatus status{};
      if (i >= 2 && context.backend->device_open(0, &device, &status) != SE_OK) ++wrong;
      for (int run = 0; run < 20; ++run) {
        SeForwardArgs args = ForwardCall(fixture, hidden, SE_F32).args;
        std::vector<char> output(expected.output.size());
        std::vector<int32_t> ids(expected.ids.size());
        std::vector<float> weights(expected.weights.size());
        std::vector<uint8_t> flags(33);
        args.output = tensor_of(output.data(), SE_F32, {33, 64});
        args.select.topk_ids = ids.data();
        args.select.topk_weights = weights.data();
        args.select.non_finite = flags.data();
        std::vector<char> workspace(
            context.backend->forward_workspace_bytes(device, &fixture.layer, &kDefaultOptions, 33));
        OpenLayer layer(context.backend, device, fixture.layer);
        if (context.backend->forward(layer.layer, &args, workspace.data(), workspace.size(),
                                     &status) != SE_OK ||
            !same_bits(output, expected.output))
          ++wrong;
      }
      if (i >= 2) context.backend->device_close(device);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(wrong.load() == 0, "one pool from several threads");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
