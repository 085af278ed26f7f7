#include "engine/expert_answer.h"

#include <cstring>
#include <utility>

#include "core/dtype.h"

namespace sparse_experts::engine {
namespace {

int32_t se_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return SE_INVALID_ARGUMENT;
    case ErrorCode::kOutOfMemory:
      return SE_OUT_OF_MEMORY;
    case ErrorCode::kCancelled:
      return SE_CANCELLED;
    case ErrorCode::kDeviceLost:
      return SE_DEVICE_LOST;
    default:
      return SE_INTERNAL;
  }
}

}  // namespace

ExpertAnswer::ExpertAnswer(std::shared_ptr<LayerState> layer, RunWorkspaces& workspaces,
                           const transport::RequestView& request,
                           const transport::Envelope& envelope)
    : layer_(std::move(layer)), workspaces_(workspaces), request_(request), envelope_(envelope) {
  envelope_.kind = transport::MessageKind::kAnswer;
}

void ExpertAnswer::run(DeviceExecutor& /*executor*/) noexcept { compute_or_refuse({this}, cancel); }

bool ExpertAnswer::begin_turn() {
  turn_rows_ = request_.num_rows;
  return turn_rows_ < layer_->max_joint_rows();
}

// Steps of this rank's calls keep their places.
Joining ExpertAnswer::ask(const DeviceTask& next) {
  const auto* other = dynamic_cast<const ExpertAnswer*>(&next);
  if (other == nullptr || other->layer_ != layer_ || other->request_.dtype != request_.dtype)
    return Joining::kPasses;
  const int64_t rows = turn_rows_ + other->request_.num_rows;
  if (rows > layer_->max_joint_rows()) return Joining::kStops;
  turn_rows_ = rows;
  return Joining::kJoins;
}

void ExpertAnswer::run_turn(DeviceExecutor& /*executor*/, const DeviceTasks& turn,
                            const std::atomic<int32_t>& all_cancelled) noexcept {
  try {
    Answers answers;
    for (const std::shared_ptr<DeviceTask>& task : turn) {
      auto* answer = static_cast<ExpertAnswer*>(task.get());
      if (answer->cancel.load(std::memory_order_relaxed) != 0) {
        answer->refuse(Failure::from(Status::cancelled()));
      } else {
        answers.push_back(answer);
      }
    }
    compute_or_refuse(answers, all_cancelled);
  } catch (...) {
    const Failure failure = current_failure();
    for (const std::shared_ptr<DeviceTask>& task : turn)
      static_cast<ExpertAnswer*>(task.get())->refuse(failure);
  }
}

void ExpertAnswer::refuse(const Failure& failure) noexcept {
  try {
    message_ = transport::encode_refusal(envelope_, se_code(failure.code), failure.message);
  } catch (...) {
    message_.clear();
  }
}

void ExpertAnswer::compute_or_refuse(const Answers& answers,
                                     const std::atomic<int32_t>& cancel) noexcept {
  if (answers.empty()) return;
  for (ExpertAnswer* answer : answers) answer->is_first_ = answer == answers.front();
  try {
    return compute(answers, cancel);
  } catch (...) {
    const Failure failure = current_failure();
    if (answers.size() == 1 || failure.code == ErrorCode::kDeviceLost ||
        failure.code == ErrorCode::kCancelled) {
      for (ExpertAnswer* answer : answers) answer->refuse(failure);
      return;
    }
  }
  // Where memory was short for all of them, or one is wrong, each may do or fail by itself.
  for (ExpertAnswer* answer : answers) answer->run(answer->layer_->executor());
}

void ExpertAnswer::place_slots(int64_t first_row, std::vector<int32_t>* ids,
                               std::vector<float>* weights) {
  const int64_t top_k = layer_->layer().routing.top_k;
  slot_of_.resize(static_cast<size_t>(request_.num_slots));
  std::vector<int64_t> num_chosen(static_cast<size_t>(request_.num_rows), 0);
  for (int64_t i = 0; i < request_.num_slots; ++i) {
    const transport::RequestedSlot slot = request_.slot(i);
    const int64_t place = (first_row + slot.row) * top_k + num_chosen[slot.row]++;
    (*ids)[static_cast<size_t>(place)] = slot.expert;
    (*weights)[static_cast<size_t>(place)] = slot.weight;
    slot_of_[static_cast<size_t>(i)] = place;
  }
}

