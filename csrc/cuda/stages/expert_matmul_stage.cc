// The expert_matmul stage: one tensor of all experts' weights becomes the pointer tables that the
// kernel takes.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/dtype.h"
#include "core/numeric.h"
#include "cuda/ops/elementwise.h"
#include "cuda/ops/expert_matmul.h"
#include "cuda/stages/stage.h"
#include "cuda/stages/stages.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

struct MatmulScratch {
  uint64_t tables, tiles, num_tiles, converted;
};

// Pointer tables in the order gate, up, gate bias, up bias.
constexpr int64_t kNumTables = 4;

Status fill_table(Stage& stage, const void* base, int64_t stride_bytes, int64_t count,
                  const void** table) {
  return stage.launched(launch_fill_table(base, stride_bytes, count, table, stage.stream()),
                        "fill_table");
}

// Rows of undispatched slots are 0. What lies between rows is not ours: rows that lie apart are
// overwritten from dense zeros (`zeros`: their scratch).
Status zero_rows(Stage& stage, const SeExpertMatmulArgs& args, uint64_t zeros) {
  const uint64_t row_bytes = args.output.shape[1] * sizeof(float);
  const uint64_t bytes = args.num_slots * row_bytes;
  const bool dense = args.num_slots == 1 || args.output.strides[0] == args.output.shape[1];
  void* const begin = dense ? args.output.data : stage.at<void>(zeros);
  SE_RETURN_IF_ERROR(
      stage.check(cudaMemsetAsync(begin, 0, bytes, stage.stream()), "expert_matmul"));
  if (dense) return Status::ok();
  return stage.check(
      cudaMemcpy2DAsync(args.output.data, args.output.strides[0] * sizeof(float), begin, row_bytes,
                        row_bytes, args.num_slots, cudaMemcpyDeviceToDevice, stage.stream()),
      "expert_matmul");
}

// The offsets are on the host anyway: so the records are made here.
Status copy_tiles(Stage& stage, const std::vector<int32_t>& expert_offsets, int32_t tile_tokens,
                  const MatmulScratch& scratch) {
  std::vector<TileRecord> records;
  for (size_t e = 0; e + 1 < expert_offsets.size(); ++e) {
    TileRecord record = {};
    record.expert = static_cast<int32_t>(e);
    record.first_tile = static_cast<int32_t>(records.size());
    record.first_entry = expert_offsets[e];
    record.num_entries = expert_offsets[e + 1] - record.first_entry;
    records.insert(records.end(), ceil_div(record.num_entries, tile_tokens), record);
  }
  const auto num_tiles = static_cast<int32_t>(records.size());
  const uint64_t bytes = records.size() * sizeof(TileRecord);
  PinnedBuffer& pinned = stage.pinned();
  SE_RETURN_IF_ERROR(pinned.reserve(bytes + sizeof num_tiles));
  std::memcpy(pinned.data(), records.data(), bytes);
  std::memcpy(pinned.data() + bytes, &num_tiles, sizeof num_tiles);
  SE_RETURN_IF_ERROR(stage.check(cudaMemcpyAsync(stage.at<TileRecord>(scratch.tiles), pinned.data(),
                                                 bytes, cudaMemcpyHostToDevice, stage.stream()),
                                 "expert_matmul"));
  return stage.check(cudaMemcpyAsync(stage.at<int32_t>(scratch.num_tiles), pinned.data() + bytes,
                                     sizeof num_tiles, cudaMemcpyHostToDevice, stage.stream()),
                     "expert_matmul");
}

