// cuda_counts [--tokens 1,8,64] NAME:H:I:E:K:SHARED…
//
// What the kernels of one forward do, counted by the emulator: bytes, 32-byte sectors, conflicts,
// instructions, per shape and number of tokens, bf16, uniform routing. One JSON object per kernel
// and line. Exact and repeatable; says nothing about time.
#include <simt/counters.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "bench_case.h"
#include "bench_layer.h"
#include "cuda/runtime/device.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace sparse_experts::bench {
namespace {

// "void a::b::name<…>(…)" -> "name"
std::string short_name(const std::string& name) {
  const std::string head = name.substr(0, name.find_first_of("<("));
  const size_t begin = head.find_last_of(": ");
  return begin == std::string::npos ? head : head.substr(begin + 1);
}

void print(const Shape& shape, int64_t num_tokens, int64_t experts_hit) {
  std::vector<std::string> order;
  std::map<std::string, simt::Counters> sums;
  // The two matmuls are one kernel: the first launch is gate and up, the second down.
  std::map<std::string, int> launches;
  for (const simt::LaunchRecord& record : simt::launch_records()) {
    std::string name = short_name(record.name);
    if (name.find("expert_matmul") != std::string::npos)
      name += launches[name]++ == 0 ? " (gate, up)" : " (down)";
    if (sums.find(name) == sums.end()) order.push_back(name);
    sums[name] += record.counters;
  }
  for (const std::string& name : order) {
    const simt::Counters& c = sums[name];
    const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf(
        "{\"shape\":\"%s\",\"tokens\":%lld,\"expertsHit\":%lld,\"kernel\":\"%s\",\"blocks\":%llu,"
        "\"barriers\":%llu,\"warpCollectives\":%llu,\"mma\":%llu,\"ldmatrix\":%llu,"
        "\"bankConflicts\":%llu,\"copyBytes\":%llu,\"copySectors\":%llu}\n",
        shape.name.c_str(), static_cast<long long>(num_tokens), static_cast<long long>(experts_hit),
        name.c_str(), number(c.blocks), number(c.block_barriers), number(c.warp_collectives),
        number(c.mma), number(c.ldmatrix),
        number(c.ldmatrix_bank_conflicts + c.cp_async_bank_conflicts),
        number(c.cp_async_bytes + c.global_load_bytes),
        number(c.cp_async_sectors + c.global_load_sectors));
  }
  std::fflush(stdout);
}

void count(SeDevice& device, const Shape& shape, const std::vector<int64_t>& tokens) {
  const BenchLayer weights(shape, 1, 0, true);
  for (const int64_t num_tokens : tokens) {
    BenchCase run(*se_backend_entry(), device, shape, weights, num_tokens);
    simt::reset_counters();
    run.run_once();
    print(shape, num_tokens, run.experts_hit());
  }
}

}  // namespace
}  // namespace sparse_experts::bench

int main(int argc, char** argv) {
  using namespace sparse_experts::bench;
  SeDevice& device = open_device(*se_backend_entry());
  std::vector<int64_t> tokens = {1, 8, 64};
  for (int i = 1; i < argc; ++i) {
    Shape shape;
    if (std::string(argv[i]) == "--tokens" && i + 1 < argc) {
      tokens = parse_numbers(argv[++i]);
    } else if (parse_shape(argv[i], &shape)) {
      count(device, shape, tokens);
    } else {
      std::fprintf(stderr, "usage: cuda_counts [--tokens 1,8,64] NAME:H:I:E:K:SHARED...\n");
      return 2;
    }
  }
  return 0;
}