// The routing is replayed: what the peers' routers chose, and nothing in the places of other ranks'
// experts. Nothing is summed, unless the rows are more than one wave: then the sums go nowhere.
void ExpertAnswer::compute(const Answers& answers, const std::atomic<int32_t>& cancel) {
  ExpertAnswer& first = *answers.front();
  LayerState& state = *first.layer_;
  const SeMoeLayer& layer = state.layer();
  const int32_t dtype = first.request_.dtype;
  const int64_t top_k = layer.routing.top_k;
  const int64_t width = layer.latent_size > 0 ? layer.latent_size : layer.hidden_size;
  const int64_t row_bytes = layer.hidden_size * dtype_bytes(dtype);
  int64_t num_rows = 0;
  for (const ExpertAnswer* answer : answers) num_rows += answer->request_.num_rows;

  std::vector<int32_t> ids(static_cast<size_t>(num_rows * top_k), -1);
  std::vector<float> weights(ids.size(), 0);
  std::vector<uint8_t> flags(static_cast<size_t>(num_rows));
  const auto allocate_rows = [&] {
    return std::unique_ptr<char[]>(new char[static_cast<size_t>(num_rows * row_bytes)]);
  };
  // One request's rows are used where they came.
  const std::unique_ptr<char[]> joint = answers.size() > 1 ? allocate_rows() : nullptr;
  const std::unique_ptr<char[]> sums = allocate_rows();
  int64_t row = 0;
  for (ExpertAnswer* answer : answers) {
    const transport::RequestView& request = answer->request_;
    answer->place_slots(row, &ids, &weights);
    if (joint != nullptr)
      std::memcpy(joint.get() + row * row_bytes, request.rows,
                  static_cast<size_t>(request.num_rows * row_bytes));
    answer->message_ = transport::encode_answer(answer->envelope_, request.num_slots, width);
    row += request.num_rows;
  }

  SeForwardArgs args = {};
  void* const rows_data = joint != nullptr ? joint.get() : const_cast<void*>(first.request_.rows);
  args.hidden = rows_tensor(rows_data, dtype, num_rows, layer.hidden_size);
  args.output = rows_tensor(sums.get(), dtype, num_rows, layer.hidden_size);
  args.select.num_tokens = num_rows;
  args.select.call_top_k = top_k;
  args.select.top_p = 1;
  args.select.topk_ids = ids.data();
  args.select.topk_weights = weights.data();
  args.select.non_finite = flags.data();
  args.replay = 1;
  args.cancel = reinterpret_cast<const int32_t*>(&cancel);
  args.num_threads = state.num_threads();

  const TakenWorkspace workspace(first.workspaces_, state.shared_executor(),
                                 state.run_bytes(LayerState::RunKind::kExperts, num_rows));
  const auto end = state.executor().backend().forward_end;
  const std::unique_ptr<SeForwardRun, decltype(end)> run(
      state.begin_run(LayerState::RunKind::kExperts, args, workspace.data(), workspace.bytes()),
      end);
  DeviceExecutor& executor = state.executor();
  for (;;) {
    SeForwardWave wave = {};
    SeTensor rows = {};
    executor.step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_wave(run.get(), &wave, status);
    });
    if (wave.num_tokens == 0) return;
    executor.step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_experts(run.get(), nullptr, 0, status);
    });
    executor.step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_slot_rows(run.get(), nullptr, 0, &rows, status);
    });
    for (ExpertAnswer* answer : answers) answer->copy_rows(wave, rows);
    if (wave.first_token + wave.num_tokens == num_rows) return;
    executor.step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_finish(run.get(), status);
    });
  }
}

void ExpertAnswer::copy_rows(const SeForwardWave& wave, const SeTensor& rows) {
  const int64_t top_k = layer_->layer().routing.top_k;
  const int64_t width = rows.shape[1];
  const int64_t first = wave.first_token * top_k;
  const int64_t end = first + wave.num_tokens * top_k;
  float* const answer = transport::answer_rows(&message_);
  for (size_t i = 0; i < slot_of_.size(); ++i) {
    const int64_t slot = slot_of_[i];
    if (slot < first || slot >= end) continue;
    std::memcpy(answer + static_cast<int64_t>(i) * width,
                static_cast<const float*>(rows.data) + (slot - first) * rows.strides[0],
                static_cast<size_t>(width) * sizeof(float));
  }
}

}  // namespace sparse_experts::engine
