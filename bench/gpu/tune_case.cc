#include "tune_case.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "bench_case.h"
#include "cuda/ops/dispatch.h"

namespace sparse_experts::bench {
namespace {

DeviceMemory rows_of_bf16(int64_t rows, int64_t cols, uint32_t seed) {
  DeviceMemory memory = allocate(static_cast<uint64_t>(rows * cols) * 2, "rows");
  if (rows * cols > 0) fill_bf16(memory.get(), rows * cols, 1.0f, seed, nullptr);
  return memory;
}

DeviceMemory bytes_of(int64_t count, int64_t bytes) {
  return allocate(static_cast<uint64_t>(count * bytes), "tune");
}

template <typename T>
T* as(const DeviceMemory& memory) {
  return reinterpret_cast<T*>(memory.get());
}

}  // namespace

std::vector<int32_t> draw_ids(const Shape& shape, int64_t num_tokens, bool zipf) {
  const auto num_experts = static_cast<size_t>(shape.num_experts);
  const auto top_k = static_cast<size_t>(shape.top_k);
  std::mt19937 random(17);
  std::vector<size_t> rank(num_experts);
  std::iota(rank.begin(), rank.end(), size_t{0});
  std::shuffle(rank.begin(), rank.end(), std::mt19937(11));
  std::uniform_real_distribution<double> uniform(1e-12, 1.0);
  std::vector<double> key(num_experts);
  std::vector<int32_t> order(num_experts);
  std::vector<int32_t> ids;
  for (int64_t token = 0; token < num_tokens; ++token) {
    // The k least of exponential variables whose rates are the experts' shares.
    for (size_t e = 0; e < num_experts; ++e)
      key[e] = -std::log(uniform(random)) * (zipf ? 1.0 + static_cast<double>(rank[e]) : 1.0);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + static_cast<long>(top_k), order.end(),
                      [&](int32_t a, int32_t b) {
                        return key[static_cast<size_t>(a)] < key[static_cast<size_t>(b)];
                      });
    ids.insert(ids.end(), order.begin(), order.begin() + static_cast<long>(top_k));
  }
  return ids;
}

