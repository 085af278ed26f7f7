#include "stub_backend.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/matrix_format.h"

namespace engine_test {
namespace {

std::atomic<Stub*> latest{nullptr};

struct StubLayer {
  Stub* stub;
  int64_t top_k;
};

Stub& of(SeDevice* device) { return *reinterpret_cast<Stub*>(device); }

void pause_briefly() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

}  // namespace

Stub::Stub() {
  for (auto& call : failing_call_) call = -1;
  latest = this;
}

Stub::~Stub() {
  for (const auto& [data, bytes] : blocks_) std::free(data);
  Stub* self = this;
  latest.compare_exchange_strong(self, nullptr);
}

void Stub::fail(Call call, int32_t code, int nth) {
  const auto index = static_cast<size_t>(call);
  failing_code_[index] = code;
  failing_call_[index] = calls_[index] + nth;
}

int32_t Stub::report(int32_t code, SeStatus* status) {
  *status = SeStatus{};
  status->code = code;
  if (code != SE_OK) std::snprintf(status->message, sizeof status->message, "stub: code %d", code);
  return code;
}

int32_t Stub::enter(Call call, SeStatus* status) {
  const auto index = static_cast<size_t>(call);
  const int number = calls_[index]++;
  if (is_lost) return report(SE_DEVICE_LOST, status);
  return report(number == failing_call_[index] ? failing_code_[index].load() : SE_OK, status);
}

// The functions of the table.
struct StubCalls {
  static int32_t device_count(SeStatus* status) {
    Stub::report(SE_OK, status);
    return 2;
  }

  static int32_t device_info(int32_t index, SeDeviceInfo* info, SeStatus* status) {
    Stub* stub = latest;
    *info = SeDeviceInfo{};
    if (index < 0 || index > 1) return Stub::report(SE_INVALID_ARGUMENT, status);
    info->kind = SE_KIND_GPU;
    info->is_host = stub->is_host ? 1 : 0;
    info->is_batch_invariant = stub->is_batch_invariant ? 1 : 0;
    return stub->enter(Call::kDeviceInfo, status);
  }

  static int32_t device_open(int32_t index, SeDevice** device, SeStatus* status) {
    Stub* stub = latest;
    if (index < 0 || index > 1) return Stub::report(SE_INVALID_ARGUMENT, status);
    const int32_t code = stub->enter(Call::kDeviceOpen, status);
    if (code != SE_OK) return code;
    ++stub->open_devices_;
    *device = reinterpret_cast<SeDevice*>(stub);
    return SE_OK;
  }

  static void device_close(SeDevice* device) {
    if (--of(device).open_devices_ < 0) ++of(device).breaches_;
  }

  static int32_t memory_allocate(SeDevice* device, uint64_t bytes, void** data, SeStatus* status) {
    Stub& stub = of(device);
    const int32_t code = stub.enter(Call::kAllocate, status);
    if (code != SE_OK) return code;
    const std::lock_guard<std::mutex> lock(stub.mutex_);
    if (bytes > stub.memory_limit || stub.live_bytes_ > stub.memory_limit - bytes) {
      Stub::report(SE_OUT_OF_MEMORY, status);
      status->needed_bytes = bytes;
      status->free_bytes = stub.memory_limit - stub.live_bytes_;
      return SE_OUT_OF_MEMORY;
    }
    *data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (*data == nullptr) return Stub::report(SE_OUT_OF_MEMORY, status);
    std::memset(*data, 0xa5, bytes);
    stub.blocks_[*data] = bytes;
    stub.live_bytes_ += bytes;
    ++stub.allocations_;
    return SE_OK;
  }

  static void memory_free(SeDevice* device, void* data, uint64_t bytes) {
    Stub& stub = of(device);
    const std::lock_guard<std::mutex> lock(stub.mutex_);
    const auto found = stub.blocks_.find(data);
    if (found == stub.blocks_.end() || found->second != bytes || stub.pinned_.count(data) > 0) {
      ++stub.breaches_;
      return;
    }
    stub.blocks_.erase(found);
    stub.live_bytes_ -= bytes;
    std::free(data);
  }

  static int32_t pinned_allocate(SeDevice* device, uint64_t bytes, void** data, SeStatus* status) {
    const int32_t code = memory_allocate(device, bytes, data, status);
    if (const std::lock_guard<std::mutex> lock(of(device).mutex_); code == SE_OK)
      of(device).pinned_.insert(*data);
    return code;
  }

