// cuda_bench --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing uniform,zipf] [--replays N]
//            [--forwards N] [--dump DIRECTORY] [--limits] [--energy SECONDS] [--nvml FILE]
//
// Times the CUDA backend's forward of one shape in bf16, by CUDA events around graph replays:
//   cold  each forward of the graph reads another copy of the weights
//   warm  all forwards read one copy
//   host  wall time of a call through the C ABI, arrays on the device
// With --energy, instead: the card's own energy counter over that many seconds of cold replays, and of
// an idle GPU; two seconds at least on a card, whose counter is coarse. Exit status 4: no counter.
// Prints one JSON object per line. --dump leaves inputs and outputs for
// bench/gpu/torch_baseline.py. Exit status 3: no CUDA device.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "abi/backend.h"
#include "bench_case.h"
#include "bench_layer.h"
#include "cuda/runtime/device.h"
#include "energy_counter.h"
#include "measure_energy.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace sparse_experts::bench {
namespace {

struct Options {
  Shape shape;
  std::vector<int64_t> tokens = {1, 8, 64, 512, 4096};
  std::vector<std::string> routings = {"uniform", "zipf"};
  int replays = 15;
  int forwards = 16;  // per graph
  std::string dump;
  bool limits = false;
  double energy_seconds = 0;
  std::string nvml = "libnvidia-ml.so.1";
};

// 4 where nobody counts.
const EnergyCounter& require_counter(const EnergyCounter& counter) {
  if (counter.is_there()) return counter;
  std::fprintf(stderr, "cuda_bench: no energy counter: %s\n", counter.problem().c_str());
  std::exit(4);
}

void run(const Options& options) {
  const SeBackend* backend = se_backend_entry();
  SeDevice& device = open_device(*backend);
  SeStatus status{};
  SeDeviceInfo info{};
  require(backend->device_info(0, &info, &status), status, "device");
  if (options.limits) {
    const double copy = measure_copy_bandwidth();
    std::printf(
        "{\"gpu\":\"%s\",\"architecture\":\"%s\",\"multiprocessors\":%d,\"copyGBs\":%.1f,"
        "\"mmaSyncTflops\":%.1f}\n",
        info.name, info.architecture, info.compute_units, copy * 1e-9, measure_mma_rate() * 1e-12);
    std::fflush(stdout);
  }
  if (options.shape.name.empty()) return;
  std::optional<EnergyCounter> counter;
  if (options.energy_seconds > 0) {
    counter.emplace(options.nvml);
    print_idle_energy(require_counter(*counter), options.energy_seconds);
  }

  // Cold: what lies between two reads of the same weights is several times the cache. At one token
  // few experts are read, so copies are many.
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  must(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
  BenchLayer weights(options.shape, options.forwards, free_bytes / 10 * 6);
  for (const std::string& routing : options.routings) {
    weights.set_zipf(routing == "zipf");
    for (const int64_t num_tokens : options.tokens) {
      BenchCase run(*backend, device, options.shape, weights, num_tokens);
      run.run_once();
      // Before the copies of the weights take turns: PyTorch gets the first.
      if (!options.dump.empty()) run.dump(options.dump, routing);
      if (counter) {
        print_energy(*counter, &run, options.shape.name, num_tokens, routing, options.forwards,
                     weights.num_copies(), options.energy_seconds);
        continue;
      }
      const int64_t hit = run.experts_hit();
      const uint64_t weight_bytes =
          static_cast<uint64_t>(hit) * weights.expert_bytes() + weights.shared_bytes();
      const double flops =
          2.0 * 3 * static_cast<double>(options.shape.hidden_size) *
          static_cast<double>(num_tokens) *
          static_cast<double>(options.shape.top_k * options.shape.intermediate_size +
                              options.shape.shared_size);
      const double cold =
          run.graph_microseconds(options.forwards, weights.num_copies(), options.replays);
      const double warm = run.graph_microseconds(options.forwards, 1, options.replays);
      const double host = run.host_microseconds(options.replays);
      std::printf(
          "{\"shape\":\"%s\",\"tokens\":%lld,\"routing\":\"%s\",\"dtype\":\"bf16\","
          "\"expertsHit\":%lld,\"weightBytes\":%llu,\"flops\":%.6g,\"copies\":%d,"
          "\"coldUs\":%.2f,\"warmUs\":%.2f,\"hostUs\":%.2f,\"kernels\":[",
          options.shape.name.c_str(), static_cast<long long>(num_tokens), routing.c_str(),
          static_cast<long long>(hit), static_cast<unsigned long long>(weight_bytes), flops,
          weights.num_copies(), cold, warm, host);
      const char* separator = "";
      for (const auto& [name, time] :
           run.kernel_microseconds(options.forwards, weights.num_copies(), options.replays)) {
        std::printf("%s{\"name\":\"%s\",\"coldUs\":%.2f}", separator, name.c_str(), time);
        separator = ",";
      }
      std::printf("]}\n");
      std::fflush(stdout);
    }
  }
  if (!options.dump.empty()) weights.dump(options.dump);
}

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--limits") {
      options->limits = true;
      continue;
    }
    if (++i >= argc) return false;
    const std::string value = argv[i];
    if (name == "--shape") {
      if (!parse_shape(value, &options->shape)) return false;
    } else if (name == "--tokens") {
      options->tokens = parse_numbers(value);
    } else if (name == "--routing") {
      options->routings = split(value, ',');
    } else if (name == "--replays") {
      options->replays = std::atoi(value.c_str());
    } else if (name == "--forwards") {
      options->forwards = std::atoi(value.c_str());
    } else if (name == "--energy") {
      options->energy_seconds = std::atof(value.c_str());
    } else if (name == "--nvml") {
      options->nvml = value;
    } else if (name == "--dump") {
      options->dump = value;
    } else {
      return false;
    }
  }
  return options->limits || !options->shape.name.empty();
}

}  // namespace
}  // namespace sparse_experts::bench

int main(int argc, char** argv) {
  sparse_experts::bench::Options options;
  if (!sparse_experts::bench::parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: cuda_bench --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--routing "
                 "uniform,zipf] [--replays N] [--forwards N] [--dump DIRECTORY] [--limits] "
                 "[--energy SECONDS] [--nvml FILE]\n");
    return 2;
  }
  sparse_experts::bench::run(options);
  return 0;
}
