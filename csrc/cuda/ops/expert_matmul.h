// Grouped matmuls: every expert's tokens times its matrices, in one launch.
//
// One formulation for all sizes: the weights are the M operand (rows of the product are the
// expert's output columns), the tokens are the N operand (8 at a time), and K runs in rising steps
// of 16 into one f32 accumulator. So the bits of an output do not depend on the tile that computed
// it, nor on the tokens beside it, unless split_k > 1.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "cuda/ops/launch_stream.h"
#include "cuda/ops/limits.h"
#include "cuda/ops/tile_record.h"

namespace sparse_experts::cuda {

// How entry i of the sorted list (or row i where there is none) finds its row.
enum class RowIndex : int32_t {
  kSorted = 0,  // i
  kToken = 1,   // slots[i] / top_k
  kSlot = 2     // slots[i]
};

// Experts of equal shape: the routed ones, or the shared one.
struct MatmulGroup {
  int32_t num_experts;
  const void* const* gate;  // [num_experts] matrices [rows, cols]; null: ungated
  const void* const* up;    // [num_experts]; ungated: the only matrix. Entries are never null where
                            // the expert has tokens
  const void* weight_maps;  // [num_experts] tensor maps of 128 bytes (encode_weight_maps), or null
  const float* const* gate_bias;  // [num_experts] or null
  const float* const* up_bias;    // [num_experts] or null
  int64_t bias_stride;            // elements between two entries of one bias
  int64_t weight_stride;          // elements between two rows of a matrix of floats
  int64_t rows;                   // outputs
  int64_t cols;                   // inputs
  const void* x;                  // activations in the arithmetic dtype
  int64_t x_stride;               // elements between rows
  RowIndex x_index;
  const int32_t* slots;  // sorted slots, or null: entry i is row i
  int64_t top_k;
  const TileRecord* tiles;   // for the config's tile_tokens, or null: one expert with the rows
                             // 0 … num_rows - 1
  const int32_t* num_tiles;  // [1] records of `tiles`; null with it
  int64_t num_rows;          // entries at most (all slots of the call); exact without tiles
  void* out;
  int32_t out_dtype;  // f32 or the arithmetic dtype
  int64_t out_stride;
  RowIndex out_index;         // kSorted or kSlot
  const float* slot_weights;  // [slots] or null: the output times slot_weights[slots[i]]
};

struct ExpertMatmulKernelArgs {
  int32_t dtype;             // arithmetic: f32, f16, bf16
  int32_t apply_activation;  // 0: out = x W^T + b
  SeActivationSpec activation;
  MatmulGroup groups[2];
  int32_t num_groups;
  // Host: the format of each group's matrices, in the layout of stored_layout.h; null: they are rows of
  // the dtype. Both groups lie in one code (held_code).
  const SeMatrixFormat* stored[2];
};

// What a configuration depends on.
struct MatmulShape {
  int32_t dtype;
  const SeMatrixFormat* stored;  // of the routed experts, as in ExpertMatmulKernelArgs
  int32_t gated;
  int64_t rows, cols;          // of the routed experts
  int64_t num_experts, top_k;  // real experts
  int64_t num_tokens;
  int64_t shared_rows, shared_cols;  // 0: no shared expert
  const SeMatrixFormat* shared_stored;
  int32_t batch_invariant;
  int32_t bulk_ready;  // all groups have weight_maps, and rows of x lie at multiples of 16 bytes
};

struct MatmulConfig {
  int32_t variant = -1;     // row of the table in cuda/variants.h
  int32_t kernel = 0;       // which instance of the variant; only the variant knows
  int32_t tile_rows = 0;    // output columns per tile (gate and up each, when gated)
  int32_t tile_tokens = 0;  // tokens per tile at most
  int32_t tile_k = 0;
  int32_t stages = 0;
  int32_t threads = 0;
  int32_t split_k = 1;
  int32_t blocks_per_multiprocessor = 1;
  int32_t grid = 0;  // persistent: at most this many blocks
  int64_t shared_bytes = 0;
};

// Pure: the first variant that serves the shape chooses its configuration.
MatmulConfig choose_matmul(const MatmulShape& shape, const DeviceLimits& limits);
// Every configuration by which a variant of this device could compute the shape, the chosen one among
// them: what a sweep compares.
std::vector<MatmulConfig> list_matmul_configs(const MatmulShape& shape, const DeviceLimits& limits);
void describe_matmul(const MatmulConfig& config, char* text, uint64_t size);

// Prepares the current device for every variant that runs on it: once per device.
cudaError_t prepare_expert_matmul(const DeviceLimits& limits);
cudaError_t launch_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                 LaunchStream stream);

}  // namespace sparse_experts::cuda