  static void pinned_free(SeDevice* device, void* data, uint64_t bytes) {
    Stub& stub = of(device);
    if (const std::lock_guard<std::mutex> lock(stub.mutex_); stub.pinned_.erase(data) == 0)
      ++stub.breaches_;
    memory_free(device, data, bytes);
  }

  static int32_t copy_to_device(SeDevice* device, void* to, const void* from, uint64_t bytes,
                                SeStatus* status) {
    const int32_t code = of(device).enter(Call::kCopyToDevice, status);
    if (code == SE_OK) std::memcpy(to, from, bytes);
    return code;
  }

  static int32_t copy_to_host(SeDevice* device, void* to, const void* from, uint64_t bytes,
                              SeStatus* status) {
    const int32_t code = of(device).enter(Call::kCopyToHost, status);
    if (code == SE_OK) std::memcpy(to, from, bytes);
    return code;
  }

  static int64_t matrix_granule(SeDevice* device) { return of(device).granule; }

  static int32_t matrix_format(SeDevice* device, int32_t /*dtype*/, SeMatrixFormat* format) {
    if (!of(device).holds_matrices) return SE_FORMAT_NO;
    if (!of(device).converts_to_bf16) return SE_FORMAT_AS_IS;
    *format = sparse_experts::float_format(SE_BF16);
    return SE_FORMAT_CONVERTED;
  }

  static uint64_t matrix_bytes(SeDevice* /*device*/, int64_t rows, int64_t cols, int32_t /*dtype*/,
                               const SeMatrixFormat* format) {
    return static_cast<uint64_t>(rows * sparse_experts::code_row_bytes(format->code, cols));
  }

  static int32_t matrix_write(SeDevice* device, const SeMatrixRows* rows, SeStatus* status) {
    Stub& stub = of(device);
    const int64_t granule = stub.granule;
    const bool is_end = rows->first_row + rows->num_rows == rows->rows;
    if (rows->first_row < 0 || rows->num_rows <= 0 ||
        rows->first_row + rows->num_rows > rows->rows || rows->source_stride < rows->cols ||
        (granule > 0 &&
         (rows->first_row % granule != 0 || (rows->num_rows % granule != 0 && !is_end)))) {
      ++stub.breaches_;
    }
    if (stub.write_milliseconds > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(stub.write_milliseconds));
    const int32_t code = stub.enter(Call::kMatrixWrite, status);
    if (code != SE_OK) return code;
    const int64_t row_bytes = sparse_experts::code_row_bytes(rows->format->code, rows->cols);
    const int64_t source_row_bytes =
        sparse_experts::code_row_bytes(rows->format->code, rows->source_stride);
    for (int64_t row = 0; row < rows->num_rows; ++row) {
      std::memcpy(static_cast<uint8_t*>(rows->matrix) + (rows->first_row + row) * row_bytes,
                  static_cast<const uint8_t*>(rows->source) + row * source_row_bytes,
                  static_cast<size_t>(row_bytes));
    }
    return SE_OK;
  }

  static uint64_t forward_workspace_bytes(SeDevice* device, const SeMoeLayer* /*layer*/,
                                          const SeLayerOptions* /*options*/, int64_t num_tokens) {
    ++of(device).plans_;
    return of(device).workspace_bytes * static_cast<uint64_t>(num_tokens);
  }

  static int32_t layer_open(SeDevice* device, const SeMoeLayer* layer,
                            const SeLayerOptions* /*options*/, SeLayer** opened, SeStatus* status) {
    const int32_t code = of(device).enter(Call::kLayerOpen, status);
    if (code != SE_OK) return code;
    ++of(device).open_layers_;
    *opened = reinterpret_cast<SeLayer*>(new StubLayer{&of(device), layer->routing.top_k});
    return SE_OK;
  }

  static void layer_close(SeLayer* layer) {
    auto* closed = reinterpret_cast<StubLayer*>(layer);
    if (--closed->stub->open_layers_ < 0) ++closed->stub->breaches_;
    delete closed;
  }

