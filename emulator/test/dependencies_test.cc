// Launches that may start early: the rules of griddepcontrol, each broken once.
#include <simt/ptx.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("dependencies");

using simt::DefectKind;
using simt::Start;
using simt::ptx::dependency_wait;
using simt::ptx::launch_dependents;

__global__ void fill_kernel(int* out, int value) { out[threadIdx.x] = value; }

// --- right ---------------------------------------------------------------------------------------

// `older` was written by the launch before the last one.
__global__ void right_kernel(const int* older, const int* latest, int* out) {
  const int sum = older[threadIdx.x];
  dependency_wait();
  launch_dependents();
  out[threadIdx.x] = sum + latest[threadIdx.x];
}

// --- wrong, in every flavour ---------------------------------------------------------------------

__global__ void no_wait_kernel(int* out) { out[threadIdx.x] = 1; }
__global__ void some_wait_kernel(int* out) {
  if (threadIdx.x < 32) dependency_wait();
  if (threadIdx.x < 32) out[threadIdx.x] = 1;
}
__global__ void early_trigger_kernel(int* out) {
  launch_dependents();
  dependency_wait();
  out[threadIdx.x] = 1;
}

// --- wrong, as the race detector sees -------------------------------------------------------------

__global__ void early_read_kernel(const int* latest, int* out) {
  const int value = latest[threadIdx.x];
  dependency_wait();
  out[threadIdx.x] = value;
}
__global__ void early_copy_kernel(const int* latest, int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 64);
  simt::ptx::cp_async_4(simt::ptx::smem_u32(shared + threadIdx.x), latest + threadIdx.x, 4);
  simt::ptx::cp_async_commit();
  dependency_wait();
  simt::ptx::cp_async_wait<0>();
  out[threadIdx.x] = shared[threadIdx.x];
}
__global__ void early_write_kernel(int* out) {
  out[threadIdx.x] = 1;
  dependency_wait();
}

TEST_CASE("early launches") {
  Buffer<int> older(64), latest(64), out(64);
  const auto write_both = [&] {
    expect_clean(run(fill_kernel, 1, 64, 0, older.data(), 1), "older");
    expect_clean(run(fill_kernel, 1, 64, 0, latest.data(), 2), "latest");
  };
  write_both();
  expect_clean(run(Start::kEarly, right_kernel, 1, 64, 0, older.data(), latest.data(), out.data()),
               "waits before it reads what the launch before wrote");
  write_both();
  expect_clean(run(no_wait_kernel, 1, 64, 0, out.data()), "no wait in an ordinary launch");
  expect_clean(run(early_trigger_kernel, 1, 64, 0, out.data()), "an ordinary launch has begun");
  expect_defect(run(Start::kEarly, no_wait_kernel, 1, 64, 0, out.data()), {DefectKind::kDependency},
                "no wait", "the launch before");
  expect_defect(run(Start::kEarly, some_wait_kernel, 1, 64, 0, out.data()),
                {DefectKind::kDependency}, "a warp without a wait", "the launch before");
  expect_defect(run(Start::kEarly, early_trigger_kernel, 1, 64, 0, out.data()),
                {DefectKind::kDependency}, "the next launch started too early",
                "launch_dependents before");
}

#if defined(SIMT_RACE)
TEST_CASE("early accesses") {
  Buffer<int> latest(64), out(64);
  const auto after_fill = [&](const Outcome& outcome, const char* what, const char* text) {
    expect_defect(outcome, {DefectKind::kDependency}, what, text);
  };
  expect_clean(run(fill_kernel, 1, 64, 0, latest.data(), 2), "latest");
  after_fill(run(Start::kEarly, early_read_kernel, 1, 64, 0, latest.data(), out.data()),
             "a read before the wait", "which the launch before wrote");
  expect_clean(run(fill_kernel, 1, 64, 0, latest.data(), 2), "latest");
  after_fill(run(Start::kEarly, early_copy_kernel, 1, 64, 0, latest.data(), out.data()),
             "an asynchronous copy before the wait", "which the launch before wrote");
  after_fill(run(Start::kEarly, early_write_kernel, 1, 64, 0, out.data()),
             "a write before the wait", "before it has waited");
}
#endif

TEST_SUITE_END();

}  // namespace
