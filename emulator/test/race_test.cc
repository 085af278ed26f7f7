// The race detector: every kind of unordered pair is found in every schedule, and kernels that
// order their accesses in unusual but right ways are left alone. Other flavours run only the
// latter.
#include <simt/ptx.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("race");

using simt::DefectKind;
constexpr unsigned kFull = 0xffffffffu;

// --- wrong ---------------------------------------------------------------------------------------

__global__ void read_after_write_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 64);
  shared[threadIdx.x] = 1;
  out[threadIdx.x] = shared[63 - threadIdx.x];
}
__global__ void write_after_read_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 64);
  shared[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = shared[63 - threadIdx.x];
  shared[threadIdx.x] = 2;
}
__global__ void write_write_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  shared[0] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[0];
}
__global__ void atomic_then_read_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) shared[0] = 0;
  __syncthreads();
  atomicAdd(shared, 1);
  out[threadIdx.x] = shared[0];
}
// All lanes' atomics but the last one's would be lost by a detector with one slot.
__global__ void own_atomic_last_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) shared[0] = 0;
  __syncthreads();
  if (threadIdx.x == 32) atomicAdd(shared, 1);
  __syncwarp();
  if (threadIdx.x == 0) {
    atomicAdd(shared, 1);
    out[0] = shared[0];
  }
}
__global__ void no_syncwarp_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 32);
  shared[threadIdx.x] = 1;
  out[threadIdx.x] = shared[threadIdx.x ^ 1];
}
// A shuffle brings the lanes together but orders no memory.
__global__ void shuffle_instead_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 32);
  shared[threadIdx.x] = 1;
  const int value = __shfl_xor_sync(kFull, 5, 1);
  out[threadIdx.x] = shared[threadIdx.x ^ 1] + value;
}
// Lane 0 reads, lane 1 reads and then writes: the second reader must not hide the first.
__global__ void hidden_reader_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) shared[0] = 1;
  __syncwarp();
  if (threadIdx.x == 0) out[0] = shared[0];
  if (threadIdx.x == 1) {
    out[1] = shared[0];
    shared[0] = 2;
  }
}
// The same with the reader in another warp.
__global__ void hidden_warp_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) shared[0] = 1;
  __syncthreads();
  out[threadIdx.x] = shared[0];
  __syncwarp();
  if (threadIdx.x == 63) shared[0] = 2;
}
// Half of the warp is ordered, the other half is not.
__global__ void partial_syncwarp_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 32);
  shared[threadIdx.x] = 1;
  if (threadIdx.x < 16) {
    __syncwarp(0x0000ffffu);
  } else {
    __syncwarp(0xffff0000u);
  }
  out[threadIdx.x] = shared[31 - threadIdx.x];
}
__global__ void halfword_kernel(int* out) {
  uint16_t* shared = SIMT_STATIC_SHARED(uint16_t, 64);
  shared[threadIdx.x] = 1;
  if (threadIdx.x == 63) shared[0] = 3;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}
__global__ void copy_not_awaited_kernel(const uint4* source, int* out) {
  int* tile = reinterpret_cast<int*>(simt::dynamic_shared());
  simt::ptx::cp_async_16(simt::ptx::smem_u32(tile) + threadIdx.x * 16, source + threadIdx.x, 16);
  simt::ptx::cp_async_commit();
  out[threadIdx.x] = tile[threadIdx.x * 4];
  simt::ptx::cp_async_wait<0>();
}
// Waited for by its own thread, but no barrier before others read.
__global__ void copy_no_barrier_kernel(const uint4* source, int* out) {
  int* tile = reinterpret_cast<int*>(simt::dynamic_shared());
  simt::ptx::cp_async_16(simt::ptx::smem_u32(tile) + threadIdx.x * 16, source + threadIdx.x, 16);
  simt::ptx::cp_async_commit();
  simt::ptx::cp_async_wait<0>();
  __syncwarp();
  out[threadIdx.x] = tile[(63 - threadIdx.x) * 4];
}
__global__ void copy_over_read_kernel(const uint4* source, int* out) {
  int* tile = reinterpret_cast<int*>(simt::dynamic_shared());
  for (int i = 0; i < 4; ++i) tile[threadIdx.x * 4 + i] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[(63 - threadIdx.x) * 4];
  simt::ptx::cp_async_16(simt::ptx::smem_u32(tile) + threadIdx.x * 16, source + threadIdx.x, 16);
  simt::ptx::cp_async_commit();
  simt::ptx::cp_async_wait<0>();
}
__global__ void ldmatrix_unordered_kernel(uint32_t* out) {
  uint32_t* tile = reinterpret_cast<uint32_t*>(simt::dynamic_shared());
  for (int i = 0; i < 4; ++i) tile[threadIdx.x * 4 + i] = 1;
  uint32_t registers[4];
  simt::ptx::ldmatrix_x4(registers, simt::ptx::smem_u32(tile) + (31 - threadIdx.x) * 16);
  out[threadIdx.x] = registers[0];
}
__global__ void global_in_block_kernel(int* values, int* out) {
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[63 - threadIdx.x];
}
__global__ void cross_block_write_kernel(int* out) { out[0] = static_cast<int>(blockIdx.x); }
__global__ void cross_block_read_kernel(int* values, int* out) {
  if (blockIdx.x == 0) {
    values[0] = 1;
  } else {
    out[blockIdx.x] = values[0];
  }
}
// Block 1 reads after block 0: that must not hide block 0's read from block 2's write.
__global__ void cross_block_hidden_kernel(int* values, int* out) {
  if (blockIdx.x < 2) {
    out[blockIdx.x] = values[0];
  } else if (threadIdx.x == 0) {
    values[0] = 1;
  }
}
__global__ void cross_block_atomic_kernel(int* values, int* out) {
  if (blockIdx.x == 0) {
    out[0] = values[0];
  } else {
    atomicAdd(&values[0], 1);
  }
}

