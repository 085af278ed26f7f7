// A layer's memory: where each matrix, vector and table lies in one allocation, and the SeMoeLayer that
// points into it.
#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "core/host_memory.h"
#include "core/numeric.h"
#include "engine/device_memory.h"
#include "engine/layer.h"

namespace sparse_experts::engine {
namespace {

// Cache line, and the widest vector register.
constexpr uint64_t kAlignment = 64;
// Six pointer tables per group of experts: gate, up, down and their biases.
constexpr int64_t kNumTables = 6;
constexpr int64_t kTooLarge = std::numeric_limits<int64_t>::max();

[[noreturn]] void fail_too_large() {
  throw FailureException(Failure::out_of_memory(kTooLarge, host_memory_info().free_bytes));
}

}  // namespace

uint64_t LayerState::place(uint64_t bytes) {
  uint64_t end = 0;
  const uint64_t offset = arena_bytes_;
  if (__builtin_add_overflow(offset, bytes, &end) ||
      end > static_cast<uint64_t>(kTooLarge) - kAlignment) {
    fail_too_large();
  }
  arena_bytes_ = round_up(end, kAlignment);
  return offset;
}

uint64_t LayerState::place(int64_t elements, int64_t element_bytes) {
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements), static_cast<uint64_t>(element_bytes),
                             &bytes)) {
    fail_too_large();
  }
  return place(bytes);
}

uint64_t LayerState::place_matrix(int64_t rows, int64_t cols, uint8_t format) {
  // Checked by the description: both are at most 2^31. A backend may pad them.
  if (rows > kTooLarge / 16 / cols) fail_too_large();
  const uint64_t bytes = matrix_bytes(rows, cols, format);
  const uint64_t offset = place(bytes);
  unwritten_bytes_ += bytes;
  return offset;
}

uint64_t LayerState::matrix_bytes(int64_t rows, int64_t cols, uint8_t format) const {
  return executor_->backend().matrix_bytes(executor_->device(), rows, cols, dtype_,
                                           &formats_[format]);
}

void LayerState::place_mlps(std::vector<Mlp>* mlps, const MlpShape& shape, uint64_t* tables) {
  for (size_t i = 0; i < mlps->size(); ++i) {
    if (mlps == &experts_ && !owns(static_cast<int64_t>(i))) continue;
    Mlp& mlp = (*mlps)[i];
    if (shape.gated)
      mlp.gate_offset = place_matrix(shape.intermediate, shape.width, mlp.gate_format);
    mlp.up_offset = place_matrix(shape.intermediate, shape.width, mlp.up_format);
    mlp.down_offset = place_matrix(shape.width, shape.intermediate, mlp.down_format);
  }
  *tables = place(static_cast<int64_t>(mlps->size()) * kNumTables, sizeof(void*));
}

// The matrices of an expert lie one behind the other in a block, whichever that is. Returns its bytes.
uint64_t LayerState::place_block(Mlp* mlp) {
  const uint64_t begin = std::exchange(arena_bytes_, 0);
  const auto place_next = [&](uint64_t* offset, int64_t rows, int64_t cols, uint8_t format) {
    *offset = place(matrix_bytes(rows, cols, format));
  };
  const int64_t rows = expert_shape_.intermediate;
  const int64_t cols = expert_shape_.width;
  if (expert_shape_.gated) place_next(&mlp->gate_offset, rows, cols, mlp->gate_format);
  place_next(&mlp->up_offset, rows, cols, mlp->up_format);
  place_next(&mlp->down_offset, cols, rows, mlp->down_format);
  return std::exchange(arena_bytes_, begin);
}

