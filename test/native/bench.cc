// native_tests --bench: speed of whole layers. One line per shape and batch; random weights,
// experts spread by the router. The figures per core-second divide by processor time: they hold on
// a machine that is busy with other work too.
#include <algorithm>
#include <chrono>
#include <ctime>

#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

struct Shape {
  const char* name;
  int64_t hidden_size, intermediate, num_experts, top_k;
};

void bench_shape(const Context& context, const Shape& shape, int32_t dtype) {
  LayerOptions options;
  options.hidden_size = shape.hidden_size;
  options.intermediate = shape.intermediate;
  options.num_experts = shape.num_experts;
  options.top_k = shape.top_k;
  options.dtype = dtype;
  LayerFixture fixture(options);
  const char* text = dtype == SE_F32 ? "f32" : dtype == SE_F16 ? "f16" : "bf16";
  for (const int64_t num_tokens : {1, 4, 16, 64, 256, 512}) {
    const std::vector<char> hidden =
        random_bytes(&fixture.random, num_tokens * shape.hidden_size, SE_F32, 1);
    ForwardCall call(fixture, hidden, SE_F32);
    const int64_t num_slots = num_tokens * shape.top_k;
    std::vector<char> output(hidden.size());
    std::vector<int32_t> ids(num_slots);
    std::vector<float> weights(num_slots);
    std::vector<uint8_t> flags(num_tokens);
    call.args.output = tensor_of(output.data(), SE_F32, {num_tokens, shape.hidden_size});
    call.args.select.topk_ids = ids.data();
    call.args.select.topk_weights = weights.data();
    call.args.select.non_finite = flags.data();
    std::vector<char> workspace(context.backend->forward_workspace_bytes(
        context.device, &fixture.layer, &kDefaultOptions, num_tokens));
    SeStatus status{};
    OpenLayer layer(context.backend, context.device, fixture.layer);
    std::vector<double> seconds;
    double spent = 0;
    const std::clock_t cpu_begin = std::clock();
    for (int run = 0; run < 200 && (run < 4 || spent < 1.0); ++run) {
      const auto begin = std::chrono::steady_clock::now();
      context.backend->forward(layer.layer, &call.args, workspace.data(), workspace.size(),
                               &status);
      seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      spent += seconds.back();
    }
    const double cpu_seconds = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    const double per_core_runs = static_cast<double>(seconds.size()) / cpu_seconds;
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    std::vector<int32_t> active = ids;
    std::sort(active.begin(), active.end());
    active.erase(std::unique(active.begin(), active.end()), active.end());
    const double matrix = 3.0 * static_cast<double>(shape.hidden_size * shape.intermediate);
    const double flops = 2 * matrix * static_cast<double>(num_slots);
    const double bytes = matrix * static_cast<double>(active.size()) * (dtype == SE_F32 ? 4 : 2);
    std::printf(
        "%-10s %-16s %-4s T=%-4lld %9.3f ms  %7.1f GFLOP/s  %6.1f GB/s of weights  per core-second "
        "%6.1f GFLOP "
        "%5.1f GB  %3zu experts\n",
        context.isa.c_str(), shape.name, text, static_cast<long long>(num_tokens), median * 1e3,
        flops / median * 1e-9, bytes / median * 1e-9, flops * per_core_runs * 1e-9,
        bytes * per_core_runs * 1e-9, active.size());
    std::fflush(stdout);
  }
}

}  // namespace

void run_bench(const Context& context) {
  const Shape shape = {"deepseek-v2-lite", 2048, 1408, 64, 6};
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) bench_shape(context, shape, dtype);
}

}  // namespace native_test
