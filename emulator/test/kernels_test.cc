// Ordinary kernels in every schedule: top-k by shuffles, a histogram in shared memory, a reduction
// through an array and the dynamic part. Right results, no defects; and the histogram's classic
// mistakes are found.
#include <algorithm>
#include <numeric>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("kernels");

constexpr unsigned kFull = 0xffffffffu;

// One warp per row: k times the largest value, the lower index on ties.
__global__ void top_k_kernel(const float* scores, int rows, int columns, int k, int* out) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= rows) return;  // whole warps
  float last = INFINITY;
  int last_index = -1;
  for (int round = 0; round < k; ++round) {
    float best = -INFINITY;
    int best_index = columns;
    for (int i = lane; i < columns; i += 32) {
      const float value = scores[static_cast<int64_t>(row) * columns + i];
      const bool taken = value > last || (value == last && i <= last_index);
      if (!taken && (value > best || best_index == columns)) {
        best = value;
        best_index = i;
      }
    }
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(kFull, best, step);
      const int other_index = __shfl_xor_sync(kFull, best_index, step);
      if (other_index < columns &&
          (best_index == columns || other > best || (other == best && other_index < best_index))) {
        best = other;
        best_index = other_index;
      }
    }
    last = best;
    last_index = best_index;
    if (lane == round % 32) out[row * k + round] = best_index;
  }
}

TEST_CASE("top k") {
  constexpr int kRows = 13, kColumns = 77, kK = 9;
  Inputs inputs(6);
  std::vector<float> scores(kRows * kColumns);
  for (float& score : scores) score = static_cast<float>(inputs.below(20));  // many ties
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<float> in(scores);
    const Buffer<int> out(kRows * kK);
    expect_clean(run(top_k_kernel, 4, 128, 0, in.data(), kRows, kColumns, kK, out.data()), "top-k");
    int wrong = 0;
    for (int row = 0; row < kRows; ++row) {
      std::vector<int> order(kColumns);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return scores[row * kColumns + a] > scores[row * kColumns + b];
      });
      for (int i = 0; i < kK; ++i) wrong += out[row * kK + i] != order[i] ? 1 : 0;
    }
    CHECK_MESSAGE(wrong == 0, "top-k, ", std::string(setting.name));
  }
}

enum class Histogram { kRight, kNoBarrier, kPlainAdd };

template <Histogram kPlant>
__global__ void histogram_kernel(const int* values, int count, int* out) {
  int* bins = SIMT_STATIC_SHARED(int, 64);
  if (threadIdx.x < 64) bins[threadIdx.x] = 0;
  if (kPlant != Histogram::kNoBarrier) __syncthreads();
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < count;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    if (kPlant == Histogram::kPlainAdd) {
      bins[values[i]] += 1;
    } else {
      atomicAdd(&bins[values[i]], 1);
    }
  }
  __syncthreads();
  if (threadIdx.x < 64) atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}

template <Histogram kPlant>
Outcome run_histogram(const std::vector<int>& values, bool* right) {
  const Buffer<int> in(values);
  const Buffer<int> out(std::vector<int>(64, 0));
  const Outcome outcome = run(histogram_kernel<kPlant>, 3, 128, 0, in.data(),
                              static_cast<int>(values.size()), out.data());
  std::vector<int> expected(64, 0);
  for (const int value : values) ++expected[value];
  *right = std::equal(expected.begin(), expected.end(), out.data());
  return outcome;
}

TEST_CASE("histogram") {
  Inputs inputs(7);
  std::vector<int> values(3001);
  for (int& value : values) value = static_cast<int>(inputs.below(64));
  bool right = false;
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    expect_clean(run_histogram<Histogram::kRight>(values, &right), "histogram");
    CHECK_MESSAGE(right, "histogram, ", std::string(setting.name));
    // Plain: the wrong numbers give it away.
    const Outcome outcome = run_histogram<Histogram::kNoBarrier>(values, &right);
    if (kRaceFlavour) {
      expect_defect(outcome, {simt::DefectKind::kRace, simt::DefectKind::kUninitialised},
                    "no barrier after zeroing");
    } else {
      CHECK_MESSAGE(!right, "no barrier after zeroing shows, ", std::string(setting.name));
    }
    if (kRaceFlavour) {
      expect_defect(run_histogram<Histogram::kPlainAdd>(values, &right), {simt::DefectKind::kRace},
                    "plain additions");
    }
  }
}

__global__ void sum_kernel(const float* values, int count, float* out) {
  float* of_warps = SIMT_STATIC_SHARED(float, 32);
  float* mine = reinterpret_cast<float*>(simt::dynamic_shared());
  const int t = static_cast<int>(threadIdx.x);
  mine[t] = 0;
  for (int i = t; i < count; i += static_cast<int>(blockDim.x)) {
    mine[t] += values[static_cast<int64_t>(blockIdx.x) * count + i];
  }
  float sum = mine[t];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kFull, sum, step);
  if (t % 32 == 0) of_warps[t / 32] = sum;
  __syncthreads();
  if (t == 0) {
    float total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += of_warps[w];
    out[blockIdx.x] = total;
  }
}

TEST_CASE("sum") {
  Inputs inputs(8);
  std::vector<float> values(5 * 700);
  for (float& value : values) value = static_cast<float>(inputs.below(100));
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<float> in(values), out(5);
    expect_clean(run(sum_kernel, 5, 1024, 4096, in.data(), 700, out.data()), "sum");
    Every right;
    for (int block = 0; block < 5; ++block) {
      float sum = 0;
      for (int i = 0; i < 700; ++i) sum += values[block * 700 + i];
      right.equal(out[block], sum);
    }
    right.check(std::string("sums of blocks, ") + setting.name);
  }
}

TEST_SUITE_END();

}  // namespace
