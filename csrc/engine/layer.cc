#include "engine/layer.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "engine/matrix_formats.h"
#include "engine/store_matrix.h"

namespace sparse_experts::engine {

namespace {

// A row's bits do not depend on the rows beside it.
bool keeps_rows_apart(const LayerDescription& description, const DeviceExecutor& executor) {
  return description.routing.capacity == SE_CAPACITY_NONE &&
         (executor.is_batch_invariant() || description.options.batch_invariant != 0);
}

int64_t joint_rows(const LayerDescription& description, const DeviceExecutor& executor) {
  if (!keeps_rows_apart(description, executor)) return 0;
  // Slots are numbered in 32 bits.
  constexpr int64_t kMostSlots = std::numeric_limits<int32_t>::max();
  return std::min(description.max_joint_rows,
                  kMostSlots / std::max<int64_t>(1, description.routing.top_k));
}

SeLayerOptions options_of(const LayerDescription& description) {
  SeLayerOptions options = description.options;
  // Both: an expert that a call needs and that is not here is an error.
  options.cached = description.cache.is_on() || !description.owned.empty() ? 1 : 0;
  return options;
}

}  // namespace

std::shared_ptr<LayerState> LayerState::create(const LayerDescription& description,
                                               std::shared_ptr<DeviceExecutor> executor) {
  std::shared_ptr<LayerState> layer(new LayerState(description, std::move(executor)));
  layer->check_partial(description);
  layer->take_formats(description);
  layer->plan(description);
  layer->allocate();
  layer->fill(description);
  layer->open();
  return layer;
}

LayerState::Planned LayerState::planned(const LayerDescription& description,
                                        std::shared_ptr<DeviceExecutor> executor) {
  LayerState layer(description, std::move(executor));
  layer.take_formats(description);
  layer.plan(description);
  Planned planned = {layer.bytes(), layer.pinned_bytes(), 0};
  if (!keeps_caches(*layer.executor_)) return planned;
  for (Mlp& mlp : layer.experts_)
    planned.expert_bytes = std::max(planned.expert_bytes, layer.place_block(&mlp));
  return planned;
}

LayerState::LayerState(const LayerDescription& description,
                       std::shared_ptr<DeviceExecutor> executor)
    : executor_(std::move(executor)),
      dtype_(description.dtype),
      num_threads_(description.num_threads),
      options_(options_of(description)),
      max_joint_rows_(joint_rows(description, *executor_)),
      interleaved_(description.gate_up_interleaved),
      owned_(description.owned) {}

LayerState::~LayerState() {
  cache_.reset();  // nobody takes experts away from here any more
  executor_->discard(experts_opened_, nullptr, 0);
  executor_->discard(opened_, arena_, arena_bytes_);
  if (counted_) executor_->remove_layer();
}

std::vector<LayerState::Mlp>& LayerState::mlps_of(MatrixRole role) {
  return role == MatrixRole::kShared ? shared_ : role == MatrixRole::kLatent ? latent_ : experts_;
}

void LayerState::take_formats(const LayerDescription& description) {
  formats_.push_back(expanded_format(*executor_, dtype_));
  if (description.formats.size() > 255) fail_argument("A layer holds at most 255 formats");
  formats_.insert(formats_.end(), description.formats.begin(), description.formats.end());
  experts_.resize(static_cast<size_t>(description.num_experts));
  shared_.resize(description.shared_intermediate_size > 0 ? 1 : 0);
  latent_.resize(description.latent_size > 0 ? 1 : 0);
  for (const HeldMatrix& held : description.held) {
    std::vector<Mlp>& mlps = mlps_of(held.role);
    if (held.expert < 0 || static_cast<uint64_t>(held.expert) >= mlps.size() ||
        held.format >= description.formats.size()) {
      fail_argument("No such matrix or format: " + std::to_string(held.expert) + ", " +
                    std::to_string(held.format));
    }
    Mlp& mlp = mlps[static_cast<size_t>(held.expert)];
    const auto format = static_cast<uint8_t>(held.format + 1);
    if (held.kind == MatrixKind::kGate || held.kind == MatrixKind::kGateUp)
      mlp.gate_format = format;
    if (held.kind == MatrixKind::kUp || held.kind == MatrixKind::kGateUp) mlp.up_format = format;
    if (held.kind == MatrixKind::kDown) mlp.down_format = format;
  }
}

MatrixSlot LayerState::slot_of(const Mlp& mlp, const MlpShape& shape, MatrixKind kind,
                               uint8_t* base) const {
  const int64_t rows = shape.intermediate;
  const int64_t cols = shape.width;
  const auto slot = [&](uint64_t offset, int64_t of_rows, int64_t of_cols, uint8_t format) {
    MatrixSlot one;
    one.data = base + offset;
    one.rows = of_rows;
    one.cols = of_cols;
    one.dtype = dtype_;
    one.format = &formats_[format];
    return one;
  };
  switch (kind) {
    case MatrixKind::kDown:
      return slot(mlp.down_offset, cols, rows, mlp.down_format);
    case MatrixKind::kUp:
      return slot(mlp.up_offset, rows, cols, mlp.up_format);
    case MatrixKind::kGate:
      if (!shape.gated) break;
      return slot(mlp.gate_offset, rows, cols, mlp.gate_format);
    case MatrixKind::kGateUp: {
      if (!shape.gated) break;
      if (mlp.gate_format != mlp.up_format)
        fail_argument("Gate and up are held in two formats: write them one by one");
      MatrixSlot fused = slot(mlp.gate_offset, 2 * rows, cols, mlp.gate_format);
      fused.up_data = base + mlp.up_offset;
      fused.is_interleaved = interleaved_;
      return fused;
    }
  }
  return {};
}

const LayerState::Mlp& LayerState::find_mlp(MatrixRole role, int64_t expert,
                                            const MlpShape** shape) const {
  const std::vector<Mlp>* mlps = &experts_;
  *shape = &expert_shape_;
  if (role == MatrixRole::kShared) {
    mlps = &shared_;
    *shape = &shared_shape_;
  } else if (role == MatrixRole::kLatent) {
    mlps = &latent_;
    *shape = &latent_shape_;
  }
  if (expert < 0 || static_cast<uint64_t>(expert) >= mlps->size()) {
    fail_argument("Expected an expert below " + std::to_string(mlps->size()) + ", received " +
                  std::to_string(expert));
  }
  if (role == MatrixRole::kExpert && !owns(expert))
    fail_argument("Expert " + std::to_string(expert) + " lies on another rank");
  return (*mlps)[static_cast<size_t>(expert)];
}

MatrixSlot LayerState::matrix_slot(MatrixRole role, int64_t expert, MatrixKind kind) const {
  const MlpShape* shape = nullptr;
  const Mlp& mlp = find_mlp(role, expert, &shape);
  const MatrixSlot slot = slot_of(mlp, *shape, kind);
  if (slot.data == nullptr) fail_argument("The block has no gate matrices");
  return slot;
}

MatrixSlot LayerState::expert_slot(uint8_t* block, int64_t expert, MatrixKind kind,
                                   bool is_pinned) const {
  MatrixSlot slot = slot_of(experts_[static_cast<size_t>(expert)], expert_shape_, kind, block);
  slot.is_pinned = is_pinned;
  return slot;
}

void LayerState::set_experts(const std::vector<int32_t>& experts,
                             const std::vector<uint8_t*>& blocks) {
  if (experts.empty()) return;
  std::vector<SeExpertMatrices> matrices(experts.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto matrix = [&](MatrixKind kind) {
      return expert_slot(blocks[i], experts[i], kind).data;
    };
    matrices[i] = {expert_shape_.gated ? matrix(MatrixKind::kGate) : nullptr,
                   matrix(MatrixKind::kUp), matrix(MatrixKind::kDown)};
  }
  throw_if_failed(executor_->call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
    return backend.layer_set_experts(opened_, experts.data(), static_cast<int64_t>(experts.size()),
                                     matrices.data(), status);
  }));
}

