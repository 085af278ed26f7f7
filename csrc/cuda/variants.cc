#include "cuda/variants.h"

#include "abi/backend.h"
#include "core/matrix_format.h"
#include "cuda/kernels/any/f32_expert_matmul.h"
#include "cuda/kernels/sm80/half_expert_matmul.h"
#include "cuda/kernels/sm80/stored_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/layouts/stored_layout.h"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

// cp.async, ldmatrix and mma.sync of 16-bit types begin with 80: nothing older is supported.
constexpr CapabilityRange kEvery = {80, INT32_MAX};
#if defined(SE_CUDA_SM90A)
// wgmma as compiled for 90a: no other architecture runs that code, newer ones neither.
constexpr CapabilityRange kHopper = {90, 90};
#endif

// Matrices that lie as they are stored.
constexpr MatmulVariant stored_row(const char* name, int32_t activation, int32_t code,
                                   cudaError_t (*prepare)(const DeviceLimits&),
                                   cudaError_t (*launch)(const ExpertMatmulKernelArgs&,
                                                         const MatmulConfig&, LaunchStream),
                                   const char* kernels) {
  return {name,
          kEvery,
          activation,
          code,
          serves_stored_expert_matmul,
          choose_stored_expert_matmul,
          list_stored_expert_matmul,
          prepare,
          launch,
          describe_tiles,
          kernels,
          nullptr};
}

const MatmulVariant kMatmulVariants[] = {
#if defined(SE_CUDA_SM90A)
    {"bf16 wgmma", kHopper, SE_BF16, SE_CODE_BF16, serves_wg_expert_matmul, choose_wg_expert_matmul,
     list_wg_expert_matmul, prepare_bf16_wg_expert_matmul, launch_bf16_wg_expert_matmul,
     describe_tiles, "wg_expert_matmul_kernel<Bf16,", encode_wg_weight_maps},
    {"f16 wgmma", kHopper, SE_F16, SE_CODE_F16, serves_wg_expert_matmul, choose_wg_expert_matmul,
     list_wg_expert_matmul, prepare_f16_wg_expert_matmul, launch_f16_wg_expert_matmul,
     describe_tiles, "wg_expert_matmul_kernel<F16,", encode_wg_weight_maps},
#endif
    {"bf16 mma", kEvery, SE_BF16, SE_CODE_BF16, nullptr, choose_half_expert_matmul,
     list_half_expert_matmul, prepare_bf16_expert_matmul, launch_bf16_expert_matmul, describe_tiles,
     "half_expert_matmul_kernel<Bf16,", nullptr},
    {"f16 mma", kEvery, SE_F16, SE_CODE_F16, nullptr, choose_half_expert_matmul,
     list_half_expert_matmul, prepare_f16_expert_matmul, launch_f16_expert_matmul, describe_tiles,
     "half_expert_matmul_kernel<F16,", nullptr},
    {"f32 fma", kEvery, SE_F32, SE_CODE_F32, nullptr, choose_f32_expert_matmul,
     list_f32_expert_matmul, nullptr, launch_f32_expert_matmul, describe_tiles,
     "f32_expert_matmul_kernel<", nullptr},
    stored_row("bf16 u4 mma", SE_BF16, SE_CODE_U4, prepare_bf16_u4_expert_matmul,
               launch_bf16_u4_expert_matmul, "stored_expert_matmul_kernel<Bf16, Nibbles,"),
    stored_row("bf16 i8 mma", SE_BF16, SE_CODE_I8, prepare_bf16_i8_expert_matmul,
               launch_bf16_i8_expert_matmul, "stored_expert_matmul_kernel<Bf16, Integers,"),
    stored_row("bf16 e4m3 mma", SE_BF16, SE_CODE_E4M3, prepare_bf16_e4m3_expert_matmul,
               launch_bf16_e4m3_expert_matmul, "stored_expert_matmul_kernel<Bf16, Floats8,"),
    stored_row("f16 u4 mma", SE_F16, SE_CODE_U4, prepare_f16_u4_expert_matmul,
               launch_f16_u4_expert_matmul, "stored_expert_matmul_kernel<F16, Nibbles,"),
    stored_row("f16 i8 mma", SE_F16, SE_CODE_I8, prepare_f16_i8_expert_matmul,
               launch_f16_i8_expert_matmul, "stored_expert_matmul_kernel<F16, Integers,"),
    stored_row("f16 e4m3 mma", SE_F16, SE_CODE_E4M3, prepare_f16_e4m3_expert_matmul,
               launch_f16_e4m3_expert_matmul, "stored_expert_matmul_kernel<F16, Floats8,"),
};

struct FloatType {
  const char* dtype;
  const char* type;  // as compiled names spell it
};
constexpr FloatType kFloats[] = {{"f32", "float"}, {"f16", "F16"}, {"bf16", "Bf16"}};

