// How many warps a token gets, and how many tokens a block.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/select.cuh"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kTeamWarps = 8;
constexpr int64_t kTokensPerBlock = 4;

template <int kWarps>
cudaError_t launch_teams(const SelectKernelArgs& args, const SelectTeams& teams,
                         cudaStream_t stream) {
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

}  // namespace

cudaError_t launch_select(const SelectKernelArgs& args, const DeviceLimits& limits,
                          cudaStream_t stream) {
  if (args.num_tokens == 0) return cudaSuccess;
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
