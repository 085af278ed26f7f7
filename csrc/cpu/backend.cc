// The C ABI of the CPU backend but for layers (cpu/layer_calls.h): each function checks, takes the
// device, runs, and turns every failure into a status.
#include "cpu/backend.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "abi/guarded.h"
#include "core/host_memory.h"
#include "core/matrix_format.h"
#include "cpu/describe.h"
#include "cpu/device.h"
#include "cpu/forward_plan.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/layer_calls.h"
#include "cpu/layouts/matrix_panels.h"
#include "cpu/ops/code_rows.h"
#include "cpu/stages.h"
#include "ops/checks.h"
#include "ops/contract.h"
#include "platform/environment.h"
#include "platform/processors.h"

namespace sparse_experts {
namespace {

using cpu::RunContext;

constexpr int kMaxThreads = 1024;

Status default_threads(int* num_threads) {
  *num_threads = std::min(platform::available_processors(), kMaxThreads);
  const std::string text = platform::environment_variable("SPARSE_EXPERTS_THREADS");
  if (text.empty()) return Status::ok();
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (errno != 0 || *end != '\0' || value < 1 || value > kMaxThreads)
    return {SE_DEVICE_UNAVAILABLE, "SPARSE_EXPERTS_THREADS=" + text +
                                       ": expected a whole number from 1 to " +
                                       std::to_string(kMaxThreads)};
  *num_threads = static_cast<int>(value);
  return Status::ok();
}

Status check_index(int32_t index) {
  if (index == 0) return Status::ok();
  return Status::invalid("cpu: there is one device, index 0; received " + std::to_string(index));
}

int32_t device_count(SeStatus* status) {
  Status::ok().write_to(status);
  return 1;
}

int32_t device_info(int32_t index, SeDeviceInfo* info, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_index(index));
    *info = SeDeviceInfo{};
    info->kind = SE_KIND_CPU;
    info->is_host = 1;
    info->is_batch_invariant = 1;
    std::snprintf(info->name, sizeof info->name, "%s", platform::processor_name().c_str());
    std::string reason;
    const cpu::IsaKernels* kernels = cpu::choose_isa(&reason);
    int num_threads = 1;
    const Status threads = default_threads(&num_threads);
    if (reason.empty() && !threads.is_ok()) reason = threads.message();
    std::snprintf(info->architecture, sizeof info->architecture, "%s",
                  kernels != nullptr ? kernels->name : "");
    std::snprintf(info->unavailable, sizeof info->unavailable, "%s", reason.c_str());
    const HostMemoryInfo memory = host_memory_info();
    info->total_bytes = memory.total_bytes;
    info->free_bytes = memory.free_bytes;
    info->compute_units = num_threads;
    return Status::ok();
  });
}

int32_t device_open(int32_t index, SeDevice** device, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    *device = nullptr;
    SE_RETURN_IF_ERROR(check_index(index));
    std::string reason;
    const cpu::IsaKernels* kernels = cpu::choose_isa(&reason);
    if (kernels == nullptr) return {SE_DEVICE_UNAVAILABLE, reason};
    int num_threads = 1;
    SE_RETURN_IF_ERROR(default_threads(&num_threads));
    auto opened = new SeDevice();
    opened->kernels = kernels;
    opened->num_threads = num_threads;
    try {
      opened->pool = cpu::acquire_thread_pool(num_threads);
    } catch (...) {
      delete opened;
      throw;
    }
    *device = opened;
    return Status::ok();
  });
}

void device_close(SeDevice* device) {
  if (device == nullptr) return;
  delete device;
  cpu::release_thread_pool();
}

int32_t memory_allocate(SeDevice*, uint64_t bytes, void** data, SeStatus* status) {
  return guarded(status, [&] { return host_allocate(bytes, data); });
}

void memory_free(SeDevice*, void* data, uint64_t bytes) { host_free(data, bytes); }

int32_t copy(SeDevice*, void* to, const void* from, uint64_t bytes, SeStatus* status) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return Status::ok().write_to(status);
}

int64_t matrix_granule(SeDevice* device) { return device->kernels->panel_width; }

int32_t matrix_format(SeDevice* device, int32_t dtype, SeMatrixFormat* format) {
  if (cpu::holds_format(dtype, *format, cpu::has_bf16_product(*device->kernels)))
    return SE_FORMAT_AS_IS;
  return only_own_dtype(dtype, format);
}

uint64_t matrix_bytes(SeDevice* device, int64_t rows, int64_t cols, int32_t,
                      const SeMatrixFormat* format) {
  return cpu::MatrixPanels(device->kernels->panel_width, rows, cols, *format).bytes();
}

