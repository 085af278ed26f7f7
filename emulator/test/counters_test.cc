// Counters against numbers worked out by hand: sectors and bank conflicts of known patterns.
#include <simt/counters.h>
#include <simt/ptx.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("counters");

using namespace simt::ptx;

// Lane l loads 16 bytes at l * stride.
__global__ void vector_kernel(const unsigned char* source, int stride, uint4* out) {
  out[threadIdx.x] = load_streaming(source + static_cast<int64_t>(threadIdx.x) * stride);
}

simt::Counters counted(int stride) {
  const Buffer<uint4> in(32 * 32 + 4), out(33);
  // From a multiple of 32 on, wherever the allocations start.
  auto* first = reinterpret_cast<unsigned char*>(in.data());
  first += (32 - reinterpret_cast<uintptr_t>(first) % 32) % 32;
  uint4* target = out.data() + reinterpret_cast<uintptr_t>(out.data()) % 32 / 16;
  simt::reset_counters();
  expect_clean(run(vector_kernel, 1, 32, 0, first, stride, target), "vector loads");
  return simt::counters();
}

TEST_CASE("sectors") {
  const simt::Counters dense = counted(16);
  CHECK_MESSAGE(dense.global_load_bytes == 512, "coalesced: 16 sectors");
  CHECK_MESSAGE(dense.global_load_sectors == 16, "coalesced: 16 sectors");
  const simt::Counters apart = counted(512);
  CHECK_MESSAGE(apart.global_load_bytes == 512, "512 bytes apart: 32 sectors");
  CHECK_MESSAGE(apart.global_load_sectors == 32, "512 bytes apart: 32 sectors");
  const simt::Counters same = counted(0);
  CHECK_MESSAGE(same.global_load_sectors == 1, "all the same: one sector");
  if (kRaceFlavour) {
    CHECK_MESSAGE((dense.global_store_bytes == 512 && dense.global_store_sectors == 16),
                  "the race flavour counts plain stores: ", dense.global_store_sectors);
  }
}

// Column-wise reads of a row-major matrix: every lane in another sector.
__global__ void transposing_kernel(const float* in, float* out) {
  const unsigned t = threadIdx.x;
  for (unsigned i = 0; i < 32; ++i) out[i * 32 + t] = in[t * 32 + i];
}

TEST_CASE("plain accesses" * doctest::skip(!kRaceFlavour)) {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<float4> in(256), out(257);
    auto* aligned = reinterpret_cast<float*>(out.data());
    aligned += (32 - reinterpret_cast<uintptr_t>(aligned) % 32) % 32 / 4;
    simt::reset_counters();
    expect_clean(run(transposing_kernel, 1, 32, 0, reinterpret_cast<float*>(in.data()), aligned),
                 "transposing");
    const simt::Counters counters = simt::counters();
    CHECK_MESSAGE((counters.global_load_bytes == 4096 && counters.global_load_sectors == 1024),
                  "uncoalesced loads: ", counters.global_load_sectors, " sectors");
    CHECK_MESSAGE((counters.global_store_bytes == 4096 && counters.global_store_sectors == 128),
                  "coalesced stores: ", counters.global_store_sectors, " sectors");
  }
}

// Lane l writes its 16 bytes at l * stride of shared memory.
__global__ void copy_kernel(const uint4* source, uint32_t stride) {
  cp_async_16(smem_u32(simt::dynamic_shared()) + threadIdx.x * stride, source + threadIdx.x,
              threadIdx.x == 31 ? 8 : 16);
  cp_async_commit();
  cp_async_wait<0>();
}

