// A layer's memory on its device and the SeMoeLayer that points into it. Shared by its owner and
// every queued task, so it lives until the last of them ends.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "core/host_memory.h"
#include "core/matrix_format.h"
#include "engine/executor.h"
#include "engine/expert_cache.h"
#include "engine/layer_description.h"
#include "engine/matrix_slot.h"

namespace sparse_experts::engine {

// Whether layers of the device may leave experts in their checkpoint: it runs forwards in steps.
inline bool keeps_caches(const DeviceExecutor& executor) {
  return executor.backend().forward_begin != nullptr;
}

class LayerState {
 public:
  // Allocates everything in one piece. Matrices count as zero until they are written, but are not
  // touched before.
  static std::shared_ptr<LayerState> create(const LayerDescription& description,
                                            std::shared_ptr<DeviceExecutor> executor);
  struct Planned {
    uint64_t bytes = 0;         // what bytes() would be
    uint64_t pinned_bytes = 0;  // what pinned_bytes() would be
    uint64_t expert_bytes = 0;  // a block of a cache; 0: the device keeps all experts in its memory
  };
  // Of such a layer. Of the vectors only lengths are read.
  static Planned planned(const LayerDescription& description,
                         std::shared_ptr<DeviceExecutor> executor);
  ~LayerState();
  LayerState(const LayerState&) = delete;
  LayerState& operator=(const LayerState&) = delete;

  DeviceExecutor& executor() const { return *executor_; }
  const std::shared_ptr<DeviceExecutor>& shared_executor() const { return executor_; }
  const SeMoeLayer& layer() const { return layer_; }
  const SeLayerOptions& options() const { return options_; }
  SeLayer* opened() const { return opened_; }
  int32_t dtype() const { return dtype_; }
  int32_t num_threads() const { return num_threads_; }
  // Rows that calls which run as one may have together; 0: each runs alone, because a row's bits may
  // depend on the rows beside it, or because nobody wants it otherwise.
  int64_t max_joint_rows() const { return max_joint_rows_; }
  uint64_t bytes() const { return arena_bytes_ + cache_bytes(); }
  // Of the host, behind the cache of a device with memory of its own; no part of bytes().
  uint64_t pinned_bytes() const;

  // Where the experts are read from when a call needs them; null where all of them lie in memory.
  ExpertCache* cache() const { return cache_.get(); }
  // Where a matrix of an expert lies in a block of a cache; is_pinned: in a block of its host tier.
  MatrixSlot expert_slot(uint8_t* block, int64_t expert, MatrixKind kind,
                         bool is_pinned = false) const;
  // From now on these experts lie in these blocks; no blocks: they are not here. Only while running on
  // the device, or before the first forward. Throws FailureException.
  void set_experts(const std::vector<int32_t>& experts, const std::vector<uint8_t*>& blocks);
  // They are not here; whatever happens.
  void forget_experts(const std::vector<int32_t>& experts) noexcept;

  // Some experts lie on other ranks: a call runs in steps, with their rows from there (ranked_forward.h).
  bool is_partial() const { return !owned_.empty(); }
  bool owns(int64_t expert) const {
    return owned_.empty() || owned_[static_cast<size_t>(expert)] != 0;
  }
  const std::vector<uint8_t>& owned() const { return owned_; }
  // What a run of a partial layer computes: all of a call, or of rows that peers have sent their experts
  // alone.
  enum class RunKind { kWhole, kExperts };
  uint64_t run_bytes(RunKind kind, int64_t num_tokens) const;
  // Begins a run; whoever ends it does so before the layer goes. Only while running on the device.
  // Throws FailureException.
  SeForwardRun* begin_run(RunKind kind, const SeForwardArgs& args, void* workspace,
                          uint64_t workspace_bytes);

  // Throws INVALID_ARGUMENT when the block has no such matrix. Of a cached layer's experts it tells the
  // shape; they lie in a block, or nowhere.
  MatrixSlot matrix_slot(MatrixRole role, int64_t expert, MatrixKind kind) const;
  // The memory of the cache's blocks has been touched.
  void mark_blocks_touched();
  void mark_written(MatrixRole role, int64_t expert, MatrixKind kind);
  // Zeroes the matrices that nobody has written. Cheap after the first time. Only while running on
  // the device.
  void zero_unwritten();
  // Moves a small call's arrays to where its device copies from and to by itself: args point there
  // until unstage(), which every success needs. False: they stay as they are. Any thread.
  bool stage(SeForwardArgs* args);
  void unstage();
  // The device's workspace is enough for a forward of so many rows, from now until the last layer of
  // the device goes. Waits for the forward that runs: not on a thread that somebody waits for.
  void reserve_workspace(int64_t num_tokens);
  // Runs one forward and returns when its results are in place: the bytes of experts that were read for
  // it. Throws FailureException. Only while running on the device.
  uint64_t forward(const SeForwardArgs& args);

