// Bounds of global and shared memory, and memory that nobody has written. Which flavour finds what:
//   global, past the end        address (the process ends), race
//   an array in shared memory   address (ends), race; plain: writes, when the block ends
//   uninitialised shared        race; elsewhere the value is 0xFF bytes
#include <cmath>
#include <cstdio>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("memory");

using simt::DefectKind;

__global__ void read_kernel(const int* values, int index, int* out) { out[0] = values[index]; }
__global__ void write_kernel(int* values, int index) { values[index] = 1; }
__global__ void array_kernel(int index) {
  volatile int* array = SIMT_STATIC_SHARED(int, 10);
  array[index] = 1;
}
__global__ void dynamic_kernel(int index) {
  volatile int* array = reinterpret_cast<int*>(simt::dynamic_shared());
  array[index] = 1;
}

__global__ void misaligned_kernel(const char* bytes, int* out) {
  out[0] = *reinterpret_cast<const int*>(bytes + 2);
}

TEST_CASE("alignment" * doctest::skip(!kRaceFlavour)) {
  const Buffer<int> values(4), out(1);
  expect_defect(run(misaligned_kernel, 1, 1, 0, reinterpret_cast<char*>(values.data()), out.data()),
                {DefectKind::kMisaligned}, "a misaligned load", "memory_test");
}

TEST_CASE("bounds") {
  const Buffer<int> values(100), out(1);
  expect_clean(run(read_kernel, 1, 1, 0, values.data(), 99, out.data()), "the last element");
  expect_clean(run(array_kernel, 1, 1, 0, 9), "the array's last element");
  expect_clean(run(dynamic_kernel, 1, 1, 40, 9), "the dynamic part's last element");
  if (kAddressFlavour) {
    expect_death("global_read", "heap-buffer-overflow");
    expect_death("global_write", "heap-buffer-overflow");
    expect_death("array_end", "use-after-poison");
    expect_death("dynamic_end", "use-after-poison");
    return;
  }
  expect_defect(run(array_kernel, 1, 1, 0, 10), {DefectKind::kOutOfBounds}, "past an array",
                "memory_test");
  expect_defect(run(dynamic_kernel, 1, 1, 40, 10), {DefectKind::kOutOfBounds},
                "past the dynamic part", "dynamic");
  if (!kRaceFlavour) return;
  expect_defect(run(read_kernel, 1, 1, 0, values.data(), 100, out.data()),
                {DefectKind::kOutOfBounds}, "read past the end");
  expect_defect(run(read_kernel, 1, 1, 0, values.data(), -1, out.data()),
                {DefectKind::kOutOfBounds}, "read before the start");
  expect_defect(run(write_kernel, 1, 1, 0, values.data(), 100), {DefectKind::kOutOfBounds},
                "write past the end");
  int of_the_host = 0;
  expect_defect(run(write_kernel, 1, 1, 0, &of_the_host, 0), {DefectKind::kOutOfBounds},
                "memory of the host");
}

__global__ void uninitialised_kernel(float* out) {
  float* array = SIMT_STATIC_SHARED(float, 32);
  float* dynamic = reinterpret_cast<float*>(simt::dynamic_shared());
  if (threadIdx.x != 5) array[threadIdx.x] = 1;
  dynamic[threadIdx.x] = 2;
  __syncthreads();
  out[threadIdx.x] = array[threadIdx.x] + dynamic[threadIdx.x];
}
__global__ void leave_kernel(int value) {
  int* array = SIMT_STATIC_SHARED(int, 32);
  array[threadIdx.x] = value;
}
__global__ void find_kernel(int* out) {
  int* array = SIMT_STATIC_SHARED(int, 32);
  out[threadIdx.x] = array[threadIdx.x];
}