TEST_CASE("copies") {
  const Buffer<uint4> memory(33);
  const uint4* source = memory.data() + reinterpret_cast<uintptr_t>(memory.data()) % 32 / 16;
  simt::reset_counters();
  expect_clean(run(copy_kernel, 1, 32, 4096, source, 16u), "copies");
  simt::Counters counters = simt::counters();
  CHECK_MESSAGE(counters.cp_async == 32, "dense copies");
  CHECK_MESSAGE(counters.cp_async_bytes == 504, "dense copies");
  CHECK_MESSAGE(counters.cp_async_sectors == 16, "dense copies");
  CHECK_MESSAGE(counters.cp_async_bank_conflicts == 0, "dense copies");
  simt::reset_counters();
  expect_clean(run(copy_kernel, 2, 32, 4096, source, 128u), "copies");
  counters = simt::counters();
  CHECK_MESSAGE(counters.cp_async == 64, "rows of 128 bytes: eight ways in each of four phases");
  CHECK_MESSAGE(counters.cp_async_bank_conflicts == 2 * 4 * 7,
                "rows of 128 bytes: eight ways in each of four phases");
  CHECK_MESSAGE(counters.launches == 1, "launches and blocks");
  CHECK_MESSAGE(counters.blocks == 2, "launches and blocks");
}

// Lane l reads the row at l * stride: x4, four matrices of eight rows.
__global__ void ldmatrix_kernel(uint32_t stride) {
  unsigned char* tile = simt::dynamic_shared();
  for (unsigned i = threadIdx.x; i < 4096; i += 32) tile[i] = 0;
  __syncwarp();
  uint32_t registers[4];
  ldmatrix_x4(registers, smem_u32(tile) + threadIdx.x * stride);
}

TEST_CASE("ldmatrix") {
  const struct {
    uint32_t stride;
    uint64_t conflicts;
  } cases[] = {{16, 0}, {32, 4}, {64, 4 * 3}, {128, 4 * 7}, {80, 0}, {0, 0}};
  for (const auto& one : cases) {
    simt::reset_counters();
    expect_clean(run(ldmatrix_kernel, 1, 32, 4096, one.stride), "ldmatrix");
    const simt::Counters counters = simt::counters();
    CHECK_MESSAGE((counters.ldmatrix == 1 && counters.ldmatrix_bank_conflicts == one.conflicts),
                  "ldmatrix with rows ", one.stride,
                  " bytes apart: ", counters.ldmatrix_bank_conflicts, " conflicts");
  }
}

template <int kStride>
__global__ void banks_kernel() {
  volatile float* tile = reinterpret_cast<float*>(simt::dynamic_shared());
  tile[threadIdx.x * kStride] = 1;
}

TEST_CASE("banks" * doctest::skip(!kRaceFlavour)) {
  simt::reset_counters();
  expect_clean(run(banks_kernel<1>, 1, 32, 4096), "banks");
  CHECK_MESSAGE(simt::counters().shared_accesses == 1, "neighbours: no conflict");
  CHECK_MESSAGE(simt::counters().shared_bank_conflicts == 0, "neighbours: no conflict");
  simt::reset_counters();
  expect_clean(run(banks_kernel<32>, 1, 32, 4096), "banks");
  CHECK_MESSAGE(simt::counters().shared_bank_conflicts == 31, "a column: 31 more passes");
  simt::reset_counters();
  expect_clean(run(banks_kernel<2>, 1, 32, 4096), "banks");
  CHECK_MESSAGE(simt::counters().shared_bank_conflicts == 1, "every other: one more pass");
}

TEST_CASE("records") {
  simt::reset_counters();
  expect_clean(run(ldmatrix_kernel, 3, 32, 4096, 16u), "records");
  expect_clean(run(copy_kernel, 0 + 1, 32, 4096, Buffer<uint4>(33).data(), 16u), "records");
  const std::vector<simt::LaunchRecord> records = simt::launch_records();
  CHECK_MESSAGE(
      (records.size() == 2 && records[0].counters.ldmatrix == 3 && records[0].grid.x == 3 &&
       records[0].block.x == 32 && records[0].shared_bytes == 4096 &&
       records[0].name.find("ldmatrix_kernel") != std::string::npos),
      "a record per launch: ", (records.empty() ? "" : records[0].name));
  CHECK_MESSAGE(simt::counters("ldmatrix_kernel").ldmatrix == 3, "sums by name");
  CHECK_MESSAGE(simt::counters("copy_kernel").ldmatrix == 0, "sums by name");
  CHECK_MESSAGE(simt::counters().ldmatrix == 3, "sums by name");
  simt::reset_counters();
  CHECK_MESSAGE(simt::launch_records().empty(), "reset");
  CHECK_MESSAGE(simt::counters().launches == 0, "reset");
}

TEST_SUITE_END();

}  // namespace