const char* dtype_name(int32_t dtype) {
  return dtype == SE_F32 ? "f32" : dtype == SE_F16 ? "f16" : "bf16";
}

std::string instance(const char* kernel, const char* first) {
  return std::string(kernel) + "<" + first;
}

// The operations whose kernels read and write one float dtype each.
void add_float_cells(const FloatType& own, std::vector<KernelCell>* cells) {
  // The dtype of the hidden states; router weights come in any.
  KernelCell router = {"gate", own.dtype, kEvery, {}};
  for (const FloatType& weight : kFloats) {
    if (own.type == std::string("Bf16")) {
      router.kernels.push_back(instance("router_mma_kernel", weight.type));
      continue;
    }
    const std::string pair = std::string(own.type) + ", " + weight.type;
    router.kernels.push_back(instance("router_rows_kernel", pair.c_str()));
    router.kernels.push_back(instance("router_tile_kernel", pair.c_str()));
  }
  if (own.type == kFloats[0].type) {
    router.kernels.insert(router.kernels.end(), {"router_sum_kernel", "row_norm_kernel"});
  }
  cells->push_back(router);
  // The dtype of the output.
  cells->push_back(
      {"combine",
       own.dtype,
       kEvery,
       {instance("combine_kernel", own.type), instance("shared_coefficients_kernel", own.type)}});
  KernelCell convert = {"convert", own.dtype, kEvery, {}};
  for (const FloatType& to : kFloats) {
    const std::string pair = std::string(own.type) + ", " + to.type;
    convert.kernels.push_back(instance("convert_kernel", pair.c_str()));
  }
  cells->push_back(convert);
  cells->push_back({"scaleRows", own.dtype, kEvery, {instance("scale_rows_kernel", own.type)}});
}

}  // namespace

MatmulVariants matmul_variants() {
  return {kMatmulVariants, sizeof kMatmulVariants / sizeof *kMatmulVariants};
}

bool runs_on_device(const MatmulVariant& variant, const DeviceLimits& limits) {
  return variant.runs_on.has(limits.compute_capability);
}

bool is_of_dtypes(const MatmulVariant& variant, int32_t dtype, const SeMatrixFormat* stored) {
  const int32_t code = stored != nullptr ? held_code(*stored) : float_format(dtype).code;
  return variant.activation == dtype && variant.weight == code;
}

int32_t find_matmul_variant(const MatmulShape& shape, const DeviceLimits& limits) {
  const MatmulVariants table = matmul_variants();
  for (int32_t i = 0; i < table.count; ++i) {
    const MatmulVariant& row = table.rows[i];
    if (runs_on_device(row, limits) && is_of_dtypes(row, shape.dtype, shape.stored) &&
        (row.serves == nullptr || row.serves(shape, limits))) {
      return i;
    }
  }
  return -1;
}

const MatmulVariant* matmul_variant(int32_t number) {
  const MatmulVariants table = matmul_variants();
  return number >= 0 && number < table.count ? &table.rows[number] : nullptr;
}

bool encode_weight_maps(const WeightMatrices& matrices, const DeviceLimits& limits, void* maps) {
  for (const MatmulVariant& row : matmul_variants()) {
    if (row.encode_maps != nullptr && runs_on_device(row, limits) &&
        row.activation == matrices.dtype)
      return row.encode_maps(matrices, maps);
  }
  return false;
}

std::vector<KernelCell> kernel_cells() {
  std::vector<KernelCell> cells;
  for (const FloatType& own : kFloats) add_float_cells(own, &cells);
  for (const MatmulVariant& row : matmul_variants()) {
    cells.push_back({"expertMatmul", dtype_name(row.activation), row.runs_on, {row.kernels}});
  }
  cells.push_back({"selectExperts",
                   "f32",
                   kEvery,
                   {"select_kernel<", "select_softmax_kernel<", "mark_sequences_kernel",
                    "queue_per_sequence_kernel", "queue_order_kernel", "queue_over_batch_kernel",
                    "normalize_slots_kernel", "drop_slots_kernel", "finish_slots_kernel"}});
  cells.push_back({"dispatch",
                   "i32",
                   kEvery,
                   {"dispatch_small_kernel<", "dispatch_count_kernel", "dispatch_column_kernel",
                    "dispatch_place_kernel"}});
  cells.push_back({"checks",
                   "i32",
                   kEvery,
                   {"check_range_kernel<", "check_offsets_kernel", "check_slots_kernel"}});
  cells.push_back({"lists",
                   "i32",
                   kEvery,
                   {"fill_table_kernel", "listed_slots_kernel", "unlist_slots_kernel"}});
  return cells;
}

}  // namespace sparse_experts::cuda
