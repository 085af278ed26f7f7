// Bulk copies: what a tensor map may say, where the elements of a box lie in shared memory, rows
// outside of the tensor, and stores that read late.
#include <cuda.h>
#include <simt/counters.h>
#include <simt/ptx.h>
#include <simt/ptx90.h>

#include <functional>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("bulk");

using namespace simt::ptx;
using simt::DefectKind;

// A tensor of 16-bit elements.
struct Tensor {
  std::vector<cuuint64_t> dimensions;
  std::vector<cuuint64_t> strides;  // bytes, from dimension 1 on
  std::vector<cuuint32_t> box;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_NONE;
};

CUresult encode(CUtensorMap* map, const Tensor& tensor, const void* address) {
  const std::vector<cuuint32_t> steps(tensor.dimensions.size(), 1);
  return cuTensorMapEncodeTiled(
      map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(tensor.dimensions.size()),
      const_cast<void*>(address), tensor.dimensions.data(), tensor.strides.data(),
      tensor.box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, tensor.swizzle,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

TEST_CASE("what the driver refuses") {
  alignas(64) CUtensorMap map;
  const Buffer<uint4> memory(64);
  const Tensor good = {{64, 8}, {128}, {64, 8}, CU_TENSOR_MAP_SWIZZLE_128B};
  CHECK(encode(&map, good, memory.data()) == CUDA_SUCCESS);
  const auto refused = [&](const char* what, const std::function<void(Tensor*)>& change) {
    Tensor tensor = good;
    change(&tensor);
    CHECK_MESSAGE(encode(&map, tensor, memory.data()) == CUDA_ERROR_INVALID_VALUE, what);
  };
  refused("a stride of 8", [](Tensor* t) { t->strides[0] = 136; });
  refused("a stride of 2^40", [](Tensor* t) { t->strides[0] = cuuint64_t{1} << 40; });
  refused("a dimension of 0", [](Tensor* t) { t->dimensions[1] = 0; });
  refused("a dimension above 2^32",
          [](Tensor* t) { t->dimensions[1] = (cuuint64_t{1} << 32) + 1; });
  refused("a box of 0", [](Tensor* t) { t->box[1] = 0; });
  refused("a box of 257", [](Tensor* t) { t->box[1] = 257; });
  refused("rows of the box of 8 bytes", [](Tensor* t) { t->box[0] = 4; });
  refused("rows wider than the swizzle", [](Tensor* t) { t->swizzle = CU_TENSOR_MAP_SWIZZLE_64B; });
  CHECK(encode(&map, good, reinterpret_cast<const char*>(memory.data()) + 8) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(encode(&map, good, nullptr) == CUDA_ERROR_INVALID_VALUE);
  Tensor most = good;
  most.strides[0] = (cuuint64_t{1} << 40) - 16;
  CHECK(encode(&map, most, memory.data()) == CUDA_SUCCESS);
}

struct Position {
  int32_t at[4];
};

__global__ void box_kernel(const void* map, int rank, Position position, uint32_t bytes,
                           uint32_t shift, uint32_t* out) {
  auto* barrier = SIMT_STATIC_SHARED(uint64_t, 1);
  unsigned char* tile = simt::dynamic_shared();
  const uint32_t address = smem_u32(barrier);
  if (threadIdx.x == 0) {
    mbarrier_init(address, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(address, bytes);
    const int32_t* at = position.at;
    const uint32_t to = smem_u32(tile) + shift;
    if (rank == 2) tma_load_2d(to, map, address, at[0], at[1]);
    if (rank == 3) tma_load_3d(to, map, address, at[0], at[1], at[2]);
    if (rank == 4) tma_load_4d(to, map, address, at[0], at[1], at[2], at[3]);
  }
  __syncthreads();
  mbarrier_wait(address, 0);
  for (uint32_t i = threadIdx.x; i < bytes / 4; i += blockDim.x) {
    out[i] = reinterpret_cast<uint32_t*>(tile)[i];
  }
}

uint16_t value_at(uint64_t index) { return static_cast<uint16_t>(index * 7 + 3); }

// The box against a plain loop. Swizzled rows are looked up by the published rule: of the shared
// address, bits 4 to 6 are exchanged with bits 7 to 9 (64 bytes: two bits; 32: one).
void test_box(const Tensor& tensor, Position position, size_t elements, const char* what) {
  const Buffer<uint4> memory(elements / 8);
  auto* values = reinterpret_cast<uint16_t*>(memory.data());
  for (size_t i = 0; i < elements; ++i) values[i] = value_at(i);
  const Buffer<CUtensorMap> map(1);
  REQUIRE(encode(map.data(), tensor, memory.data()) == CUDA_SUCCESS);
  const int rank = static_cast<int>(tensor.dimensions.size());
  uint32_t rows = 1;
  for (int i = 1; i < rank; ++i) rows *= tensor.box[i];
  const uint32_t row_bytes = tensor.box[0] * 2;
  const uint32_t bytes = rows * row_bytes;
  const Buffer<uint32_t> out(bytes / 4);
  simt::reset_counters();
  if (!expect_clean(run(box_kernel, 1, 32, bytes, static_cast<const void*>(map.data()), rank,
                        position, bytes, 0u, out.data()),
                    what)) {
    return;
  }
  CHECK(simt::counters().bulk_load_bytes == bytes);
  const uint32_t masks[] = {0, 1, 3, 7};
  const uint32_t mask = masks[tensor.swizzle];
  Every right;
  for (uint32_t row = 0; row < rows; ++row) {
    uint64_t index = 0;
    bool inside = true;
    uint32_t rest = row;
    for (int i = 1; i < rank; ++i) {
      const int64_t at = position.at[i] + static_cast<int64_t>(rest % tensor.box[i]);
      rest /= tensor.box[i];
      inside = inside && at >= 0 && at < static_cast<int64_t>(tensor.dimensions[i]);
      index += static_cast<uint64_t>(at) * tensor.strides[i - 1] / 2;
    }
    for (uint32_t column = 0; column < tensor.box[0]; ++column) {
      const int64_t x = position.at[0] + static_cast<int64_t>(column);
      const bool there = inside && x >= 0 && x < static_cast<int64_t>(tensor.dimensions[0]);
      uint32_t place = row * row_bytes + column * 2;
      place ^= (place >> 7 & mask) << 4;
      const uint16_t got = reinterpret_cast<const uint16_t*>(out.data())[place / 2];
      right.equal(got, there ? value_at(index + static_cast<uint64_t>(x)) : uint16_t{0});
    }
  }
  right.check(what);
}

TEST_CASE("boxes") {
  test_box({{64, 20}, {128}, {64, 8}}, {{0, 4}}, 64 * 20, "2-D, inside");
  test_box({{64, 20}, {128}, {64, 8}}, {{0, 15}}, 64 * 20, "2-D, over the last row");
  test_box({{40, 20}, {80}, {32, 8}}, {{16, -3}}, 40 * 20, "2-D, over both ends");
  test_box({{40, 20}, {80}, {32, 8}}, {{-8, 0}}, 40 * 20, "2-D, before the first column");
  test_box({{64, 32}, {128}, {64, 16}, CU_TENSOR_MAP_SWIZZLE_128B}, {{0, 3}}, 64 * 32, "128 bytes");
  test_box({{64, 32}, {128}, {32, 16}, CU_TENSOR_MAP_SWIZZLE_64B}, {{32, 3}}, 64 * 32, "64 bytes");
  test_box({{64, 32}, {128}, {16, 16}, CU_TENSOR_MAP_SWIZZLE_32B}, {{16, 3}}, 64 * 32, "32 bytes");
  test_box({{64, 8, 4}, {128, 1024}, {64, 4, 3}, CU_TENSOR_MAP_SWIZZLE_128B}, {{0, 6, 2}},
           64 * 8 * 4, "3-D");
  // Rows of two matrices in turns, eight and eight: strides that are no multiples of one another.
  test_box({{64, 8, 2, 3}, {144, 4016, 8 * 144}, {64, 8, 2, 2}, CU_TENSOR_MAP_SWIZZLE_128B},
           {{0, 0, 0, 1}}, 4096, "4-D, two matrices interleaved");
  test_box({{64, 8, 2, 3}, {144, 4016, 8 * 144}, {64, 8, 2, 2}, CU_TENSOR_MAP_SWIZZLE_128B},
           {{0, 0, 0, 2}}, 4096, "4-D, over the last rows");
}

TEST_CASE("boxes that are refused") {
  const Buffer<uint4> memory(256);
  const Buffer<CUtensorMap> map(2);
  const Buffer<uint32_t> out(256);
  const Tensor tensor = {{64, 16}, {128}, {64, 8}, CU_TENSOR_MAP_SWIZZLE_128B};
  REQUIRE(encode(map.data(), tensor, memory.data()) == CUDA_SUCCESS);
  const void* good = map.data();
  const auto outcome = [&](const void* which, int rank, uint32_t bytes, uint32_t shift) {
    return run(box_kernel, 1, 32, 1024 + shift, which, rank, Position{{0, 0, 0, 0}}, bytes, shift,
               out.data());
  };
  expect_defect(outcome(good, 2, 1024, 512), {DefectKind::kMisaligned},
                "a swizzled box off the pattern's start", "1024");
  expect_defect(outcome(good, 3, 1024, 0), {DefectKind::kProtocol}, "another rank", "rank 2");
  expect_defect(outcome(map.data() + 1, 2, 1024, 0), {DefectKind::kProtocol}, "no map",
                "no tensor map");
  expect_defect(outcome(reinterpret_cast<const char*>(good) + 16, 2, 1024, 0),
                {DefectKind::kMisaligned}, "a map at 16 bytes", "64");
  expect_defect(
      run(box_kernel, 1, 32, 1008, good, 2, Position{{0, 0, 0, 0}}, 1024u, 0u, out.data()),
      {DefectKind::kOutOfBounds}, "a box that does not fit", "fit");
}

enum class Flaw { kNone, kOverwritten, kNoWait, kNoFence, kWeakWait };

// Two groups of stores out of the same buffer, one after the other.
__global__ void store_kernel(Flaw flaw, uint4* out) {
  auto* tile = reinterpret_cast<uint4*>(simt::dynamic_shared());
  const unsigned t = threadIdx.x;
  for (unsigned round = 0; round < 2; ++round) {
    tile[t] = make_uint4(round, t, round, t);
    if (flaw != Flaw::kNoFence) fence_proxy_async();
    __syncthreads();
    if (t == 0) {
      bulk_store(out + round * 32, smem_u32(tile), 512);
      bulk_commit();
      if (flaw == Flaw::kWeakWait || (flaw == Flaw::kOverwritten && round == 0)) {
        bulk_wait_read<1>();
      } else if (flaw != Flaw::kNoWait) {
        bulk_wait_read<0>();
      }
    }
    __syncthreads();
  }
  if (t == 0 && flaw == Flaw::kWeakWait) bulk_wait_read<0>();
}

TEST_CASE("stores") {
  const Buffer<uint4> out(64);
  const auto outcome = [&](Flaw flaw) { return run(store_kernel, 1, 32, 512, flaw, out.data()); };
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    simt::reset_counters();
    expect_clean(outcome(Flaw::kNone), setting.name);
    Every right;
    for (unsigned i = 0; i < 64; ++i) {
      right.equal(out[i].x, i / 32);
      right.equal(out[i].y, i % 32);
    }
    right.check("what was stored");
    CHECK(simt::counters().bulk_store_bytes == 1024);
    expect_defect(outcome(Flaw::kOverwritten), {DefectKind::kInFlight}, "the source overwritten",
                  "overwritten");
    expect_defect(outcome(Flaw::kWeakWait), {DefectKind::kInFlight}, "a wait that is too weak",
                  "overwritten");
    expect_defect(outcome(Flaw::kNoWait), {DefectKind::kInFlight}, "no wait", "in flight");
    if (kRaceFlavour) {
      expect_defect(outcome(Flaw::kNoFence), {DefectKind::kRace}, "no fence", "fence.proxy.async");
    }
  }
}

TEST_SUITE_END();

}  // namespace