void LayerState::forget_experts(const std::vector<int32_t>& experts) noexcept {
  try {
    set_experts(experts, {});
  } catch (...) {
    // The device is lost, or no memory is left for the list: the next call of the layer fails too, or
    // reads them again.
  }
}

uint64_t LayerState::cache_bytes() const { return cache_ == nullptr ? 0 : cache_->plan().bytes(); }

uint64_t LayerState::pinned_bytes() const {
  return cache_ == nullptr ? 0 : cache_->host_tier().bytes();
}

void LayerState::mark_blocks_touched() { pledge_.fulfil(cache_bytes()); }

void LayerState::mark_written(MatrixRole role, int64_t expert, MatrixKind kind) {
  const MlpShape* shape = nullptr;
  Mlp& mlp = const_cast<Mlp&>(find_mlp(role, expert, &shape));
  const auto mark = [&](bool* written, int64_t rows, int64_t cols, uint8_t format) {
    if (!*written) pledge_.fulfil(matrix_bytes(rows, cols, format));
    *written = true;
  };
  const int64_t rows = shape->intermediate;
  const int64_t cols = shape->width;
  if (kind == MatrixKind::kGate || kind == MatrixKind::kGateUp)
    mark(&mlp.gate_written, rows, cols, mlp.gate_format);
  if (kind == MatrixKind::kUp || kind == MatrixKind::kGateUp)
    mark(&mlp.up_written, rows, cols, mlp.up_format);
  if (kind == MatrixKind::kDown) mark(&mlp.down_written, cols, rows, mlp.down_format);
}

