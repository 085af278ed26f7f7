// What goes wrong between threads, planted: divergent collectives, wrong masks, barriers that not
// all reach, early exits, deadlocks, loops without end, exceptions. All flavours find all of it.
#include <simt/ptx.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("defects");

using simt::DefectKind;
constexpr unsigned kFull = 0xffffffffu;

__global__ void half_shuffle_kernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(kFull, value, 1);
  out[threadIdx.x] = value;
}
__global__ void half_then_barrier_kernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(kFull, value, 1);
  __syncthreads();
  out[threadIdx.x] = value;
}
__global__ void own_lane_kernel(int* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1, 0); }
__global__ void other_masks_kernel(int* out) {
  const unsigned mask = threadIdx.x < 16 ? kFull : 0xffff0000u;
  out[threadIdx.x] = __shfl_sync(mask, 1, 16);
}
__global__ void other_lines_kernel(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(kFull, 1, 0);
  } else {
    out[threadIdx.x] = __shfl_sync(kFull, 2, 0);
  }
}
__global__ void exited_lane_kernel(int* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = __shfl_sync(kFull, 1, 0);
}
__global__ void bad_width_kernel(int* out) { out[threadIdx.x] = __shfl_sync(kFull, 1, 0, 12); }
__global__ void half_mma_kernel() {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) simt::ptx::mma_m16n8k16_bf16(d, a, b);
}
__global__ void small_mma_kernel() {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  simt::ptx::mma_m16n8k16_bf16(d, a, b);
}

TEST_CASE("collectives") {
  const Buffer<int> out(64);
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Outcome half = run(half_shuffle_kernel, 1, 64, 0, out.data());
    expect_defect(half, {DefectKind::kDivergence}, "shuffle in half a warp", "__shfl_xor_sync");
    CHECK_MESSAGE(half.defect.file.find("defects_test") != std::string::npos,
                  "the report has the line");
    CHECK_MESSAGE(half.defect.line > 0, "the report has the line");
    expect_defect(run(half_then_barrier_kernel, 1, 64, 0, out.data()), {DefectKind::kDeadlock},
                  "half at a shuffle, half at a barrier", "__syncthreads");
    expect_defect(run(own_lane_kernel, 1, 32, 0, out.data()), {DefectKind::kDivergence},
                  "lane not in its own mask", "own mask");
    expect_defect(run(other_masks_kernel, 1, 32, 0, out.data()),
                  {DefectKind::kDivergence, DefectKind::kDeadlock}, "different masks");
    expect_defect(run(other_lines_kernel, 1, 32, 0, out.data()), {DefectKind::kDivergence},
                  "different lines", "disagree");
    expect_defect(run(exited_lane_kernel, 1, 32, 0, out.data()), {DefectKind::kDivergence},
                  "mask with an exited lane");
    expect_defect(run(bad_width_kernel, 1, 32, 0, out.data()), {DefectKind::kDivergence}, "width");
    expect_defect(run(half_mma_kernel, 1, 32, 0), {DefectKind::kDivergence}, "half an mma", "mma");
    expect_defect(run(small_mma_kernel, 1, 16, 0), {DefectKind::kDivergence}, "mma by 16 threads");
  }
}

