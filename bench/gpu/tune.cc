// cuda_tune --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing uniform,zipf] [--replays N]
//           [--launches N] [--seconds S]
//
// Times both expert matmuls of a shape in bf16 by every configuration that this device can launch
// (list_matmul_configs), weights cold, each launch alone in a graph. One JSON object per configuration,
// as soon as it is known: bench/gpu/fit-choice.ts reads them and says by which constants choose_matmul
// would choose best. The chosen configuration comes first; one whose first replay takes more than 1.3
// times the best so far is left there. Exit status 3: no CUDA device.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "bench_case.h"
#include "bench_layer.h"
#include "cuda/runtime/device.h"
#include "tune_case.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace sparse_experts::bench {
namespace {

constexpr double kHopeless = 1.3;  // times the best

struct Options {
  Shape shape;
  std::vector<int64_t> tokens = {1, 16, 64, 256, 512, 1024, 4096};
  std::vector<std::string> routings = {"uniform"};
  int replays = 7;
  int launches = 4;  // per graph
  double seconds = 1e9;
};

bool is_same(const cuda::MatmulConfig& a, const cuda::MatmulConfig& b) {
  return a.variant == b.variant && a.kernel == b.kernel && a.tile_tokens == b.tile_tokens &&
         a.stages == b.stages && a.blocks_per_multiprocessor == b.blocks_per_multiprocessor;
}

class Sweep {
 public:
  Sweep(SeDevice& device, const Options& options)
      : device_(device), options_(options), began_(std::chrono::steady_clock::now()) {}

  // False: out of time.
  bool run() {
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    must(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
    const BenchLayer weights(options_.shape, options_.launches, free_bytes / 10 * 6);
    for (const std::string& routing : options_.routings) {
      for (const int64_t num_tokens : options_.tokens) {
        TuneCase tune(device_, options_.shape, weights, num_tokens, routing == "zipf");
        for (const Matmul matmul : {Matmul::kGateUp, Matmul::kDown}) {
          if (!sweep(&tune, matmul, num_tokens, routing)) return false;
        }
      }
    }
    return true;
  }

 private:
  bool sweep(TuneCase* tune, Matmul matmul, int64_t num_tokens, const std::string& routing) const {
    const cuda::MatmulShape shape = tune->shape(matmul);
    const cuda::DeviceLimits& limits = device_.limits().device;
    const cuda::MatmulConfig chosen = cuda::choose_matmul(shape, limits);
    std::vector<cuda::MatmulConfig> configs = cuda::list_matmul_configs(shape, limits);
    std::stable_partition(configs.begin(), configs.end(),
                          [&](const cuda::MatmulConfig& c) { return is_same(c, chosen); });
    double best = 1e30;
    for (const cuda::MatmulConfig& config : configs) {
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began_;
      if (passed.count() > options_.seconds) return false;
      const std::vector<double> times =
          tune->microseconds(matmul, config, options_.launches, options_.replays, kHopeless * best);
      if (times.empty()) continue;
      const double time = median(times);
      best = std::min(best, time);
      print(shape, config, matmul, num_tokens, routing, times, is_same(config, chosen));
    }
    return true;
  }

  void print(const cuda::MatmulShape& shape, const cuda::MatmulConfig& config, Matmul matmul,
             int64_t num_tokens, const std::string& routing, const std::vector<double>& times,
             bool is_chosen) const {
    char text[200];
    cuda::describe_matmul(config, text, sizeof text);
    const auto [least, most] = std::minmax_element(times.begin(), times.end());
    const double middle = median(times);
    const std::string name(text);
    std::printf(
        "{\"shape\":\"%s\",\"tokens\":%lld,\"routing\":\"%s\",\"matmul\":\"%s\",\"experts\":%lld,"
        "\"topK\":%lld,\"rows\":%lld,\"cols\":%lld,\"variant\":\"%s\",\"kernel\":%d,\"tileTokens\":"
        "%d,"
        "\"stages\":%d,\"blocks\":%d,\"grid\":%d,\"chosen\":%s,\"replays\":%d,\"us\":%.3f,"
        "\"spread\":%.3f,\"text\":\"%s\"}\n",
        options_.shape.name.c_str(), static_cast<long long>(num_tokens), routing.c_str(),
        matmul == Matmul::kGateUp ? "gate and up" : "down",
        static_cast<long long>(shape.num_experts), static_cast<long long>(shape.top_k),
        static_cast<long long>(shape.rows), static_cast<long long>(shape.cols),
        name.substr(0, name.find(' ', name.find(' ') + 1)).c_str(), config.kernel,
        config.tile_tokens, config.stages, config.blocks_per_multiprocessor, config.grid,
        is_chosen ? "true" : "false", static_cast<int>(times.size()), middle,
        (*most - *least) / std::max(middle, 1e-9), text);
    std::fflush(stdout);
  }

  SeDevice& device_;
  const Options& options_;
  const std::chrono::steady_clock::time_point began_;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--shape") {
      if (!parse_shape(value, &options->shape)) return false;
    } else if (name == "--tokens") {
      options->tokens = parse_numbers(value);
    } else if (name == "--routing") {
      options->routings = split(value, ',');
    } else if (name == "--replays") {
      options->replays = std::max(1, std::atoi(value.c_str()));
    } else if (name == "--launches") {
      options->launches = std::max(1, std::atoi(value.c_str()));
    } else if (name == "--seconds") {
      options->seconds = std::atof(value.c_str());
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && !options->shape.name.empty();
}

}  // namespace
}  // namespace sparse_experts::bench

int main(int argc, char** argv) {
  using namespace sparse_experts::bench;
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: cuda_tune --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing "
                 "uniform,zipf] [--replays N] [--launches N] [--seconds S]\n");
    return 2;
  }
  if (!Sweep(open_device(*se_backend_entry()), options).run())
    std::fprintf(stderr, "cuda_tune: out of time\n");
  return 0;
}
