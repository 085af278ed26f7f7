// Where the experts of a cached layer lie: tables of its own, in which experts come and go. The host
// writes its copy at any time; the device's follows in the order of the layer's stream, before kernels
// that are queued then, so that none reads an entry while it changes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/weight_maps.h"
#include "cuda/runtime/mirrored_block.h"

namespace sparse_experts::cuda {

class Device;

class ExpertTables {
 public:
  explicit ExpertTables(Device& device) : device_(device), block_(device) {}

  // Takes over what the layer's tables hold, and puts its own in their place: those of pointers in
  // `experts`, and in `maps` those of tensor maps, where this device's kernels read them.
  Status open(SeExperts* experts, LayerMaps* maps);

  bool is_present(int64_t expert) const { return entries(kUp)[expert] != nullptr; }
  // Whether any of them is here, so that kernels which are queued may read it.
  bool has_any(const int32_t* experts, int64_t num_experts) const;
  // They lie there from now on; NULL: nowhere. The arguments have passed check_expert_matrices. A place
  // that kernels cannot read is SE_INVALID_ARGUMENT, and changes nothing.
  Status set(const int32_t* experts, int64_t num_experts, const SeExpertMatrices* matrices);
  // Queues what has changed since it was last called; *has_queued says whether there was anything.
  Status bring_up_to_date(cudaStream_t stream, bool* has_queued);

 private:
  enum Table { kGate, kUp, kDown, kNumTables };
  // Tensor maps of gate and up together, and of down.
  struct Maps {
    WeightMatrices matrices = {};
    bool are_read = false;
    uint64_t offset = 0;
  };

  const void* const* entries(int table) const {
    return reinterpret_cast<const void* const*>(block_.host()) + table * num_experts_;
  }
  uint64_t table_bytes() const {
    return kNumTables * static_cast<uint64_t>(num_experts_) * sizeof(void*);
  }
  Status fetch(const SeExperts& experts);
  Status encode(const SeExpertMatrices& expert, std::vector<unsigned char>* maps) const;
  void mark_changed(int64_t expert);

  Device& device_;
  MirroredBlock block_;  // pointers of gate, up and down; then maps
  int64_t num_experts_ = 0;
  Maps gate_up_maps_;
  Maps down_maps_;
  // Experts whose entries the device does not have yet.
  int64_t first_changed_ = 0;
  int64_t end_changed_ = 0;
};

}  // namespace sparse_experts::cuda
