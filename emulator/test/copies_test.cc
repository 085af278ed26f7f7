// cp.async: what lands when, how much, with which poison, and the addresses it refuses.
#include <simt/ptx.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("copies");

using namespace simt::ptx;
using simt::DefectKind;

// The landing of groups, seen by the thread itself. Reads of copies in flight are defects in the
// race flavour, so the first values are looked at only in the others.
__global__ void groups_kernel(const uint32_t* source, uint32_t* out) {
  uint32_t* tile = reinterpret_cast<uint32_t*>(simt::dynamic_shared());
  const uint32_t base = smem_u32(tile);
  for (uint32_t i = 0; i < 3; ++i) {
    cp_async_4(base + i * 4, source + i, 4);
    cp_async_commit();
  }
  cp_async_4(base + 12, source + 3, 4);  // not committed: no wait covers it
#if !defined(SIMT_RACE)
  for (int i = 0; i < 4; ++i) out[i] = tile[i];
#endif
  cp_async_wait<2>();
  out[4] = tile[0];
#if !defined(SIMT_RACE)
  out[5] = tile[1];
#endif
  cp_async_wait<0>();
  out[6] = tile[1];
  out[7] = tile[2];
#if !defined(SIMT_RACE)
  out[8] = tile[3];
#endif
  cp_async_commit();
  cp_async_wait<0>();
  out[9] = tile[3];
}

TEST_CASE("groups") {
  const Buffer<uint32_t> source({11, 12, 13, 14});
  const Buffer<uint32_t> out(10);
  expect_clean(run(groups_kernel, 1, 1, 16, source.data(), out.data()), "groups");
  constexpr uint32_t kPoison = 0xffffffffu;
  CHECK_MESSAGE(out[4] == 11, "groups land in order");
  CHECK_MESSAGE(out[6] == 12, "groups land in order");
  CHECK_MESSAGE(out[7] == 13, "groups land in order");
  CHECK_MESSAGE(out[9] == 14, "groups land in order");
  if (!kRaceFlavour) {
    CHECK_MESSAGE(out[0] == kPoison, "0xFF until the wait");
    CHECK_MESSAGE(out[1] == kPoison, "0xFF until the wait");
    CHECK_MESSAGE(out[3] == kPoison, "0xFF until the wait");
    CHECK_MESSAGE(out[5] == kPoison, "0xFF until the wait");
    CHECK_MESSAGE(out[8] == kPoison, "0xFF until the wait");
  }
}

__global__ void fill_kernel(const unsigned char* source, uint32_t bytes, unsigned char* out) {
  unsigned char* tile = simt::dynamic_shared();
  cp_async_16(smem_u32(tile), source, bytes);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < 16; ++i) out[i] = tile[i];
}

TEST_CASE("fill") {
  Every right;
  for (uint32_t bytes = 0; bytes <= 16; ++bytes) {
    // Exactly as many bytes as are read: one more would be out of bounds.
    const Buffer<uint4> aligned(1);
    auto* source = reinterpret_cast<unsigned char*>(aligned.data());
    for (int i = 0; i < 16; ++i) source[i] = static_cast<unsigned char>(i + 1);
    const Buffer<unsigned char> out(16);
    expect_clean(run(fill_kernel, 1, 1, 16, source, bytes, out.data()), "partial copy");
    for (uint32_t i = 0; i < 16; ++i) right.equal(out[i], (i < bytes ? i + 1 : 0));
  }
  right.check("the rest of a partial copy is zero");
  const Buffer<uint4> source(1);
  const Buffer<unsigned char> out(16);
  expect_defect(
      run(fill_kernel, 1, 1, 16, reinterpret_cast<unsigned char*>(source.data()), 17u, out.data()),
      {DefectKind::kOutOfBounds}, "17 of 16 bytes");
}

