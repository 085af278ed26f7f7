#include "engine/layer.h"

#include <string>
#include <utility>

#include "core/dtype.h"
#include "engine/store_matrix.h"

namespace sparse_experts::engine {

std::shared_ptr<LayerState> LayerState::create(const LayerDescription& description,
                                               std::shared_ptr<DeviceExecutor> executor) {
  std::shared_ptr<LayerState> layer(new LayerState(description, std::move(executor)));
  layer->choose_format();
  layer->plan(description);
  layer->allocate();
  layer->fill(description);
  layer->open();
  return layer;
}

LayerState::LayerState(const LayerDescription& description,
                       std::shared_ptr<DeviceExecutor> executor)
    : executor_(std::move(executor)),
      held_{description.dtype, float_format(description.dtype)},
      num_threads_(description.num_threads),
      options_(description.options),
      interleaved_(description.gate_up_interleaved) {}

LayerState::~LayerState() {
  executor_->discard(opened_, arena_, arena_bytes_);
  if (counted_) executor_->remove_layer();
}

// The layer asks for its matrices as values of its dtype; the backend says how it holds those.
void LayerState::choose_format() {
  const int32_t support =
      executor_->backend().matrix_format(executor_->device(), held_.dtype, &held_.format);
  // Of formats that are not floats nothing here can write rows.
  if (support == SE_FORMAT_NO || !is_float_format(held_.format)) {
    fail_argument("The device does not hold matrices of this dtype");
  }
}

void LayerState::open() {
  throw_if_failed(
      executor_->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        SeLayer* opened = nullptr;
        const int32_t code = backend.layer_open(device, &layer_, &options_, &opened, status);
        if (code == SE_OK) opened_ = opened;
        return code;
      }));
}

MatrixSlot LayerState::slot_of(const Mlp& mlp, const MlpShape& shape, MatrixKind kind) const {
  const int64_t rows = shape.intermediate;
  const int64_t cols = shape.width;
  switch (kind) {
    case MatrixKind::kDown:
      return {at(mlp.down_offset), nullptr, false, cols, rows};
    case MatrixKind::kUp:
      return {at(mlp.up_offset), nullptr, false, rows, cols};
    case MatrixKind::kGate:
      if (!shape.gated) break;
      return {at(mlp.gate_offset), nullptr, false, rows, cols};
    case MatrixKind::kGateUp:
      if (!shape.gated) break;
      return {at(mlp.gate_offset), at(mlp.up_offset), interleaved_, 2 * rows, cols};
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
  return (*mlps)[static_cast<size_t>(expert)];
}

MatrixSlot LayerState::matrix_slot(MatrixRole role, int64_t expert, MatrixKind kind) const {
  const MlpShape* shape = nullptr;
  const Mlp& mlp = find_mlp(role, expert, &shape);
  const MatrixSlot slot = slot_of(mlp, *shape, kind);
  if (slot.data == nullptr) fail_argument("The block has no gate matrices");
  return slot;
}

void LayerState::mark_written(MatrixRole role, int64_t expert, MatrixKind kind) {
  const MlpShape* shape = nullptr;
  Mlp& mlp = const_cast<Mlp&>(find_mlp(role, expert, &shape));
  const auto mark = [&](bool* written, int64_t rows, int64_t cols) {
    if (!*written) pledge_.fulfil(matrix_bytes(rows, cols));
    *written = true;
  };
  const int64_t rows = shape->intermediate;
  const int64_t cols = shape->width;
  if (kind == MatrixKind::kGate || kind == MatrixKind::kGateUp) mark(&mlp.gate_written, rows, cols);
  if (kind == MatrixKind::kUp || kind == MatrixKind::kGateUp) mark(&mlp.up_written, rows, cols);
  if (kind == MatrixKind::kDown) mark(&mlp.down_written, cols, rows);
}

void LayerState::zero_unwritten(std::vector<Mlp>* mlps, const MlpShape& shape) {
  for (Mlp& mlp : *mlps) {
    if (shape.gated && !mlp.gate_written)
      zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kGate), held_);
    if (!mlp.up_written) zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kUp), held_);
    if (!mlp.down_written) zero_matrix(*executor_, slot_of(mlp, shape, MatrixKind::kDown), held_);
    mlp.gate_written = mlp.up_written = mlp.down_written = true;
  }
}

void LayerState::zero_unwritten() {
  if (all_written_) return;
  zero_unwritten(&experts_, expert_shape_);
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

void LayerState::forward(const SeForwardArgs& args) {
  zero_unwritten();
  uint64_t needed_bytes = 0;
  const auto attempt = [&](uint64_t least_bytes) {
    void* workspace = nullptr;
    uint64_t held_bytes = 0;
    throw_if_failed(executor_->reserve_workspace(least_bytes, &workspace, &held_bytes));
    throw_if_failed(executor_->call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
      const int32_t code = backend.forward(opened_, &args, workspace, held_bytes, status);
      if (code != SE_WORKSPACE_TOO_SMALL || least_bytes > 0) return code;
      needed_bytes = status->needed_bytes;
      return static_cast<int32_t>(SE_OK);
    }));
  };
  // With what the device has, which nearly always does: only the backend plans a call, and once.
  attempt(0);
  if (needed_bytes > 0) attempt(needed_bytes);
}

}  // namespace sparse_experts::engine