  static int32_t forward(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                         uint64_t workspace_bytes, SeStatus* status) {
    Stub& stub = *reinterpret_cast<StubLayer*>(layer)->stub;
    const uint64_t needed_bytes =
        stub.workspace_bytes * static_cast<uint64_t>(args->select.num_tokens);
    if (workspace_bytes < needed_bytes) {
      Stub::report(SE_WORKSPACE_TOO_SMALL, status);
      status->needed_bytes = needed_bytes;
      return SE_WORKSPACE_TOO_SMALL;
    }
    const int32_t code = stub.enter(Call::kForward, status);
    if (code != SE_OK) return code;
    const int running = ++stub.forwards_running_;
    if (running > stub.most_forwards_) stub.most_forwards_ = running;
    std::memset(workspace, 0x5a, workspace_bytes);
    int32_t result = SE_OK;
    while (result == SE_OK && stub.hold_forward) {
      if (args->cancel != nullptr && __atomic_load_n(args->cancel, __ATOMIC_RELAXED) != 0)
        result = SE_CANCELLED;
      pause_briefly();
    }
    --stub.forwards_running_;
    if (result == SE_OK) {
      stub.note_rows(args->select.num_tokens);
      if (args->output.data != nullptr)
        result = compute(*args, reinterpret_cast<StubLayer*>(layer)->top_k);
    }
    return Stub::report(result, status);
  }

  // Results that say of each row what it was computed from; a negative token id is refused.
  static int32_t compute(const SeForwardArgs& args, int64_t top_k) {
    const SeSelectArgs& select = args.select;
    const int64_t hidden_size = args.hidden.shape[1];
    for (int64_t t = 0; t < select.num_tokens; ++t)
      if (select.token_ids != nullptr && select.token_ids[t] < 0) return SE_INVALID_ARGUMENT;
    for (int64_t t = 0; t < select.num_tokens; ++t) {
      const auto* hidden = static_cast<const float*>(args.hidden.data) + t * hidden_size;
      auto* output = static_cast<float*>(args.output.data) + t * hidden_size;
      const auto kept = select.row_top_k != nullptr ? select.row_top_k[t] : select.call_top_k;
      const double share = select.row_top_p != nullptr ? select.row_top_p[t] : select.top_p;
      for (int64_t k = 0; k < top_k && args.replay == 0; ++k) {
        select.topk_ids[t * top_k + k] = static_cast<int32_t>(kept * 10 + k);
        select.topk_weights[t * top_k + k] = static_cast<float>(share);
      }
      for (int64_t h = 0; h < hidden_size; ++h) output[h] = 2 * hidden[h];
      if (args.router_input.data != nullptr)
        output[0] += static_cast<const float*>(args.router_input.data)[t * hidden_size];
      if (args.replay != 0) output[0] += select.topk_weights[t * top_k];
      select.non_finite[t] = hidden[0] < 0 ? 1 : 0;
    }
    return SE_OK;
  }
};

void Stub::note_rows(int64_t rows) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rows_.push_back(rows);
}

std::vector<int64_t> Stub::rows() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return rows_;
}

const SeBackend* Stub::table() {
  static const SeBackend backend = [] {
    SeBackend table = {};
    table.abi_version = SE_BACKEND_ABI_VERSION;
    table.table_bytes = sizeof(SeBackend);
    table.name = "stub";
    table.build = "test";
    table.architectures = "";
    table.device_count = StubCalls::device_count;
    table.device_info = StubCalls::device_info;
    table.device_open = StubCalls::device_open;
    table.device_close = StubCalls::device_close;
    table.memory_allocate = StubCalls::memory_allocate;
    table.memory_free = StubCalls::memory_free;
    table.pinned_allocate = StubCalls::pinned_allocate;
    table.pinned_free = StubCalls::pinned_free;
    table.copy_to_device = StubCalls::copy_to_device;
    table.copy_to_host = StubCalls::copy_to_host;
    table.mixes_formats = 1;
    table.matrix_granule = StubCalls::matrix_granule;
    table.matrix_format = StubCalls::matrix_format;
    table.matrix_bytes = StubCalls::matrix_bytes;
    table.matrix_write = StubCalls::matrix_write;
    table.forward_workspace_bytes = StubCalls::forward_workspace_bytes;
    table.layer_open = StubCalls::layer_open;
    table.layer_close = StubCalls::layer_close;
    table.forward = StubCalls::forward;
    return table;
  }();
  return &backend;
}

}  // namespace engine_test