void test_wrong(const Setting& setting) {
  const auto expect = [&](const Outcome& outcome, const char* what) {
    expect_defect(outcome, {DefectKind::kRace, DefectKind::kUninitialised, DefectKind::kInFlight},
                  std::string(what) + ", " + setting.name, "race_test");
  };
  const auto expect_race = [&](const Outcome& outcome, const char* what) {
    expect_defect(outcome, {DefectKind::kRace}, std::string(what) + ", " + setting.name,
                  "race_test");
  };
  const Buffer<int> out(64), values(64);
  const Buffer<uint4> source(64);
  const Buffer<uint32_t> matrix(32);
  expect(run(read_after_write_kernel, 1, 64, 0, out.data()), "read after write");
  expect_race(run(write_after_read_kernel, 1, 64, 0, out.data()), "write after read");
  expect_race(run(write_write_kernel, 1, 64, 0, out.data()), "write after write");
  expect_race(run(atomic_then_read_kernel, 1, 64, 0, out.data()), "atomic and plain");
  expect_race(run(own_atomic_last_kernel, 1, 64, 0, out.data()), "another warp's atomic");
  expect(run(no_syncwarp_kernel, 1, 32, 0, out.data()), "no __syncwarp");
  expect(run(shuffle_instead_kernel, 1, 32, 0, out.data()), "a shuffle for a __syncwarp");
  expect_race(run(hidden_reader_kernel, 1, 32, 0, out.data()), "a hidden reader");
  expect_race(run(hidden_warp_kernel, 1, 64, 0, out.data()), "a hidden reader's warp");
  expect(run(partial_syncwarp_kernel, 1, 32, 0, out.data()), "half a __syncwarp");
  expect_race(run(halfword_kernel, 1, 64, 0, out.data()), "halfwords");
  expect(run(copy_not_awaited_kernel, 1, 64, 1024, source.data(), out.data()), "copy, no wait");
  expect(run(copy_no_barrier_kernel, 1, 64, 1024, source.data(), out.data()), "copy, no barrier");
  expect_race(run(copy_over_read_kernel, 1, 64, 1024, source.data(), out.data()),
              "copy over what is read");
  expect(run(ldmatrix_unordered_kernel, 1, 32, 512, matrix.data()), "ldmatrix, no __syncwarp");
  expect_race(run(global_in_block_kernel, 1, 64, 0, values.data(), out.data()),
              "global memory in a block");
  expect_race(run(cross_block_write_kernel, 3, 1, 0, out.data()), "two blocks write");
  expect_race(run(cross_block_read_kernel, 3, 1, 0, values.data(), out.data()),
              "one block writes, another reads");
  expect_race(run(cross_block_hidden_kernel, 3, 1, 0, values.data(), out.data()),
              "a block's read behind another's");
  expect_race(run(cross_block_atomic_kernel, 3, 1, 0, values.data(), out.data()),
              "an atomic against another block's read");
}

// --- right ---------------------------------------------------------------------------------------

