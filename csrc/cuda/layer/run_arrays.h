// The arrays of a run, between its caller and the device. Those of a small call lie in the device's
// staging memory and travel along with the launches; those of a large one pass through the device's
// copier into memory that all layers share, because nothing else computes while there is a run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/forward.h"
#include "cuda/layer/staging_plan.h"

namespace sparse_experts::cuda {

class Device;

class RunArrays {
 public:
  RunArrays(Device& device, const SeMoeLayer& layer, const SeForwardArgs& args,
            cudaStream_t stream);

  const StagingPlan& plan() const { return plan_; }
  bool is_small() const { return plan_.total_bytes <= kMostStagedBytes; }
  // Memory of plan().total_bytes each. `pinned`: of a small call; where the call is staged, its arrays
  // lie there already.
  void place(char* pinned, char* device) {
    pinned_ = pinned;
    block_ = device;
  }
  ForwardArrays on_device() const;

  // Launches on the stream may be queued behind it.
  Status bring_in();
  // Ids, weights and flags of all tokens. First what travels along with the launches; the rest when the
  // stream has been waited for.
  Status queue_routing();
  Status take_routing();
  // Flags and outputs of some rows, likewise.
  Status queue_rows(int64_t first, int64_t count);
  Status take_rows(int64_t first, int64_t count);

  // Host, of all tokens, from take_routing on. The flags are null where the call asks for none.
  const int32_t* topk_ids() const { return args_.select.topk_ids; }
  const uint8_t* non_finite() const { return args_.select.non_finite; }

 private:
  Status copy_back(uint64_t offset, int64_t bytes);

  Device& device_;
  const SeMoeLayer& layer_;
  const SeForwardArgs& args_;
  const cudaStream_t stream_;
  const StagingPlan plan_;
  char* pinned_ = nullptr;
  char* block_ = nullptr;
};

}  // namespace sparse_experts::cuda