TEST_CASE("uninitialised") {
  const Buffer<float> out(32);
  const Outcome outcome = run(uninitialised_kernel, 1, 32, 128, out.data());
  if (kRaceFlavour) {
    expect_defect(outcome, {DefectKind::kUninitialised}, "uninitialised shared memory",
                  "memory_test");
  } else {
    expect_clean(outcome, "uninitialised");
    CHECK_MESSAGE(std::isnan(out[5]), "uninitialised shared memory is NaN");
    CHECK_MESSAGE(out[4] == 3.0f, "uninitialised shared memory is NaN");
  }
  // What an earlier kernel or block left there is gone.
  run(leave_kernel, 1, 32, 0, 77);
  const Buffer<int> found(32);
  const Outcome reading = run(find_kernel, 1, 32, 0, found.data());
  if (kRaceFlavour) {
    expect_defect(reading, {DefectKind::kUninitialised}, "left by another kernel");
  } else {
    CHECK_MESSAGE(found[0] == -1, "left by another kernel");
  }
}

// Several arrays, one of them in a function called twice: one address each, aligned, apart.
__device__ double* helper() { return SIMT_STATIC_SHARED(double, 3); }
template <int kCount>
__device__ unsigned char* sized() {
  return SIMT_STATIC_SHARED(unsigned char, kCount);
}
__global__ void arrays_kernel(unsigned long long* out) {
  const auto number = [](const void* pointer) {
    return static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(pointer));
  };
  const unsigned t = threadIdx.x;
  out[t * 6] = number(helper());
  out[t * 6 + 1] = number(helper());
  out[t * 6 + 2] = number(sized<5>());
  out[t * 6 + 3] = number(sized<7>());
  out[t * 6 + 4] = number(simt::dynamic_shared());
  out[t * 6 + 5] = number(SIMT_STATIC_SHARED(float4, 2));
}

TEST_CASE("arrays") {
  const Buffer<unsigned long long> out(6 * 64);
  expect_clean(run(arrays_kernel, 1, 64, 100, out.data()), "arrays");
  Every same;
  for (int t = 0; t < 64; ++t) {
    for (int i = 0; i < 6; ++i) same.equal(out[t * 6 + i], out[i]);
  }
  same.check("the same address for every thread");
  CHECK_MESSAGE(out[0] == out[1], "one array per place in the source, aligned");
  CHECK_MESSAGE(out[2] != out[3], "one array per place in the source, aligned");
  CHECK_MESSAGE(out[0] % 8 == 0, "one array per place in the source, aligned");
  CHECK_MESSAGE(out[5] % 16 == 0, "one array per place in the source, aligned");
  CHECK_MESSAGE(out[4] % 1024 == 0, "one array per place in the source, aligned");
}

__global__ void large_kernel(int* out) {
  float* array = SIMT_STATIC_SHARED(float, 13000);
  array[threadIdx.x] = 1;
  out[0] = 1;
}

__global__ void array_of_10k_kernel(int* out) {
  float* array = SIMT_STATIC_SHARED(float, 2500);
  array[threadIdx.x] = 1;
  out[0] = 1;
}

TEST_CASE("resources") {
  const Buffer<int> out(1);
  expect_clean(run(array_of_10k_kernel, 1, 1, 38 * 1024, out.data()), "48 KiB in all");
  expect_defect(run(array_of_10k_kernel, 1, 1, 40 * 1024, out.data()), {DefectKind::kResources},
                "array and dynamic part beyond 48 KiB");
  expect_defect(run(large_kernel, 1, 1, 0, out.data()), {DefectKind::kResources},
                "arrays beyond 48 KiB");
}

TEST_SUITE_END();

}  // namespace

void child_global_read() {
  const Buffer<int> values(100), out(1);
  run(read_kernel, 1, 1, 0, values.data(), 100, out.data());
}
void child_global_write() {
  const Buffer<int> values(100);
  run(write_kernel, 1, 1, 0, values.data(), 100);
}
void child_array_end() { run(array_kernel, 1, 1, 0, 10); }
void child_dynamic_end() { run(dynamic_kernel, 1, 1, 40, 10); }
