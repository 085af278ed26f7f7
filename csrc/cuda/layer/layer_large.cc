// A large call: array by array through the device's copier, into memory that all layers share.
#include "cuda/layer/call_arrays.h"
#include "cuda/layer/layer.h"
#include "cuda/layer/place_arrays.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

Status Layer::run_large(const SeForwardArgs& args, const StagingPlan& staging,
                        const ForwardPlan& plan, char* workspace) {
  std::lock_guard<std::mutex> lock(device_.bulk_mutex);
  SE_RETURN_IF_ERROR(device_.bulk().reserve(staging.total_bytes));
  char* const block = device_.bulk().data();
  Copier& copier = device_.copier();
  SE_RETURN_IF_ERROR(copy_in(copier, layer_, args, staging, block));
  SE_RETURN_IF_ERROR(finish(queue_forward(queue_of(plan, workspace, false), args,
                                          place_arrays(layer_, args, staging, block))));
  SE_RETURN_IF_ERROR(copy_out_routing(copier, layer_, args, staging, block));
  return copy_out_rows(copier, args, staging, block, 0, args.select.num_tokens);
}

}  // namespace sparse_experts::cuda