// Ordered through a chain of partial barriers: 0 -> 1 -> 2.
__global__ void chain_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  if (threadIdx.x == 0) shared[0] = 7;
  if (threadIdx.x < 2) __syncwarp(3);
  if (threadIdx.x >= 1 && threadIdx.x < 3) __syncwarp(6);
  if (threadIdx.x == 2) {
    out[0] = shared[0];
    shared[0] = 8;
  }
  __syncwarp();
  out[1 + threadIdx.x] = shared[0];
}
__global__ void neighbours_kernel(int* out) {
  unsigned char* shared = SIMT_STATIC_SHARED(unsigned char, 64);
  shared[threadIdx.x] = static_cast<unsigned char>(threadIdx.x);
  shared[threadIdx.x] = static_cast<unsigned char>(shared[threadIdx.x] + 1);
  __syncthreads();
  out[threadIdx.x] = shared[63 - threadIdx.x];
}
// Different bytes of one word, then the whole word.
__global__ void mixed_width_kernel(uint32_t* out) {
  uint32_t* words = SIMT_STATIC_SHARED(uint32_t, 16);
  unsigned char* bytes = reinterpret_cast<unsigned char*>(words);
  bytes[threadIdx.x] = static_cast<unsigned char>(threadIdx.x);
  __syncthreads();
  if (threadIdx.x < 16) out[threadIdx.x] = words[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < 16) words[threadIdx.x] = 0;
}
__global__ void broadcast_kernel(int* out) {
  int* shared = SIMT_STATIC_SHARED(int, 1);
  for (int round = 0; round < 3; ++round) {
    if (threadIdx.x == 33) shared[0] = round;
    __syncthreads();
    out[threadIdx.x] = shared[0];
    __syncthreads();
  }
}
struct Plain {
  int a;
  float b;
  long long c;
};
static const int kTable[4] = {1, 2, 3, 4};
// By value, constants of the program, an array on the stack, all blocks reading the same.
__global__ void surroundings_kernel(Plain plain, const int* values, int* out) {
  int local[8];
  for (int i = 0; i < 8; ++i) local[i] = kTable[(i + static_cast<int>(threadIdx.x)) % 4] + plain.a;
  int sum = values[0];
  for (int i = 0; i < 8; ++i) sum += local[(i * 3) % 8];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum + static_cast<int>(plain.b);
}
__global__ void counting_kernel(int* counters) { atomicAdd(&counters[threadIdx.x % 4], 1); }

void test_right(const Setting& setting) {
  const std::string where = std::string(", ") + setting.name;
  const Buffer<int> out(64), values(std::vector<int>(64, 1)), counters(std::vector<int>(4, 0));
  const Buffer<uint32_t> words(16);
  expect_clean(run(chain_kernel, 1, 32, 0, out.data()), "a chain" + where);
  CHECK_MESSAGE(out[0] == 7, "a chain's values", where);
  CHECK_MESSAGE(out[1] == 8, "a chain's values", where);
  expect_clean(run(neighbours_kernel, 1, 64, 0, out.data()), "bytes" + where);
  CHECK_MESSAGE(out[0] == 64, "bytes' values", where);
  CHECK_MESSAGE(out[63] == 1, "bytes' values", where);
  expect_clean(run(mixed_width_kernel, 1, 64, 0, words.data()), "mixed widths" + where);
  CHECK_MESSAGE(words[1] == 0x07060504u, "mixed widths' values", where);
  expect_clean(run(broadcast_kernel, 1, 64, 0, out.data()), "broadcasts" + where);
  CHECK_MESSAGE(out[0] == 2, "broadcasts' values", where);
  CHECK_MESSAGE(out[63] == 2, "broadcasts' values", where);
  expect_clean(run(surroundings_kernel, 2, 32, 0, Plain{1, 2.0f, 3}, values.data(), out.data()),
               "arguments, constants and stacks" + where);
  CHECK_MESSAGE(out[0] == 1 + 20 + 8 + 2, "their values", where);
  expect_clean(run(counting_kernel, 4, 64, 0, counters.data()), "atomics of many blocks" + where);
  CHECK_MESSAGE(counters[0] == 64, "their sum", where);
  // Launches are ordered: what one wrote another may read and write.
  expect_clean(run(counting_kernel, 1, 64, 0, counters.data()), "the next launch" + where);
}

TEST_CASE("planted races, and code without") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    test_right(setting);
    if (kRaceFlavour) test_wrong(setting);
  }
}

TEST_SUITE_END();

}  // namespace