int32_t matrix_write(SeDevice* device, const SeMatrixRows* rows, SeStatus* status) {
  return guarded(status,
                 [&] { return cpu::pack_matrix_rows(device->kernels->panel_width, *rows); });
}

int32_t encodes_activations(SeDevice* device, const SeMatrixFormat* format) {
  return cpu::has_coded_product(*device->kernels, *format) ? 1 : 0;
}

int32_t gate(SeDevice* device, const SeGateArgs* args, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_gate(*args));
    std::lock_guard<std::mutex> lock(device->mutex);
    return cpu::gate_stage(RunContext(device, args->num_threads, nullptr), *args);
  });
}

int32_t select_experts(SeDevice* device, const SeRouting* routing, const SeSelectArgs* args,
                       SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_select(*routing, *args));
    SE_RETURN_IF_ERROR(check_select_contents(*routing, *args));
    SE_RETURN_IF_ERROR(validate_select(*routing, *args));
    std::lock_guard<std::mutex> lock(device->mutex);
    return cpu::select_stage(RunContext(device, 0, nullptr), *routing, *args);
  });
}

int32_t dispatch(SeDevice*, const SeDispatchArgs* args, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_dispatch(*args));
    SE_RETURN_IF_ERROR(check_dispatch_contents(*args));
    return cpu::dispatch_stage(*args);
  });
}

int32_t expert_matmul(SeDevice* device, const SeExpertMatmulArgs* args, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_expert_matmul(*args));
    SE_RETURN_IF_ERROR(check_expert_matmul_contents(*args));
    SE_RETURN_IF_ERROR(validate_expert_matmul(*args));
    std::lock_guard<std::mutex> lock(device->mutex);
    return cpu::expert_matmul_stage(RunContext(device, args->num_threads, nullptr), *args);
  });
}

int32_t combine(SeDevice* device, const SeCombineArgs* args, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_combine(*args));
    SE_RETURN_IF_ERROR(check_combine_contents(*args));
    std::lock_guard<std::mutex> lock(device->mutex);
    return cpu::combine_stage(RunContext(device, args->num_threads, nullptr), *args);
  });
}

uint64_t forward_workspace_bytes(SeDevice* device, const SeMoeLayer* layer,
                                 const SeLayerOptions* options, int64_t num_tokens) {
  return cpu::plan_forward(*device->kernels, *layer, *options, num_tokens).total_bytes;
}

void describe_forward(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                      int64_t, SeForwardDescription* description) {
  cpu::describe_forward(*device->kernels, *layer, *options, description);
}

// Host memory is its owner's affair, and nothing is launched or copied.
void device_counters(SeDevice*, SeDeviceCounters* counters) { *counters = SeDeviceCounters{}; }

#if defined(__clang__)
#define SE_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define SE_COMPILER "gcc " __VERSION__
#else
#define SE_COMPILER "unknown compiler"
#endif
#if defined(SPARSE_EXPERTS_X86)
#define SE_ISAS "scalar avx2 avxvnni avx512 avx512vnni avx512bf16"
#elif defined(SPARSE_EXPERTS_NEON)
#define SE_ISAS "scalar neon neondotprod neoni8mm"
#else
#define SE_ISAS "scalar"
#endif

}  // namespace

const SeBackend* cpu_backend() {
  static const SeBackend table = {
      SE_BACKEND_ABI_VERSION,
      sizeof(SeBackend),
      "cpu",
      SE_COMPILER,
      SE_ISAS,
      device_count,
      device_info,
      device_open,
      device_close,
      memory_allocate,
      memory_free,
      copy,
      copy,
      nullptr,  // pinned memory: the device's memory is the host's
      nullptr,
      nullptr,
      nullptr,
      1,  // mixes_formats
      matrix_granule,
      matrix_format,
      matrix_bytes,
      matrix_write,
      encodes_activations,
      gate,
      select_experts,
      dispatch,
      expert_matmul,
      combine,
      forward_workspace_bytes,
      describe_forward,
      cpu::layer_open,
      cpu::layer_close,
      nullptr,  // stage_forward: the arrays are used where they are
      nullptr,
      cpu::layer_forward,
      cpu::layer_set_experts,
      cpu::forward_begin,
      cpu::forward_wave,
      cpu::forward_experts,
      cpu::forward_slot_rows,
      cpu::forward_finish,
      cpu::forward_end,
      device_counters,
      cpu::layer_phases,
  };
  return &table;
}

}  // namespace sparse_experts