void LayerState::zero_unwritten(std::vector<Mlp>* mlps, const MlpShape& shape) {
  for (size_t i = 0; i < mlps->size(); ++i) {
    if (mlps == &experts_ && !owns(static_cast<int64_t>(i))) continue;
    Mlp& mlp = (*mlps)[i];
    if (shape.gated && !mlp.gate_written)
      zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kGate));
    if (!mlp.up_written) zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kUp));
    if (!mlp.down_written) zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kDown));
    mlp.gate_written = mlp.up_written = mlp.down_written = true;
  }
}

void LayerState::zero_unwritten() {
  if (all_written_) return;
  if (cache_ == nullptr) zero_unwritten(&experts_, expert_shape_);
  zero_unwritten(&shared_, shared_shape_);
  zero_unwritten(&latent_, latent_shape_);
  pledge_.release();
  all_written_ = true;
}

bool LayerState::stage(SeForwardArgs* args) {
  if (executor_->backend().stage_forward == nullptr) return false;
  // Whatever is wrong, the forward says so.
  const Failure failure =
      executor_->call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
        return backend.stage_forward(opened_, args, status);
      });
  return failure.is_ok() && args->is_staged != 0;
}

void LayerState::unstage() { executor_->backend().unstage_forward(opened_); }

void LayerState::reserve_workspace(int64_t num_tokens) {
  const uint64_t bytes = executor_->backend().forward_workspace_bytes(executor_->device(), &layer_,
                                                                      &options_, num_tokens);
  executor_->run_exclusive([&] {
    void* workspace = nullptr;
    uint64_t held_bytes = 0;
    throw_if_failed(executor_->reserve_workspace(bytes, &workspace, &held_bytes));
  });
}

uint64_t LayerState::forward(const SeForwardArgs& args) {
  if (is_partial()) fail(ErrorCode::kInternal, "Some experts of the layer lie on other ranks");
  zero_unwritten();
  uint64_t needed_bytes = 0;
  SeForwardRun* run = nullptr;
  const auto attempt = [&](uint64_t least_bytes) {
    void* workspace = nullptr;
    uint64_t held_bytes = 0;
    throw_if_failed(executor_->reserve_workspace(least_bytes, &workspace, &held_bytes));
    throw_if_failed(executor_->call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
      const int32_t code =
          cache_ == nullptr
              ? backend.forward(opened_, &args, workspace, held_bytes, status)
              : backend.forward_begin(opened_, &args, workspace, held_bytes, &run, status);
      if (code != SE_WORKSPACE_TOO_SMALL || least_bytes > 0) return code;
      needed_bytes = status->needed_bytes;
      return static_cast<int32_t>(SE_OK);
    }));
  };
  // With what the device has, which nearly always does: only the backend plans a call, and once.
  attempt(0);
  if (needed_bytes > 0) attempt(needed_bytes);
  if (cache_ == nullptr) return 0;
  const auto end = executor_->backend().forward_end;
  const std::unique_ptr<SeForwardRun, decltype(end)> ended(run, end);
  return cache_->compute(*this, run, args);
}

}  // namespace sparse_experts::engine
