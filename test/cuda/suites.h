// The suites of cuda_tests: one function in a file of its own for each launcher header. All see the
// device through CudaContext only and count with native/check.h.
#pragma once

#include <string>

#include "cuda/ops/limits.h"
#include "native/check.h"

namespace native_test {

struct CudaContext {
  sparse_experts::cuda::DeviceLimits limits;  // of the current device
  std::string schedule;                       // "forward", "random 2", …; "device" on a GPU
};

void test_gate(const CudaContext& context);
void test_select(const CudaContext& context);
void test_capacity(const CudaContext& context);
void test_dispatch(const CudaContext& context);
void test_matmul_half(const CudaContext& context);
void test_matmul_f32(const CudaContext& context);
void test_combine(const CudaContext& context);
void test_elementwise(const CudaContext& context);
void test_backend(const CudaContext& context);

}  // namespace native_test