  // The owner's thread only: forwards queued or running, and a load under way.
  int calls_in_flight = 0;
  bool is_loading = false;
  bool load_failed = false;

 private:
  struct Mlp {
    uint64_t gate_offset = 0;
    uint64_t up_offset = 0;
    uint64_t down_offset = 0;
    // Indices into formats_.
    uint8_t gate_format = 0;
    uint8_t up_format = 0;
    uint8_t down_format = 0;
    bool gate_written = false;
    bool up_written = false;
    bool down_written = false;
  };
  struct MlpShape {
    int64_t intermediate = 0;
    int64_t width = 0;
    bool gated = false;
  };

  LayerState(const LayerDescription& description, std::shared_ptr<DeviceExecutor> executor);
  void take_formats(const LayerDescription& description);
  void plan(const LayerDescription& description);
  void allocate();
  void open();
  SeLayer* open(const SeMoeLayer& layer);
  void check_partial(const LayerDescription& description) const;
  void fill(const LayerDescription& description);
  // What a table of the backend says of formats; `matrix` 0: gate, 1: up, 2: down.
  void fill_formats(const std::vector<Mlp>& mlps, int matrix, SeMatrixTable* table);
  void fill_experts(const std::vector<Mlp>& mlps, const MlpShape& shape, uint64_t tables,
                    VectorRole gate_bias, VectorRole up_bias, VectorRole down_bias,
                    SeExperts* experts);
  uint64_t place(uint64_t bytes);
  uint64_t place(int64_t elements, int64_t element_bytes);
  uint64_t place_matrix(int64_t rows, int64_t cols, uint8_t format);
  uint64_t matrix_bytes(int64_t rows, int64_t cols, uint8_t format) const;
  void place_mlps(std::vector<Mlp>* mlps, const MlpShape& shape, uint64_t* tables);
  std::vector<Mlp>& mlps_of(MatrixRole role);
  // `base`: what the offsets of the matrices count from.
  MatrixSlot slot_of(const Mlp& mlp, const MlpShape& shape, MatrixKind kind, uint8_t* base) const;
  MatrixSlot slot_of(const Mlp& mlp, const MlpShape& shape, MatrixKind kind) const {
    return slot_of(mlp, shape, kind, at(0));
  }
  uint64_t place_block(Mlp* mlp);
  uint64_t cache_bytes() const;
  void place_blocks(const LayerDescription& description);
  void zero_unwritten(std::vector<Mlp>* mlps, const MlpShape& shape);
  const Mlp& find_mlp(MatrixRole role, int64_t expert, const MlpShape** shape) const;
  uint8_t* at(uint64_t offset) const { return static_cast<uint8_t*>(arena_) + offset; }
  // Null where the block has no such vector.
  const float* vector(VectorRole role) const;

  std::shared_ptr<DeviceExecutor> executor_;
  const int32_t dtype_;
  std::vector<SeMatrixFormat> formats_;  // [0]: the dtype's own values, as the backend holds them
  const int32_t num_threads_;
  const SeLayerOptions options_;
  const int64_t max_joint_rows_;
  const bool interleaved_;
  const std::vector<uint8_t> owned_;  // by expert; empty: all are here
  SeMoeLayer layer_ = {};
  SeLayer* opened_ = nullptr;
  // Of a partial layer: its routed experts alone, over the same memory.
  SeMoeLayer experts_layer_ = {};
  SeLayer* experts_opened_ = nullptr;

  MlpShape expert_shape_, shared_shape_, latent_shape_;
  std::vector<Mlp> experts_, shared_, latent_;  // shared_ and latent_: one entry or none
  std::deque<std::vector<uint8_t>> format_tables_;
  uint64_t vector_offsets_[kNumVectors] = {};
  uint64_t vector_lengths_[kNumVectors] = {};
  uint64_t expert_tables_ = 0, shared_tables_ = 0, latent_tables_ = 0;
  void* arena_ = nullptr;
  uint64_t arena_bytes_ = 0;
  uint64_t unwritten_bytes_ = 0;  // of the matrices, when nothing is written yet
  std::unique_ptr<ExpertCache> cache_;
  HostPledge pledge_;  // of the matrices that are not written
  bool counted_ = false;
  std::atomic<bool> all_written_{false};
};

}  // namespace sparse_experts::engine