__global__ void one_warp_barrier_kernel(int* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void early_exit_kernel(int* out) {
  if (threadIdx.x == 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void two_barriers_kernel(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
__global__ void uneven_loop_kernel(int* out) {
  for (unsigned i = 0; i < 2 + threadIdx.x / 32; ++i) __syncthreads();
  out[threadIdx.x] = 1;
}

TEST_CASE("barriers") {
  const Buffer<int> out(64);
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    expect_defect(run(one_warp_barrier_kernel, 1, 64, 0, out.data()), {DefectKind::kDivergence},
                  "barrier of one warp", "__syncthreads");
    expect_defect(run(early_exit_kernel, 1, 64, 0, out.data()), {DefectKind::kDivergence},
                  "exit before a barrier", "exit");
    expect_defect(run(two_barriers_kernel, 1, 64, 0, out.data()), {DefectKind::kDivergence},
                  "two barriers", "different barriers");
    expect_defect(run(uneven_loop_kernel, 1, 64, 0, out.data()), {DefectKind::kDivergence},
                  "one warp has a barrier more");
    // As the hardware does it: exited threads do not count, and lines do not matter.
    simt::Options options;
    options.schedule = setting.schedule;
    options.seed = setting.seed;
    options.strict_barriers = false;
    const Scheduled permissive(options);
    expect_clean(run(one_warp_barrier_kernel, 1, 64, 0, out.data()), "permissive: one warp");
    expect_clean(run(early_exit_kernel, 1, 64, 0, out.data()), "permissive: early exit");
    expect_clean(run(two_barriers_kernel, 1, 64, 0, out.data()), "permissive: two barriers");
    expect_clean(run(exited_lane_kernel, 1, 32, 0, out.data()), "permissive: exited lane");
  }
}

// A thread of warp 0 waits for warp 1, which waits for warp 0.
__global__ void crossed_kernel(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    __syncwarp();
  } else if (threadIdx.x < 48) {
    __syncwarp();
    __syncthreads();
  } else {
    __syncthreads();
    __syncwarp();
  }
  out[threadIdx.x] = 1;
}

TEST_CASE("deadlock") {
  const Buffer<int> out(64);
  simt::clear_defects();
  const Outcome outcome = run(crossed_kernel, 1, 64, 0, out.data());
  expect_defect(outcome, {DefectKind::kDeadlock, DefectKind::kDivergence}, "crossed barriers");
  CHECK_MESSAGE(outcome.defect.text.find("threads ") != std::string::npos,
                "the report lists threads");
  if (CHECK_MESSAGE(simt::defects().size() == 1, "the list of defects"))
    CHECK_MESSAGE(simt::defects()[0].text == outcome.defect.text, "the list of defects");
  simt::clear_defects();
  CHECK_MESSAGE(simt::defects().empty(), "the list cleared");
}

// Loops without end: with and without calls that the engine sees.
__global__ void spin_kernel(const volatile int* flag, int* out) {
  while (*flag == 0) {
  }
  out[0] = 1;
}
__global__ void spin_warp_kernel(int* flag, int* out) {
  while (__any_sync(kFull, *static_cast<volatile int*>(flag) == 0) != 0) {
  }
  out[threadIdx.x] = 1;
}
__global__ void spin_atomic_kernel(int* flag, int* out) {
  while (atomicCAS(flag, 1, 2) != 1) {
  }
  out[0] = 1;
}
// Block 1 waits for block 0 the wrong way round in time.
__global__ void wait_for_block_kernel(int* flags) {
  if (blockIdx.x == 0) {
    while (atomicAdd(&flags[1], 0) == 0) {
    }
  }
  atomicExch(&flags[blockIdx.x], 1);
}

TEST_CASE("livelock") {
  simt::Options options;
  options.timeout_seconds = 0.2;
  const Scheduled scheduled(options);
  const Buffer<int> flag(std::vector<int>{0, 0});
  const Buffer<int> out(32);
  for (int round = 0; round < 2; ++round) {
    expect_defect(run(spin_kernel, 1, 1, 0, flag.data(), out.data()), {DefectKind::kLivelock},
                  "spinning on memory");
    expect_defect(run(spin_warp_kernel, 1, 32, 0, flag.data(), out.data()), {DefectKind::kLivelock},
                  "spinning on a vote", "livelock");
    expect_defect(run(spin_atomic_kernel, 1, 1, 0, flag.data(), out.data()),
                  {DefectKind::kLivelock}, "spinning on an atomic");
    expect_defect(run(wait_for_block_kernel, 2, 1, 0, flag.data()), {DefectKind::kLivelock},
                  "a block waits for another");
  }
}

// One warp polls while the other works: slow, but no livelock, in no schedule.
__global__ void poll_kernel(int* out) {
  int* ready = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) atomicExch(ready, 0);
  __syncthreads();
  if (threadIdx.x < 32) {
    int seen = 0;
    do {
      if (threadIdx.x == 0) seen = atomicAdd(ready, 0);
      seen = __shfl_sync(kFull, seen, 0);
    } while (seen != 10);
  } else {
    for (int i = 0; i < 10; ++i) {
      __syncwarp();
      if (threadIdx.x == 32) atomicAdd(ready, 1);
    }
  }
  out[threadIdx.x] = 1;
}

// Not with the race detector: the first atomic is on memory that nobody wrote.
TEST_CASE("polling" * doctest::skip(kRaceFlavour)) {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<int> out(64);
    expect_clean(run(poll_kernel, 1, 64, 0, out.data()), std::string("polling, ") + setting.name);
  }
}

__global__ void throwing_kernel(int* out) {
  if (threadIdx.x == 3) throw std::runtime_error("from a kernel");
  out[threadIdx.x] = 1;
}

TEST_CASE("exceptions") {
  const Buffer<int> out(32);
  expect_defect(run(throwing_kernel, 1, 32, 0, out.data()), {DefectKind::kException},
                "an exception", "from a kernel");
}

__global__ void fine_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 64);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[63 - threadIdx.x];
}

// After any defect the engine is as good as new; and it serves several OS threads.
TEST_CASE("recovery") {
  const Buffer<int> out(64);
  for (int i = 0; i < 50; ++i) {
    run(half_then_barrier_kernel, 1, 64, 0, out.data());
    std::memset(out.data(), 0xff, 256);
    if (!expect_clean(run(fine_kernel, 1, 64, 0, out.data()), "after a defect")) return;
    Every right;
    for (int t = 0; t < 64; ++t) right.equal(out[t], 63 - t);
    if (!right.check("right after a defect")) return;
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) {
    threads.emplace_back([&wrong, n] {
      const Buffer<int> own(64);
      for (int i = 0; i < 50; ++i) {
        if (n == 0 && i % 5 == 0) run(half_then_barrier_kernel, 1, 64, 0, own.data());
        std::memset(own.data(), 0xff, 256);
        if (!run(fine_kernel, 1, 64, 0, own.data()).clean) ++wrong;
        for (int t = 0; t < 64; ++t) wrong += own[t] != 63 - t ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(wrong.load() == 0, "four OS threads");
  simt::clear_defects();
}

// A grid that depends on the order of its blocks shows it: orders differ between schedules.
__global__ void order_kernel(int* counter, int* order) {
  order[blockIdx.x] = atomicAdd(counter, 1);
}

TEST_CASE("block order") {
  std::vector<std::vector<int>> orders;
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<int> counter(std::vector<int>{0}), order(16);
    expect_clean(run(order_kernel, 16, 1, 0, counter.data(), order.data()), "order");
    orders.emplace_back(order.data(), order.data() + 16);
  }
  CHECK_MESSAGE(orders[0][0] == 0, "forward");
  CHECK_MESSAGE(orders[0][15] == 15, "forward");
  CHECK_MESSAGE(orders[1][0] == 15, "reverse");
  CHECK_MESSAGE(orders[1][15] == 0, "reverse");
  CHECK_MESSAGE(orders[2] != orders[0], "random");
  CHECK_MESSAGE(orders[2] != orders[1], "random");
  CHECK_MESSAGE(orders[2] != orders[3], "random");
}

TEST_SUITE_END();

}  // namespace