Status queue_expert_matmul(Stage& stage, const SeExpertMatmulArgs& args,
                           const MatmulScratch& scratch,
                           const std::vector<int32_t>& expert_offsets) {
  const SeTensor& weights = args.weights;
  const int64_t num_experts = weights.shape[0];
  const int64_t element_bytes = dtype_bytes(weights.dtype);
  const int64_t stride = weights.shape[1] == 1 ? weights.shape[2] : weights.strides[1];
  const bool gated = args.apply_activation != 0 && args.activation.gated != 0;
  const int64_t num_columns = args.output.shape[1];
  // First row of "up", and the step between rows of one kind.
  const int64_t first_up = !gated ? 0 : args.interleaved != 0 ? 1 : num_columns;
  const int64_t step = gated && args.interleaved != 0 ? 2 : 1;

  ExpertMatmulKernelArgs kernel{};
  kernel.dtype = weights.dtype;
  kernel.apply_activation = args.apply_activation;
  kernel.activation = args.activation;
  if (args.apply_activation == 0) kernel.activation.gated = 0;
  kernel.num_groups = 1;
  MatmulGroup& group = kernel.groups[0];
  const auto** tables = stage.at<const void*>(scratch.tables);
  const char* base = static_cast<const char*>(weights.data);
  const int64_t expert_bytes = (num_experts == 1 ? 0 : weights.strides[0]) * element_bytes;
  if (gated) {
    SE_RETURN_IF_ERROR(fill_table(stage, base, expert_bytes, num_experts, tables));
    group.gate = tables;
  }
  group.up = tables + num_experts;
  SE_RETURN_IF_ERROR(fill_table(stage, base + first_up * stride * element_bytes, expert_bytes,
                                num_experts, tables + num_experts));
  if (args.bias.data != nullptr) {
    const auto* bias = static_cast<const float*>(args.bias.data);
    const int64_t bias_bytes = (num_experts == 1 ? 0 : args.bias.strides[0]) * 4;
    if (gated) {
      SE_RETURN_IF_ERROR(
          fill_table(stage, bias, bias_bytes, num_experts, tables + 2 * num_experts));
      group.gate_bias = reinterpret_cast<const float* const*>(tables + 2 * num_experts);
    }
    SE_RETURN_IF_ERROR(
        fill_table(stage, bias + first_up, bias_bytes, num_experts, tables + 3 * num_experts));
    group.up_bias = reinterpret_cast<const float* const*>(tables + 3 * num_experts);
  }
  group.num_experts = static_cast<int32_t>(num_experts);
  group.bias_stride = step;
  group.weight_stride = stride * step;
  group.rows = num_columns;
  group.cols = weights.shape[2];
  group.x = args.x.data;
  group.x_stride = row_stride(args.x);
  if (args.x.dtype != weights.dtype) {
    ConvertArgs convert{};
    convert.from = args.x.data;
    convert.from_dtype = args.x.dtype;
    convert.from_stride = group.x_stride;
    convert.to = stage.at<void>(scratch.converted);
    convert.to_dtype = weights.dtype;
    convert.to_stride = group.cols;
    convert.rows = args.x.shape[0];
    convert.cols = group.cols;
    SE_RETURN_IF_ERROR(stage.launched(launch_convert(convert, stage.stream()), "convert"));
    group.x = convert.to;
    group.x_stride = group.cols;
  }
  group.x_index = args.gather != 0 ? RowIndex::kToken : RowIndex::kSlot;
  group.slots = args.sorted_slots;
  group.top_k = args.gather != 0 ? args.top_k : 1;
  group.num_rows = args.num_slots;
  group.out = args.output.data;
  group.out_dtype = SE_F32;
  group.out_stride = row_stride(args.output);
  group.out_index = RowIndex::kSlot;

  MatmulShape shape{};
  shape.dtype = weights.dtype;
  shape.gated = gated ? 1 : 0;
  shape.rows = group.rows;
  shape.cols = group.cols;
  shape.num_experts = num_experts;
  shape.top_k = std::min(group.top_k, num_experts);
  shape.num_tokens = ceil_div(args.num_slots, shape.top_k);
  const MatmulConfig config = choose_matmul(shape, stage.limits());

  SE_RETURN_IF_ERROR(copy_tiles(stage, expert_offsets, config.tile_tokens, scratch));
  group.tiles = stage.at<TileRecord>(scratch.tiles);
  group.num_tiles = stage.at<int32_t>(scratch.num_tiles);
  return stage.launched(launch_expert_matmul(kernel, config, stage.stream()), "expert_matmul");
}

}  // namespace

Status expert_matmul_stage(Device& device, const SeExpertMatmulArgs& args) {
  const int64_t num_experts = args.weights.shape[0];
  const int64_t num_columns = args.output.shape[1];
  SE_CHECK_ARGUMENT(args.weights.shape[2] > 0 || args.output.shape[1] == 0 || args.num_slots == 0,
                    "expert_matmul: the weights have no columns");
  Stage stage(device);
  MatmulScratch scratch{};
  scratch.tables = stage.take(kNumTables * num_experts * sizeof(void*));
  scratch.tiles = stage.take(token_tiles_at_most(args.num_slots, num_experts, kLeastTileTokens) *
                             sizeof(TileRecord));
  scratch.num_tiles = stage.take(sizeof(int32_t));
  if (args.x.dtype != args.weights.dtype)
    scratch.converted =
        stage.take(args.x.shape[0] * args.x.shape[1] * dtype_bytes(args.weights.dtype));
  const bool dense = args.num_slots == 1 || args.output.strides[0] == num_columns;
  const uint64_t zeros = dense ? 0 : stage.take(args.num_slots * num_columns * sizeof(float));
  const DistinctSlots distinct(&stage, args.num_slots);
  SE_RETURN_IF_ERROR(stage.reserve());
  const auto queue = [&]() -> Status {
    ContentChecks checks = stage.checks();
    SE_RETURN_IF_ERROR(
        checks.offsets(args.expert_offsets, num_experts, args.num_slots, "expert_matmul"));
    SE_RETURN_IF_ERROR(checks.slots(args.sorted_slots, args.expert_offsets + num_experts,
                                    args.num_slots, "expert_matmul"));
    SE_RETURN_IF_ERROR(checks.finish());
    std::vector<int32_t> expert_offsets;
    SE_RETURN_IF_ERROR(stage.read_back(args.expert_offsets, num_experts + 1, &expert_offsets));
    SE_RETURN_IF_ERROR(
        distinct.mark(&stage, args.expert_offsets, num_experts, args.sorted_slots, args.num_slots));
    SE_RETURN_IF_ERROR(
        distinct.check(&stage, expert_offsets[num_experts], args.num_slots, "expert_matmul"));
    if (args.num_slots == 0 || num_columns == 0) return Status::ok();
    SE_RETURN_IF_ERROR(zero_rows(stage, args, zeros));
    if (expert_offsets[num_experts] == 0) return Status::ok();
    return queue_expert_matmul(stage, args, scratch, expert_offsets);
  };
  return stage.finish(queue(), "expert_matmul");
}

}  // namespace sparse_experts::cuda
