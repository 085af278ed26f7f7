// Which kernel a call takes, how many warps a token gets, and how many tokens a block.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/select.cuh"
#include "cuda/kernels/any/select_softmax.cuh"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kSoftmaxExperts = 256;
constexpr int64_t kTeamWarps = 8;
constexpr int64_t kTokensPerBlock = 4;

template <int kWarps>
cudaError_t launch_teams(const SelectKernelArgs& args, const SelectTeams& teams,
                         LaunchStream stream) {
  const int64_t num_blocks =
      (args.num_tokens + teams.tokens_per_block - 1) / teams.tokens_per_block;
  if (num_blocks > INT32_MAX) return cudaErrorInvalidValue;
  const size_t shared_bytes = static_cast<size_t>(teams.shared_bytes * teams.tokens_per_block);
  const cudaError_t error = allow_shared_bytes(select_kernel<kWarps>, shared_bytes);
  if (error != cudaSuccess) return error;
  return launch(select_kernel<kWarps>, dim3(static_cast<unsigned>(num_blocks)),
                dim3(static_cast<unsigned>(32 * kWarps * teams.tokens_per_block)), shared_bytes,
                stream, args, teams);
}

// Whether the kernel of plain softmax routing serves the call: the same results, sooner.
bool is_plain_softmax(const SelectKernelArgs& args) {
  const SeRouting& routing = args.routing;
  return routing.scoring == SE_SOFTMAX && routing.num_experts <= kSoftmaxExperts &&
         routing.top_k <= kSoftmaxSlots && routing.num_expert_groups <= 1 &&
         routing.selection_bias == nullptr && routing.hash_routed == 0 &&
         routing.capacity == SE_CAPACITY_NONE && !(routing.logit_softcap > 0) &&
         routing.normalization != SE_NORM_P && args.row_top_p == nullptr && args.top_p >= 1;
}

template <int kPerLane>
cudaError_t launch_softmax(const SelectKernelArgs& args, const DeviceLimits& limits,
                           LaunchStream stream) {
  // Few tokens: a block each, so that all multiprocessors work.
  const int64_t warps = args.num_tokens <= 4 * int64_t{limits.num_multiprocessors}
                            ? 1
                            : int64_t{kSoftmaxThreads} / 32;
  const int64_t num_blocks = (args.num_tokens + warps - 1) / warps;
  if (num_blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(select_softmax_kernel<kPerLane>, dim3(static_cast<unsigned>(num_blocks)),
                dim3(static_cast<unsigned>(32 * warps)), 0, stream, args);
}

}  // namespace

cudaError_t launch_select(const SelectKernelArgs& args, const DeviceLimits& limits,
                          LaunchStream stream) {
  if (args.num_tokens == 0) return cudaSuccess;
  if (is_plain_softmax(args)) {
    if (args.routing.num_experts <= 64) return launch_softmax<2>(args, limits, stream);
    if (args.routing.num_experts <= 128) return launch_softmax<4>(args, limits, stream);
    return launch_softmax<kSoftmaxExperts / 32>(args, limits, stream);
  }
  SelectTeams teams = {};
  teams.shared_bytes = select_shared_bytes(args.routing);
  if (teams.shared_bytes > limits.shared_bytes_per_block) return cudaErrorInvalidValue;
  // Few tokens leave the device idle: eight warps then share the loads and the exponentials of one.
  if (args.num_tokens <= 2 * int64_t{limits.num_multiprocessors} && args.routing.num_experts > 64) {
    teams.tokens_per_block = 1;
    return launch_teams<kTeamWarps>(args, teams, stream);
  }
  int64_t tokens = std::min(kTokensPerBlock, limits.shared_bytes_per_block / teams.shared_bytes);
  if (args.num_tokens <= 4 * int64_t{limits.num_multiprocessors}) tokens = 1;
  teams.tokens_per_block = static_cast<int32_t>(tokens);
  return launch_teams<1>(args, teams, stream);
}

}  // namespace sparse_experts::cuda
