// The table of kernel variants: which compiled kernels serve an operation, on which architectures,
// in which formats. It is the only list of them. choose_matmul and layer.explain() walk it, and
// `npm run check:kernels` holds what the compiler made against it (bench/gpu/variants.cc prints it).
//
// Only rows know a compute capability: everything else depends on sizes and limits. A second
// formulation of an operation is a folder in kernels/ and a row here.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"
#include "cuda/ops/weight_maps.h"

namespace sparse_experts::cuda {

// Compute capabilities, 10 * major + minor, both ends included.
struct CapabilityRange {
  int32_t least;
  int32_t most;

  bool has(int32_t capability) const { return capability >= least && capability <= most; }
};

// One formulation of the expert matmul. The host code of a variant lies beside its kernels.
struct MatmulVariant {
  const char* name;  // the first words of its description
  CapabilityRange runs_on;
  int32_t activation;  // SeDtype of the arithmetic
  int32_t weight;      // SeMatrixCode of the matrices as they lie (held_code)
  // Whether it can compute this shape; null: any.
  bool (*serves)(const MatmulShape& shape, const DeviceLimits& limits);
  MatmulConfig (*choose)(const MatmulShape& shape, const DeviceLimits& limits);  // pure
  // All that it can launch for a shape, and so a sweep compares, however the choice would be. Pure.
  std::vector<MatmulConfig> (*list)(const MatmulShape& shape, const DeviceLimits& limits);
  cudaError_t (*prepare)(const DeviceLimits& limits);  // once per device; null: nothing to prepare
  cudaError_t (*launch)(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                        LaunchStream stream);
  void (*describe)(const char* name, const MatmulConfig& config, char* text, uint64_t size);
  const char* kernels;  // how the names of its compiled kernels begin
  // Tensor maps of the weights, which its kernels read: false where these cannot be described. Null:
  // it reads none.
  bool (*encode_maps)(const WeightMatrices& matrices, void* maps);
};
bool runs_on_device(const MatmulVariant& variant, const DeviceLimits& limits);
// Whether it multiplies by matrices in a format, or, null, by rows of the dtype itself.
bool is_of_dtypes(const MatmulVariant& variant, int32_t dtype, const SeMatrixFormat* stored);

// In order of preference: a call takes the first row that serves it.
struct MatmulVariants {
  const MatmulVariant* rows;
  int32_t count;

  const MatmulVariant* begin() const { return rows; }
  const MatmulVariant* end() const { return rows + count; }
};
MatmulVariants matmul_variants();

// Row number of the variant that a matmul takes; -1 where none serves it.
int32_t find_matmul_variant(const MatmulShape& shape, const DeviceLimits& limits);
// A row by its number; null outside of the table.
const MatmulVariant* matmul_variant(int32_t number);

// Writes the maps, [count] of kWeightMapBytes, that kernels of this dtype want on this device. False: they
// want none, or these matrices cannot be described, and run on kernels that need no maps.
bool encode_weight_maps(const WeightMatrices& matrices, const DeviceLimits& limits, void* maps);

// What stands behind an operation in one dtype of its arrays, for the check of the compiled code.
struct KernelCell {
  std::string op;
  std::string dtype;
  CapabilityRange runs_on;
  std::vector<std::string> kernels;  // how names begin; each needs a kernel on every architecture
};
// All operations: the matmuls above and those of one formulation. Every compiled kernel is in a
// cell.
std::vector<KernelCell> kernel_cells();

}  // namespace sparse_experts::cuda