void LayerState::place_blocks(const LayerDescription& description) {
  if (!keeps_caches(*executor_))
    fail_argument("Every expert of a layer on " + executor_->device_id() + " lies in its memory");
  uint64_t block_bytes = 0;
  for (Mlp& mlp : experts_) block_bytes = std::max(block_bytes, place_block(&mlp));
  const CacheOptions& cache = description.cache;
  const bool is_host = executor_->has_host_memory();
  if (is_host == (cache.device_bytes > 0))
    fail_argument(std::string("The cache of a layer takes memory of its device: expected ") +
                  (is_host ? "hostBytes alone" : "deviceBytes"));
  CachePlan plan = plan_cache(cache.rule, is_host ? cache.host_bytes : cache.device_bytes,
                              block_bytes, description.num_experts, description.routing.top_k);
  plan.num_prefetched = plan_prefetch(cache, block_bytes, description.routing.top_k);
  expert_tables_ = place(static_cast<int64_t>(experts_.size()) * kNumTables, sizeof(void*));
  cache_ = std::make_unique<ExpertCache>(description.cache, plan, description.num_experts,
                                         executor_->reader_pool());
}

void LayerState::plan(const LayerDescription& description) {
  const bool gated = description.activation.gated != 0;
  expert_shape_ = {description.intermediate_size, description.expert_width(), gated};
  if (description.cache.is_on() && !experts_.empty()) {
    place_blocks(description);
  } else {
    place_mlps(&experts_, expert_shape_, &expert_tables_);
  }
  if (description.shared_intermediate_size > 0) {
    shared_shape_ = {description.shared_intermediate_size, description.hidden_size, gated};
    place_mlps(&shared_, shared_shape_, &shared_tables_);
  }
  if (description.latent_size > 0) {
    // up is [hidden, latent] and down [latent, hidden]: an MLP without a gate whose "intermediate"
    // is the hidden size.
    latent_shape_ = {description.hidden_size, description.latent_size, false};
    place_mlps(&latent_, latent_shape_, &latent_tables_);
  }
  for (int role = 0; role < kNumVectors; ++role) {
    vector_lengths_[role] = description.vectors[role].length;
    vector_offsets_[role] = place(static_cast<int64_t>(vector_lengths_[role]), sizeof(float));
  }
}

void LayerState::allocate() {
  // Matrices are not touched before they are written. Of two layers that come at the same time the
  // second sees what the first will take.
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  throw_if_failed(
      executor_->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        void* arena = nullptr;
        const int32_t code = backend.memory_allocate(device, arena_bytes_, &arena, status);
        if (code == SE_OK) arena_ = arena;
        return code;
      }));
  const bool is_host = executor_->has_host_memory();
  if (is_host) pledge_.add(unwritten_bytes_);
  if (cache_ != nullptr) {
    cache_->allocate(*this);
    if (is_host) pledge_.add(cache_bytes());
  }
  executor_->add_layer();
  counted_ = true;
}

const float* LayerState::vector(VectorRole role) const {
  if (vector_lengths_[role] == 0) return nullptr;
  return reinterpret_cast<const float*>(at(vector_offsets_[role]));
}

void LayerState::fill_formats(const std::vector<Mlp>& mlps, int matrix, SeMatrixTable* table) {
  std::vector<uint8_t> indices;
  indices.reserve(mlps.size());
  for (const Mlp& mlp : mlps)
    indices.push_back(matrix == 0   ? mlp.gate_format
                      : matrix == 1 ? mlp.up_format
                                    : mlp.down_format);
  const bool is_uniform = std::all_of(indices.begin(), indices.end(),
                                      [&](uint8_t index) { return index == indices[0]; });
  if (is_uniform) {
    table->formats = &formats_[indices[0]];
    table->num_formats = 1;
    return;
  }
  table->formats = formats_.data();
  table->num_formats = static_cast<int64_t>(formats_.size());
  format_tables_.push_back(std::move(indices));
  table->format_of = format_tables_.back().data();
}

