// The C ABI of the CUDA backend: each function enters the device, checks, runs, and turns every
// failure into a status.
#include "abi/backend.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "abi/guarded.h"
#include "core/matrix_format.h"
#include "cuda/layer/layer_calls.h"
#include "cuda/layouts/stored_layout.h"
#include "cuda/runtime/availability.h"
#include "cuda/runtime/device.h"
#include "cuda/runtime/guarded_on.h"
#include "cuda/runtime/matrix.h"
#include "cuda/stages/stages.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts::cuda {
namespace {

int32_t device_count(SeStatus* status) {
  int count = 0;
  guarded(status, [&]() -> Status {
    std::string reason;
    count = count_devices(&reason);
    return count > 0 ? Status::ok() : Status(SE_DEVICE_UNAVAILABLE, reason);
  });
  return count;
}

Status check_index(int32_t index) {
  std::string reason;
  const int count = count_devices(&reason);
  if (index >= 0 && index < std::max(1, count)) return Status::ok();
  return Status::invalid("cuda: there is no device " + std::to_string(index) + ": " +
                         (count == 0 ? reason : std::to_string(count) + " found"));
}

int32_t device_info(int32_t index, SeDeviceInfo* info, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    // A lost GPU is not asked anything any more.
    const OpenState state = open_state(index);
    if (!state.lost_cause.empty()) {
      *info = state.info;
      std::snprintf(info->unavailable, sizeof info->unavailable, "%s", state.lost_cause.c_str());
      return Status::ok();
    }
    SE_RETURN_IF_ERROR(check_index(index));
    fill_device_info(index, state.is_open, info);
    return Status::ok();
  });
}

int32_t device_open(int32_t index, SeDevice** device, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    *device = nullptr;
    SE_RETURN_IF_ERROR(check_index(index));
    SeDeviceInfo info;
    fill_device_info(index, false, &info);
    if (info.unavailable[0] != '\0') return {SE_DEVICE_UNAVAILABLE, info.unavailable};
    auto opened = std::make_unique<SeDevice>(index);
    const Status status_of_open = opened->open(info);
    // A GPU that others hold, a driver that refuses: nothing is wrong with the call.
    if (status_of_open.code() == SE_INTERNAL)
      return {SE_DEVICE_UNAVAILABLE, status_of_open.message()};
    SE_RETURN_IF_ERROR(status_of_open);
    *device = opened.release();
    return Status::ok();
  });
}

void device_close(SeDevice* device) {
  if (device == nullptr) return;
  guarded(nullptr, [&]() -> Status {
    delete device;
    return Status::ok();
  });
}

int32_t memory_allocate(SeDevice* device, uint64_t bytes, void** data, SeStatus* status) {
  *data = nullptr;
  return guarded_on(device, status, [&] { return allocate_device(*device, bytes, data); });
}

void memory_free(SeDevice* device, void* data, uint64_t bytes) {
  guarded_on(device, nullptr, [&]() -> Status {
    free_device(*device, data, bytes);
    return Status::ok();
  });
}

int32_t copy_to_device(SeDevice* device, void* to, const void* from, uint64_t bytes,
                       SeStatus* status) {
  return guarded_on(device, status, [&] { return device->copier().to_device(to, from, bytes); });
}

int32_t copy_to_host(SeDevice* device, void* to, const void* from, uint64_t bytes,
                     SeStatus* status) {
  return guarded_on(device, status, [&] { return device->copier().to_host(to, from, bytes); });
}

int32_t pinned_allocate(SeDevice* device, uint64_t bytes, void** data, SeStatus* status) {
  *data = nullptr;
  return guarded_on(device, status,
                    [&] { return PinnedAllocator::allocate(*device, bytes, data); });
}

void pinned_free(SeDevice* device, void* data, uint64_t bytes) {
  guarded_on(device, nullptr, [&]() -> Status {
    PinnedAllocator::free(*device, data, bytes);
    return Status::ok();
  });
}

int32_t fill_begin(SeDevice* device, void* to, const void* from, uint64_t bytes, SeStatus* status) {
  return guarded_on(device, status, [&] { return device->filler().begin(to, from, bytes); });
}

int32_t fill_wait(SeDevice* device, SeStatus* status) {
  return guarded_on(device, status, [&] { return device->filler().wait(); });
}

