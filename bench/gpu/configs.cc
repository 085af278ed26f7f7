// matmul_configs NAME:H:I:E:K:SHARED…: what choose_matmul chooses for each shape, number of tokens
// and architecture in bf16, one JSON object per line. Runs on the host alone.
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace {

using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::MatmulConfig;
using sparse_experts::cuda::MatmulShape;

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;

// One GPU of each architecture, by its data sheet.
struct Gpu {
  const char* name;
  DeviceLimits limits;
};
const Gpu kGpus[] = {
    {"A100", {80, 108, 163 * kKiB, 164 * kKiB, 40 * kMiB}},
    {"A40", {86, 84, 99 * kKiB, 100 * kKiB, 6 * kMiB}},
    {"L40S", {89, 142, 99 * kKiB, 100 * kKiB, 96 * kMiB}},
    {"H200", {90, 132, 227 * kKiB, 228 * kKiB, 50 * kMiB}},
    {"B200", {100, 148, 227 * kKiB, 228 * kKiB, 126 * kMiB}},
    {"RTX PRO 6000", {120, 188, 99 * kKiB, 100 * kKiB, 128 * kMiB}},
};
constexpr int64_t kTokens[] = {1, 8, 64, 512, 4096};

void print(const std::string& shape, const Gpu& gpu, const char* matmul, int64_t num_tokens,
           const MatmulShape& sizes) {
  const MatmulConfig config = sparse_experts::cuda::choose_matmul(sizes, gpu.limits);
  char text[240];
  sparse_experts::cuda::describe_matmul(config, text, sizeof text);
  std::printf(
      "{\"shape\":\"%s\",\"gpu\":\"%s\",\"architecture\":%d,\"matmul\":\"%s\",\"tokens\":%lld,"
      "\"text\":\"%s\",\"sharedBytes\":%lld,\"threads\":%d,\"blocks\":%d}\n",
      shape.c_str(), gpu.name, gpu.limits.compute_capability, matmul,
      static_cast<long long>(num_tokens), text, static_cast<long long>(config.shared_bytes),
      config.threads, config.blocks_per_multiprocessor);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::vector<std::string> parts;
    std::stringstream stream(argv[i]);
    for (std::string part; std::getline(stream, part, ':');) parts.push_back(part);
    if (parts.size() != 6) {
      std::fprintf(stderr, "matmul_configs: expected NAME:H:I:E:K:SHARED, received %s\n", argv[i]);
      return 2;
    }
    const auto number = [&](size_t at) { return std::atoll(parts[at].c_str()); };
    for (const Gpu& gpu : kGpus) {
      for (const int64_t num_tokens : kTokens) {
        MatmulShape sizes{};
        sizes.dtype = SE_BF16;
        sizes.gated = 1;
        sizes.rows = number(2);
        sizes.cols = number(1);
        sizes.num_experts = number(3);
        sizes.top_k = number(4);
        sizes.num_tokens = num_tokens;
        sizes.bulk_ready = 1;
        sizes.shared_rows = number(5);
        sizes.shared_cols = number(5) > 0 ? number(1) : 0;
        print(parts[0], gpu, "gate and up", num_tokens, sizes);
        sizes.gated = 0;
        sizes.rows = number(1);
        sizes.cols = number(2);
        sizes.shared_rows = number(5) > 0 ? number(1) : 0;
        sizes.shared_cols = number(5);
        print(parts[0], gpu, "down", num_tokens, sizes);
      }
    }
  }
  return argc > 1 ? 0 : 2;
}
