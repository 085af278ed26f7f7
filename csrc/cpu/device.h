// The CPU device: kernels in use, threads, and scratch that is kept between calls.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "abi/backend.h"
#include "cpu/isa/isa.h"
#include "cpu/ops/expert_matmul.h"
#include "cpu/ops/select.h"
#include "cpu/phase_times.h"
#include "cpu/thread_pool.h"

// Opaque to callers. One run at a time: every op holds the mutex.
struct SeDevice {
  std::mutex mutex;
  const sparse_experts::cpu::IsaKernels* kernels = nullptr;
  sparse_experts::cpu::ThreadPool* pool = nullptr;
  int num_threads = 1;

  // Grow-only scratch; contents do not outlive an op.
  std::vector<sparse_experts::cpu::MatmulSegment> segments;
  std::vector<sparse_experts::cpu::MatmulTask> tasks;
  sparse_experts::cpu::SelectScratch select;
};

// A layer needs little of its own beyond its description.
struct SeLayer {
  SeDevice* device;
  SeMoeLayer layer;
  SeLayerOptions options = {};
  // The router where each of its weights is a value of bf16, as checkpoints store it: half the
  // bytes, and the same bits once widened. Else empty.
  std::vector<uint16_t> router_bf16 = {};
  sparse_experts::cpu::PhaseTimes phases = {};
  // A cached layer's tables: `layer` points to them, and layer_set_experts writes them.
  struct Tables {
    std::vector<const void*> gate, up, down;
  };
  Tables tables = {};
};

namespace sparse_experts::cpu {

// What an op needs to run: the device's kernels and pool, and this call's limits.
struct RunContext {
  SeDevice* device;
  const IsaKernels* kernels;
  int num_threads;
  const int32_t* cancel;

  RunContext(SeDevice* opened, int32_t requested_threads, const int32_t* cancel_flag)
      : device(opened),
        kernels(opened->kernels),
        num_threads(opened->num_threads),
        cancel(cancel_flag) {
    if (requested_threads > 0 && requested_threads < num_threads) num_threads = requested_threads;
  }

  bool is_cancelled() const {
    return cancel != nullptr && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
  }

  template <typename Body>
  void parallel_for(int64_t num_tasks, Body&& body) const {
    device->pool->parallel_for(num_tasks, num_threads, cancel, body);
  }

  // Calls body(first, last) on ranges of rows. Few elements run on the caller: waking a thread
  // costs more.
  template <typename Body>
  void for_rows(int64_t num_rows, int64_t row_elements, Body&& body) const {
    constexpr int64_t kChunkElements = 1 << 15;
    const int64_t rows_per_task =
        row_elements >= kChunkElements ? 1 : kChunkElements / (row_elements + 1) + 1;
    const int64_t num_tasks = (num_rows + rows_per_task - 1) / rows_per_task;
    parallel_for(num_tasks, [&](int64_t task) {
      const int64_t first = task * rows_per_task;
      const int64_t last = first + rows_per_task < num_rows ? first + rows_per_task : num_rows;
      body(first, last);
    });
  }
};

// One row from a float type to another, through f32 in pieces that stay in cache. f32 to bf16
// rounds to nearest even.
void convert_row(const IsaKernels& kernels, const void* in, int32_t in_dtype, void* out,
                 int32_t out_dtype, int64_t n);

}  // namespace sparse_experts::cpu