TuneCase::TuneCase(SeDevice& device, const Shape& shape, const BenchLayer& weights,
                   int64_t num_tokens, bool zipf)
    : device_(device),
      shape_(shape),
      weights_(weights),
      num_tokens_(num_tokens),
      num_slots_(num_tokens * shape.top_k),
      ids_(bytes_of(num_slots_, 4)),
      slot_weights_(bytes_of(num_slots_, 4)),
      offsets_(bytes_of(shape.num_experts + 1, 4)),
      slots_(bytes_of(num_slots_, 4)),
      tiles_(
          bytes_of(cuda::token_tiles_at_most(num_slots_, shape.num_experts, cuda::kLeastTileTokens),
                   int64_t{sizeof(cuda::TileRecord)})),
      num_tiles_(bytes_of(cuda::kMaxTileKinds, 4)),
      scratch_(allocate(cuda::dispatch_scratch_bytes(num_slots_, shape.num_experts), "scratch")),
      hidden_(rows_of_bf16(num_tokens, shape.hidden_size, 100)),
      expert_hidden_(rows_of_bf16(num_slots_, shape.intermediate_size, 101)),
      expert_output_(bytes_of(num_slots_ * shape.hidden_size, 4)),
      shared_hidden_(rows_of_bf16(num_tokens, shape.shared_size, 102)),
      shared_output_(bytes_of(shape.shared_size > 0 ? num_tokens * shape.hidden_size : 0, 4)) {
  must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  const std::vector<int32_t> ids = draw_ids(shape, num_tokens, zipf);
  must(cudaMemcpy(ids_.get(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice), "ids");
  fill_f32(as<float>(slot_weights_), num_slots_, 0.1f, 103, nullptr);
  for (int copy = 0; copy < weights.num_copies(); ++copy) {
    maps_.push_back(std::make_unique<cuda::WeightMaps>(device));
    SeStatus status{};
    const Status opened = maps_.back()->open(weights.layer(copy), true);
    require(opened.write_to(&status), status, "tensor maps");
  }
  must(cudaDeviceSynchronize(), "inputs");
}

TuneCase::~TuneCase() { static_cast<void>(cudaStreamDestroy(stream_)); }

cuda::MatmulShape TuneCase::shape(Matmul matmul) const {
  const bool gated = matmul == Matmul::kGateUp;
  const bool shared = shape_.shared_size > 0;
  const cuda::LayerMaps& maps = maps_.front()->maps();
  cuda::MatmulShape shape{};
  shape.dtype = SE_BF16;
  shape.gated = gated ? 1 : 0;
  shape.rows = gated ? shape_.intermediate_size : shape_.hidden_size;
  shape.cols = gated ? shape_.hidden_size : shape_.intermediate_size;
  shape.num_experts = shape_.num_experts;
  shape.top_k = shape_.top_k;
  shape.num_tokens = num_tokens_;
  if (shared) {
    shape.shared_rows = gated ? shape_.shared_size : shape_.hidden_size;
    shape.shared_cols = gated ? shape_.hidden_size : shape_.shared_size;
  }
  const bool routed_ready = (gated ? maps.gate_up : maps.down) != nullptr;
  const bool shared_ready = (gated ? maps.shared_gate_up : maps.shared_down) != nullptr;
  shape.bulk_ready = routed_ready && (!shared || shared_ready) ? 1 : 0;
  return shape;
}

cuda::ExpertMatmulKernelArgs TuneCase::arguments(Matmul matmul, int copy) const {
  const SeMoeLayer& layer = weights_.layer(copy);
  const cuda::LayerMaps& maps = maps_[static_cast<size_t>(copy)]->maps();
  const bool gated = matmul == Matmul::kGateUp;
  cuda::ExpertMatmulKernelArgs args{};
  args.dtype = SE_BF16;
  args.apply_activation = gated ? 1 : 0;
  if (gated) args.activation = layer.experts.activation;
  args.num_groups = shape_.shared_size > 0 ? 2 : 1;
  const auto fill = [&](cuda::MatmulGroup* group, const SeExperts& experts, const void* own_maps,
                        const DeviceMemory& inner, const DeviceMemory& output) {
    const SeMatrixTable& matrix = gated ? experts.up : experts.down;
    group->num_experts = static_cast<int32_t>(experts.num_experts);
    if (gated) group->gate = experts.gate.data;
    group->up = matrix.data;
    group->weight_maps = own_maps;
    group->weight_stride = matrix.row_stride;
    group->rows = matrix.rows;
    group->cols = matrix.cols;
    group->x = gated ? hidden_.get() : inner.get();
    group->x_stride = matrix.cols;
    group->out = gated ? inner.get() : output.get();
    group->out_dtype = gated ? SE_BF16 : SE_F32;
    group->out_stride = matrix.rows;
    group->top_k = 1;
    group->num_rows = num_tokens_;
  };
  cuda::MatmulGroup& routed = args.groups[0];
  fill(&routed, layer.experts, gated ? maps.gate_up : maps.down, expert_hidden_, expert_output_);
  routed.slots = as<int32_t>(slots_);
  routed.top_k = shape_.top_k;
  routed.tiles = as<cuda::TileRecord>(tiles_);
  routed.num_tiles = as<int32_t>(num_tiles_);
  routed.num_rows = num_slots_;
  routed.x_index = gated ? cuda::RowIndex::kToken : cuda::RowIndex::kSorted;
  routed.out_index = gated ? cuda::RowIndex::kSorted : cuda::RowIndex::kSlot;
  if (!gated) routed.slot_weights = as<float>(slot_weights_);
  if (args.num_groups > 1)
    fill(&args.groups[1], layer.shared, gated ? maps.shared_gate_up : maps.shared_down,
         shared_hidden_, shared_output_);
  return args;
}

void TuneCase::dispatch(int32_t tile_tokens) {
  cuda::DispatchKernelArgs args{};
  args.topk_ids = as<int32_t>(ids_);
  args.num_slots = num_slots_;
  args.top_k = shape_.top_k;
  args.num_experts = shape_.num_experts;
  args.expert_offsets = as<int32_t>(offsets_);
  args.sorted_slots = as<int32_t>(slots_);
  args.tile_tokens[0] = tile_tokens;
  args.tiles[0] = as<cuda::TileRecord>(tiles_);
  args.num_tiles = as<int32_t>(num_tiles_);
  args.scratch = scratch_.get();
  must(cuda::launch_dispatch(args, cuda::LaunchStream(stream_)), "dispatch");
  must(cudaStreamSynchronize(stream_), "dispatch");
}

std::vector<double> TuneCase::microseconds(Matmul matmul, const cuda::MatmulConfig& config,
                                           int launches, int replays, double hopeless) {
  dispatch(config.tile_tokens);
  // Before it is recorded: a refusal would leave a broken graph.
  if (cuda::launch_expert_matmul(arguments(matmul, 0), config, stream_) != cudaSuccess) return {};
  must(cudaStreamSynchronize(stream_), "matmul");
  Replay replay(stream_, [&] {
    for (int i = 0; i < launches; ++i) {
      must(
          cuda::launch_expert_matmul(arguments(matmul, i % weights_.num_copies()), config, stream_),
          "matmul");
    }
  });
  std::vector<double> times;
  replay.microseconds();
  for (int i = 0; i < replays; ++i) {
    times.push_back(replay.microseconds() / launches);
    if (times.front() > hopeless) break;
  }
  return times;
}

}  // namespace sparse_experts::bench