__global__ void address_kernel(uint32_t shared_shift, const unsigned char* source) {
  cp_async_16(smem_u32(simt::dynamic_shared()) + shared_shift, source, 16);
  cp_async_commit();
  cp_async_wait<0>();
}
__global__ void four_kernel(uint32_t shared_shift, const unsigned char* source) {
  cp_async_4(smem_u32(simt::dynamic_shared()) + shared_shift, source, 4);
  cp_async_commit();
  cp_async_wait<0>();
}
__global__ void ldmatrix_kernel(uint32_t shared_shift) {
  unsigned char* tile = simt::dynamic_shared();
  for (unsigned i = threadIdx.x; i < 512; i += 32) tile[i] = 1;
  __syncwarp();
  uint32_t registers[4];
  ldmatrix_x4(registers, smem_u32(tile) + threadIdx.x * 16 + shared_shift);
}
__global__ void null_kernel() {
  uint32_t registers[2];
  ldmatrix_x2(registers, 0);
}
__global__ void stack_kernel() {
  unsigned local = threadIdx.x;
  static_cast<void>(smem_u32(&local));
}

TEST_CASE("addresses") {
  const Buffer<uint4> memory(4);
  auto* source = reinterpret_cast<unsigned char*>(memory.data());
  expect_clean(run(address_kernel, 1, 1, 64, 48u, source), "the last 16 bytes");
  expect_defect(run(address_kernel, 1, 1, 64, 8u, source), {DefectKind::kMisaligned},
                "misaligned destination", "cp.async");
  expect_defect(run(address_kernel, 1, 1, 64, 0u, source + 8), {DefectKind::kMisaligned},
                "misaligned source", "source");
  expect_defect(run(address_kernel, 1, 1, 64, 64u, source), {DefectKind::kOutOfBounds},
                "past the end");
  expect_defect(run(address_kernel, 1, 1, 56, 48u, source), {DefectKind::kOutOfBounds},
                "half past the end");
  expect_defect(run(address_kernel, 1, 1, 64, 0u - 16u, source), {DefectKind::kOutOfBounds},
                "before the start");
  expect_clean(run(four_kernel, 1, 1, 64, 60u, source + 4), "the last 4 bytes");
  expect_defect(run(four_kernel, 1, 1, 64, 2u, source), {DefectKind::kMisaligned}, "4 misaligned");
  expect_defect(run(four_kernel, 1, 1, 64, 64u, source), {DefectKind::kOutOfBounds}, "4 past");
  expect_clean(run(ldmatrix_kernel, 1, 32, 512, 0u), "ldmatrix");
  const Outcome misaligned = run(ldmatrix_kernel, 1, 32, 512, 4u);
  expect_defect(misaligned, {DefectKind::kMisaligned}, "ldmatrix misaligned", "ldmatrix.x4");
  CHECK_MESSAGE((misaligned.defect.file.find("copies_test") != std::string::npos &&
                 misaligned.defect.line > 0 &&
                 misaligned.defect.kernel.find("ldmatrix_kernel") != std::string::npos),
                "the report names file, line and kernel: ", simt::describe(misaligned.defect));
  expect_defect(run(ldmatrix_kernel, 1, 32, 512, 16u), {DefectKind::kOutOfBounds},
                "ldmatrix past the end");
  expect_defect(run(null_kernel, 1, 32, 512), {DefectKind::kOutOfBounds}, "ldmatrix of zero");
  expect_defect(run(stack_kernel, 1, 32, 512), {DefectKind::kOutOfBounds}, "smem_u32 of a local");
}

__global__ void vector_kernel(const unsigned char* source, uint4* out) {
  out[threadIdx.x] = load_streaming(source + threadIdx.x * 16);
}

TEST_CASE("vector loads") {
  const Buffer<uint4> in(32), out(32);
  for (unsigned i = 0; i < 32; ++i) in[i] = make_uint4(i, i + 1, i + 2, i + 3);
  auto* source = reinterpret_cast<unsigned char*>(in.data());
  expect_clean(run(vector_kernel, 1, 32, 0, source, out.data()), "load_streaming");
  CHECK_MESSAGE(std::memcmp(in.data(), out.data(), 512) == 0, "load_streaming copies");
  expect_defect(run(vector_kernel, 1, 31, 0, source + 4, out.data()), {DefectKind::kMisaligned},
                "load_streaming misaligned");
}

TEST_SUITE_END();

}  // namespace
