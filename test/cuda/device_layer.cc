#include "cuda/device_layer.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>

#include "core/dtype.h"
#include "cpp/check.h"

namespace native_test {
namespace {

const SeBackend& backend() { return *se_backend_entry(); }

// Without memory and copies no test says anything.
void must_be_ok(int32_t code, const SeStatus& status, const char* what) {
  if (code == SE_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, status.message);
  std::exit(2);
}

constexpr uint64_t kCanaryBytes = 256;

}  // namespace

DeviceMemory::DeviceMemory(SeDevice* device, uint64_t bytes) : device_(device), bytes_(bytes) {
  SeStatus status{};
  must_be_ok(backend().memory_allocate(device_, bytes_, &data_, &status), status, "allocate");
  const std::vector<char> poison(bytes_, '\xff');
  upload(poison.data(), bytes_);
}

DeviceMemory::DeviceMemory(SeDevice* device, const void* from, uint64_t bytes)
    : device_(device), bytes_(bytes) {
  SeStatus status{};
  must_be_ok(backend().memory_allocate(device_, bytes_, &data_, &status), status, "allocate");
  upload(from, bytes_);
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) backend().memory_free(device_, data_, bytes_);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : device_(other.device_), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

void DeviceMemory::upload(const void* from, uint64_t bytes) const {
  SeStatus status{};
  must_be_ok(backend().copy_to_device(device_, data_, from, bytes, &status), status, "upload");
}

std::vector<char> DeviceMemory::download() const {
  std::vector<char> values(bytes_);
  SeStatus status{};
  must_be_ok(backend().copy_to_host(device_, values.data(), data_, bytes_, &status), status,
             "download");
  return values;
}

OpenDevice::OpenDevice(const char* variable, const char* value) {
  if (variable != nullptr) setenv(variable, value, 1);
  SeStatus status{};
  must_be_ok(backend().device_open(0, &device_, &status), status, "device_open");
  if (variable != nullptr) unsetenv(variable);
}

OpenDevice::~OpenDevice() { backend().device_close(device_); }

SeDeviceCounters OpenDevice::counters() const {
  SeDeviceCounters counters{};
  backend().device_counters(device_, &counters);
  return counters;
}

DeviceLayer::DeviceLayer(SeDevice* device, const SeMoeLayer& host, int32_t batch_invariant,
                         const QuantisedMatrices& quantised)
    : device_(device), quantised_(quantised), layer_(host) {
  options_.batch_invariant = batch_invariant;
  SeRouting& routing = layer_.routing;
  routing.selection_bias = put_floats(routing.selection_bias, routing.num_experts);
  routing.per_expert_scale = put_floats(routing.per_expert_scale, routing.num_experts);
  routing.hash_table = static_cast<const int32_t*>(
      put(routing.hash_table, routing.vocab_size * routing.top_k * sizeof(int32_t)));
  layer_.router_weight = put_floats(layer_.router_weight, routing.num_experts * layer_.hidden_size);
  layer_.router_bias = put_floats(layer_.router_bias, routing.num_experts);
  layer_.router_input_scale = put_floats(layer_.router_input_scale, layer_.hidden_size);
  layer_.shared_gate = put_floats(layer_.shared_gate, layer_.hidden_size);
  layer_.shared_logit_bias = put_floats(layer_.shared_logit_bias, 1);
  layer_.latent_norm = put_floats(layer_.latent_norm, layer_.latent_size);
  layer_.output_bias = put_floats(layer_.output_bias, layer_.hidden_size);
  put_experts(&layer_.experts);
  put_experts(&layer_.shared);
  put_table(&layer_.latent_down, 1, layer_.experts.dtype);
  put_table(&layer_.latent_up, 1, layer_.experts.dtype);
  code = backend().layer_open(device_, &layer_, &options_, &opened_, &status);
}

DeviceLayer::~DeviceLayer() { backend().layer_close(opened_); }

const void* DeviceLayer::put(const void* from, uint64_t bytes) {
  if (from == nullptr) return nullptr;
  memory_.emplace_back(device_, from, bytes);
  return memory_.back().as<>();
}

const float* DeviceLayer::put_floats(const float* from, int64_t count) {
  return static_cast<const float*>(put(from, count * sizeof(float)));
}

void DeviceLayer::put_table(SeMatrixTable* table, int64_t count, int32_t dtype) {
  if (table->data == nullptr || put_quantised(table, count, dtype)) return;
  const int64_t bytes = table->rows * table->row_stride * sparse_experts::dtype_bytes(dtype);
  std::vector<const void*> entries;
  for (int64_t e = 0; e < count; ++e) entries.push_back(put(table->data[e], bytes));
  table->data =
      static_cast<const void* const*>(put(entries.data(), entries.size() * sizeof(void*)));
}

// Written by the backend in pieces, as a load brings them; false where the table's matrices are rows.
bool DeviceLayer::put_quantised(SeMatrixTable* table, int64_t count, int32_t dtype) {
  constexpr int64_t kRowsAtOnce = 24;
  if (table->data == nullptr || quantised_.count(table->data[0]) == 0) return false;
  std::vector<const void*> entries;
  std::vector<SeMatrixFormat>& formats = formats_.emplace_back();
  std::vector<uint8_t>& format_of = format_of_.emplace_back();
  for (int64_t e = 0; e < count; ++e) {
    const QuantisedMatrix& matrix = quantised_.at(table->data[e]);
    memory_.emplace_back(
        device_, backend().matrix_bytes(device_, matrix.rows, matrix.cols, dtype, &matrix.format));
    entries.push_back(memory_.back().as<>());
    for (int64_t row = 0; row < matrix.rows; row += kRowsAtOnce) {
      const SeMatrixRows rows = matrix.rows_of(row, std::min(kRowsAtOnce, matrix.rows - row), dtype,
                                               memory_.back().as<>());
      must_be_ok(backend().matrix_write(device_, &rows, &status), status, "matrix_write");
    }
    format_of.push_back(static_cast<uint8_t>(formats.size()));
    formats.push_back(matrix.format);
  }
  table->data =
      static_cast<const void* const*>(put(entries.data(), entries.size() * sizeof(void*)));
  table->formats = formats.data();
  table->num_formats = static_cast<int64_t>(formats.size());
  table->format_of = format_of.data();
  return true;
}

void DeviceLayer::put_table(SeBiasTable* table, int64_t count, int64_t size) {
  if (table->data == nullptr) return;
  std::vector<const void*> entries;
  for (int64_t e = 0; e < count; ++e)
    entries.push_back(put(table->data[e], size * table->stride * sizeof(float)));
  table->data =
      static_cast<const float* const*>(put(entries.data(), entries.size() * sizeof(void*)));
}

// As in the engine's memory, a gate matrix lies before its up matrix; each has an allocation of its own.
void DeviceLayer::put_gate_and_up(SeExperts* experts) {
  if (put_quantised(&experts->gate, experts->num_experts, experts->dtype) ||
      experts->gate.data == nullptr || experts->up.data == nullptr)
    return put_table(&experts->up, experts->num_experts, experts->dtype);
  const SeMatrixTable& up = experts->up;
  const uint64_t bytes = up.rows * up.row_stride * sparse_experts::dtype_bytes(experts->dtype);
  std::vector<const void*> gates;
  std::vector<const void*> ups;
  for (int64_t e = 0; e < experts->num_experts; ++e) {
    const void* gate = experts->gate.data[e];
    if (gate == nullptr || up.data[e] == nullptr) {
      gates.push_back(put(gate, bytes));
      ups.push_back(put(up.data[e], bytes));
      continue;
    }
    DeviceMemory one(device_, bytes);
    DeviceMemory other(device_, bytes);
    const bool in_order = std::less<>()(one.as<>(), other.as<>());
    const DeviceMemory& lower = in_order ? one : other;
    const DeviceMemory& upper = in_order ? other : one;
    lower.upload(gate, bytes);
    upper.upload(up.data[e], bytes);
    gates.push_back(lower.as<>());
    ups.push_back(upper.as<>());
    memory_.push_back(std::move(one));
    memory_.push_back(std::move(other));
  }
  const auto table = [&](const std::vector<const void*>& entries) {
    return static_cast<const void* const*>(put(entries.data(), entries.size() * sizeof(void*)));
  };
  experts->gate.data = table(gates);
  experts->up.data = table(ups);
}

void DeviceLayer::put_experts(SeExperts* experts) {
  const int64_t count = experts->num_experts;
  put_table(&experts->gate_bias, count, experts->up.rows);
  put_table(&experts->up_bias, count, experts->up.rows);
  put_table(&experts->down_bias, count, experts->down.rows);
  put_gate_and_up(experts);
  put_table(&experts->down, count, experts->dtype);
}

uint64_t workspace_bytes_of(const DeviceLayer& layer, int64_t num_tokens) {
  return backend().forward_workspace_bytes(layer.device(), &layer.description(), &layer.options(),
                                           num_tokens);
}

ForwardResult run_on_device(const DeviceLayer& layer, const ForwardCall& call,
                            const DeviceMemory* workspace, uint64_t workspace_bytes) {
  SeForwardArgs args = call.args;
  ForwardResult result;
  const SeMoeLayer& description = layer.description();
  const int64_t num_tokens = args.select.num_tokens;
  const int64_t num_slots = num_tokens * description.routing.top_k;
  if ((args.device_arrays & SE_ARRAY_OUTPUT) == 0) {
    result.output.assign(
        num_tokens * description.hidden_size * sparse_experts::dtype_bytes(args.hidden.dtype),
        '\xff');
    args.output =
        tensor_of(result.output.data(), args.hidden.dtype, {num_tokens, description.hidden_size});
  }
  if (args.replay) {
    result.ids.assign(args.select.topk_ids, args.select.topk_ids + num_slots);
    result.weights.assign(args.select.topk_weights, args.select.topk_weights + num_slots);
  } else {
    result.ids.assign(num_slots, 0x7fffffff);
    result.weights.assign(num_slots, NAN);
  }
  result.flags.assign(num_tokens, 0xff);
  args.select.topk_ids = result.ids.data();
  args.select.topk_weights = result.weights.data();
  args.select.non_finite = result.flags.data();
  if (layer.code != SE_OK) {
    result.code = layer.code;
    result.status = layer.status;
    return result;
  }
  if (workspace != nullptr) {
    result.code =
        backend().forward(layer.get(), &args, workspace->as<>(), workspace_bytes, &result.status);
    return result;
  }
  const uint64_t bytes = workspace_bytes_of(layer, num_tokens);
  const DeviceMemory own(layer.device(), bytes + kCanaryBytes);
  result.code = backend().forward(layer.get(), &args, own.as<>(), bytes, &result.status);
  if (result.code == SE_DEVICE_LOST) return result;
  std::vector<char> canary(kCanaryBytes);
  SeStatus status{};
  must_be_ok(backend().copy_to_host(layer.device(), canary.data(), own.as<char>() + bytes,
                                    kCanaryBytes, &status),
             status, "canary");
  CHECK_MESSAGE(canary == std::vector<char>(kCanaryBytes, '\xff'),
                "bytes behind the workspace are untouched");
  return result;
}

}  // namespace native_test