void LayerState::fill_experts(const std::vector<Mlp>& mlps, const MlpShape& shape, uint64_t tables,
                              VectorRole gate_bias, VectorRole up_bias, VectorRole down_bias,
                              SeExperts* experts) {
  const size_t count = mlps.size();
  const MatrixKind kinds[] = {MatrixKind::kGate, MatrixKind::kUp, MatrixKind::kDown};
  const float* biases[] = {vector(gate_bias), vector(up_bias), vector(down_bias)};
  // The experts of a cached layer come later, those of other ranks never.
  const auto is_here = [&](size_t expert) {
    return &mlps != &experts_ || (cache_ == nullptr && owns(static_cast<int64_t>(expert)));
  };
  std::vector<const void*> pointers(count * kNumTables, nullptr);
  for (size_t expert = 0; expert < count; ++expert) {
    for (int matrix = 0; matrix < 3; ++matrix) {
      if (is_here(expert))
        pointers[matrix * count + expert] = slot_of(mlps[expert], shape, kinds[matrix]).data;
      const int64_t length = kinds[matrix] == MatrixKind::kDown ? shape.width : shape.intermediate;
      if (biases[matrix] != nullptr) {
        pointers[(3 + matrix) * count + expert] =
            biases[matrix] + static_cast<int64_t>(expert) * length;
      }
    }
  }
  copy_to_device(*executor_, at(tables), pointers.data(), pointers.size() * sizeof(void*));

  const auto* const* table = reinterpret_cast<const void* const*>(at(tables));
  auto matrix_table = [&](int index) -> SeMatrixTable {
    const MatrixSlot slot = slot_of(mlps[0], shape, kinds[index]);
    if (slot.data == nullptr) return {};  // the family has no such matrix
    SeMatrixTable matrices = {};
    matrices.data = table + index * count;
    matrices.rows = slot.rows;
    matrices.cols = slot.cols;
    matrices.row_stride = slot.cols;
    fill_formats(mlps, index, &matrices);
    return matrices;
  };
  auto bias_table = [&](int index) -> SeBiasTable {
    if (biases[index] == nullptr) return {};
    return {reinterpret_cast<const float* const*>(table + (3 + index) * count), 1};
  };
  experts->gate = matrix_table(0);
  experts->up = matrix_table(1);
  experts->down = matrix_table(2);
  experts->gate_bias = bias_table(0);
  experts->up_bias = bias_table(1);
  experts->down_bias = bias_table(2);
}

void LayerState::fill(const LayerDescription& description) {
  for (int role = 0; role < kNumVectors; ++role) {
    const HostVector& from = description.vectors[role];
    copy_to_device(*executor_, at(vector_offsets_[role]), from.data, from.length * sizeof(float));
  }
  layer_ = layer_without_memory(description);
  layer_.routing.selection_bias = vector(kSelectionBias);
  layer_.routing.per_expert_scale = vector(kPerExpertScale);
  layer_.routing.hash_table = reinterpret_cast<const int32_t*>(vector(kHashTable));
  layer_.router_weight = vector(kRouterWeight);
  layer_.router_bias = vector(kRouterBias);
  layer_.router_input_scale = vector(kRouterInputScale);
  layer_.output_bias = vector(kOutputBias);
  fill_experts(experts_, expert_shape_, expert_tables_, kGateBias, kUpBias, kDownBias,
               &layer_.experts);
  if (!shared_.empty()) {
    fill_experts(shared_, shared_shape_, shared_tables_, kSharedGateBias, kSharedUpBias,
                 kSharedDownBias, &layer_.shared);
    layer_.shared_gate = vector(kSharedGate);
    layer_.shared_logit_bias = vector(kSharedLogitBias);
  }
  if (!latent_.empty()) {
    // Two matrices without biases, each a table of one.
    const void* pointers[] = {slot_of(latent_[0], latent_shape_, MatrixKind::kDown).data,
                              slot_of(latent_[0], latent_shape_, MatrixKind::kUp).data};
    copy_to_device(*executor_, at(latent_tables_), pointers, sizeof pointers);
    const auto* const* table = reinterpret_cast<const void* const*>(at(latent_tables_));
    layer_.latent_down.data = table;
    layer_.latent_up.data = table + 1;
    layer_.latent_norm = vector(kLatentNorm);
    fill_formats(latent_, 1, &layer_.latent_up);
    fill_formats(latent_, 2, &layer_.latent_down);
  }
}

}  // namespace sparse_experts::engine