// Of codes. Floats lie in rows, and any number of them comes at a time.
int64_t matrix_granule(SeDevice*) { return kUnitRows; }

int32_t matrix_format(SeDevice*, int32_t dtype, SeMatrixFormat* format) {
  if (holds_codes(dtype, *format)) return SE_FORMAT_AS_IS;
  return only_own_dtype(dtype, format);
}

uint64_t matrix_bytes(SeDevice*, int64_t rows, int64_t cols, int32_t,
                      const SeMatrixFormat* format) {
  if (!is_float_format(*format)) return stored_bytes(rows, cols, *format);
  return static_cast<uint64_t>(rows * code_row_bytes(format->code, cols));
}

int32_t matrix_write(SeDevice* device, const SeMatrixRows* rows, SeStatus* status) {
  return guarded_on(device, status, [&] { return write_matrix(*device, *rows); });
}

int32_t gate(SeDevice* device, const SeGateArgs* args, SeStatus* status) {
  return guarded_on(device, status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_gate(*args));
    return router_stage(*device, *args);
  });
}

int32_t select_experts(SeDevice* device, const SeRouting* routing, const SeSelectArgs* args,
                       SeStatus* status) {
  return guarded_on(device, status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_select(*routing, *args));
    SE_RETURN_IF_ERROR(validate_select(*routing, *args));
    return select_stage(*device, *routing, *args);
  });
}

int32_t dispatch(SeDevice* device, const SeDispatchArgs* args, SeStatus* status) {
  return guarded_on(device, status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_dispatch(*args));
    return dispatch_stage(*device, *args);
  });
}

int32_t expert_matmul(SeDevice* device, const SeExpertMatmulArgs* args, SeStatus* status) {
  return guarded_on(device, status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_expert_matmul(*args));
    SE_RETURN_IF_ERROR(validate_expert_matmul(*args));
    return expert_matmul_stage(*device, *args);
  });
}

int32_t combine(SeDevice* device, const SeCombineArgs* args, SeStatus* status) {
  return guarded_on(device, status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_combine(*args));
    return combine_stage(*device, *args);
  });
}

void device_counters(SeDevice* device, SeDeviceCounters* counters) {
  DeviceCounters& from = device->counters();
  *counters =
      SeDeviceCounters{from.device_allocations,     from.device_bytes,        from.pinned_bytes,
                       from.kernel_launches,        from.graph_captures,      from.graph_replays,
                       from.copied_to_device_bytes, from.copied_to_host_bytes};
}

#define SE_TEXT_OF(value) #value
#define SE_TEXT(value) SE_TEXT_OF(value)
#if defined(__clang__)
#define SE_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define SE_COMPILER "gcc " __VERSION__
#else
#define SE_COMPILER "unknown compiler"
#endif
#if defined(SIMT_EMULATOR)
#define SE_RUNTIME "emulated"
#else
#define SE_RUNTIME "CUDA runtime " SE_TEXT(CUDART_VERSION)
#endif

}  // namespace
}  // namespace sparse_experts::cuda

extern "C" __attribute__((visibility("default"))) const SeBackend* se_backend_entry(void) {
  using namespace sparse_experts::cuda;
  static const SeBackend table = {
      SE_BACKEND_ABI_VERSION,
      sizeof(SeBackend),
      "cuda",
      SE_COMPILER "; " SE_RUNTIME,
      architecture_names(),
      device_count,
      device_info,
      device_open,
      device_close,
      memory_allocate,
      memory_free,
      copy_to_device,
      copy_to_host,
      pinned_allocate,
      pinned_free,
      fill_begin,
      fill_wait,
      0,  // mixes_formats: a launch reads matrices of one format
      matrix_granule,
      matrix_format,
      matrix_bytes,
      matrix_write,
      nullptr,  // encodes_activations: no kernel multiplies by codes
      gate,
      select_experts,
      dispatch,
      expert_matmul,
      combine,
      forward_workspace_bytes,
      describe_layer,
      layer_open,
      layer_close,
      stage_forward,
      unstage_forward,
      forward,
      layer_set_experts,
      forward_begin,
      forward_wave,
      forward_experts,
      forward_slot_rows,
      forward_finish,
      forward_end,
      device_counters,
      nullptr,  // layer_phases: a replayed graph has no clock inside
  };
  return &table;
}
