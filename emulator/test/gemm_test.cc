// A tiled matrix product as real kernels are written: rows of A gathered by an index, three stages
// of cp.async, swizzled tiles, ldmatrix, mma, tails on every side. It is right in every schedule;
// then each classic mistake is planted, and must be found by the means named beside it.
#include <simt/counters.h>
#include <simt/ptx.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("gemm");

using namespace simt::ptx;

enum class Plant {
  kNone,
  kWeakWait,       // numbers (every schedule), race: read of a copy in flight
  kNoBarrier,      // numbers (skewed), race
  kWrongStage,     // numbers (every schedule), race
  kRefillEarly,    // write after read: numbers (skewed), race
  kNoSwizzle,      // right numbers; the bank conflict counter
  kInFlightAtEnd,  // reported at the thread's exit
};

constexpr int kTile = 64;   // rows of A and of B per block
constexpr int kTileK = 32;  // 64 bytes per row: four chunks of 16
constexpr int kStages = 3;
constexpr int kStageBytes = 2 * kTile * kTileK * 2;
constexpr int kThreads = 128;

template <Plant kPlant>
__device__ uint32_t chunk_offset(int row, int chunk) {
  const int swizzled = kPlant == Plant::kNoSwizzle ? chunk : chunk ^ (row / 2 % 4);
  return static_cast<uint32_t>(row * 64 + swizzled * 16);
}

// c[m, n] = sum over k of a[rows[m], k] * b[n, k]; K is a multiple of 8.
template <Plant kPlant>
__global__ void gemm_kernel(const uint16_t* a, const int* rows, const uint16_t* b, float* c, int M,
                            int N, int K) {
  const uint32_t base = smem_u32(simt::dynamic_shared());
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  const int m0 = static_cast<int>(blockIdx.x) * kTile, n0 = static_cast<int>(blockIdx.y) * kTile;
  const int steps = (K + kTileK - 1) / kTileK;

  const auto load_stage = [&](int stage, int step) {
    for (int i = t; i < 2 * kTile * 4; i += kThreads) {
      const int row = i / 4 % kTile, chunk = i % 4;
      const bool is_b = i >= kTile * 4;
      const int k = step * kTileK + chunk * 8;
      const bool inside = k < K && (is_b ? n0 + row < N : m0 + row < M);
      const uint16_t* source = a;
      if (inside) {
        source = is_b ? b + static_cast<int64_t>(n0 + row) * K + k
                      : a + static_cast<int64_t>(rows[m0 + row]) * K + k;
      }
      cp_async_16(base + static_cast<uint32_t>(stage * kStageBytes + (is_b ? kTile * 64 : 0)) +
                      chunk_offset<kPlant>(row, chunk),
                  source, inside ? 16 : 0);
    }
  };

  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < steps) load_stage(stage, stage);
    cp_async_commit();
  }
  float d[2][4][4] = {};
  const int m_warp = warp / 2 * 32, n_warp = warp % 2 * 32;
  for (int step = 0; step < steps; ++step) {
    const int next = step + kStages - 1;
    if (kPlant == Plant::kRefillEarly) {
      if (next < steps) load_stage(next % kStages, next);
      cp_async_commit();
      cp_async_wait<2>();
      __syncthreads();
    } else {
      cp_async_wait<kPlant == Plant::kWeakWait ? 2 : 1>();
      if (kPlant != Plant::kNoBarrier) __syncthreads();
      if (next < steps || (kPlant == Plant::kInFlightAtEnd && next == steps)) {
        load_stage((kPlant == Plant::kWrongStage ? next + 1 : next) % kStages, next);
      }
      cp_async_commit();
    }
    const uint32_t stage = base + static_cast<uint32_t>(step % kStages * kStageBytes);
    for (int k = 0; k < kTileK; k += 16) {
      uint32_t a_registers[2][4], b_registers[4][2];
      for (int i = 0; i < 2; ++i) {
        const int row = m_warp + i * 16 + lane % 16;
        ldmatrix_x4(a_registers[i], stage + chunk_offset<kPlant>(row, k / 8 + lane / 16));
      }
      for (int j = 0; j < 4; ++j) {
        const int row = n_warp + j * 8 + lane % 8;
        ldmatrix_x2(b_registers[j],
                    stage + kTile * 64 + chunk_offset<kPlant>(row, k / 8 + lane / 8 % 2));
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) mma_m16n8k16_bf16(d[i][j], a_registers[i], b_registers[j]);
      }
    }
  }
  if (kPlant != Plant::kInFlightAtEnd) cp_async_wait<0>();
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int e = 0; e < 4; ++e) {
        const int row = m0 + m_warp + i * 16 + lane / 4 + e / 2 * 8;
        const int column = n0 + n_warp + j * 8 + lane % 4 * 2 + e % 2;
        if (row < M && column < N) c[static_cast<int64_t>(row) * N + column] = d[i][j][e];
      }
    }
  }
}

struct Problem {
  int M, N, K;
  std::vector<uint16_t> a, b;
  std::vector<int> rows;
  std::vector<float> expected;
};

// Small whole numbers, so that the sums are exact.
Problem make_problem(int M, int N, int K, uint64_t seed) {
  Inputs inputs(seed);
  Problem problem = {M, N, K, {}, {}, {}, std::vector<float>(static_cast<size_t>(M) * N)};
  const int a_rows = M + 5;
  problem.a.resize(static_cast<size_t>(a_rows) * K);
  problem.b.resize(static_cast<size_t>(N) * K);
  for (uint16_t& x : problem.a) x = bf16_bits(static_cast<float>(inputs.below(17)) - 8);
  for (uint16_t& x : problem.b) x = bf16_bits(static_cast<float>(inputs.below(17)) - 8);
  for (int i = 0; i < M; ++i) problem.rows.push_back(static_cast<int>(inputs.below(a_rows)));
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      float sum = 0;
      for (int k = 0; k < K; ++k) {
        sum += bf16_value(problem.a[static_cast<size_t>(problem.rows[i]) * K + k]) *
               bf16_value(problem.b[static_cast<size_t>(j) * K + k]);
      }
      problem.expected[static_cast<size_t>(i) * N + j] = sum;
    }
  }
  return problem;
}

template <Plant kPlant>
Outcome run_gemm(const Problem& problem, int* wrong) {
  const Buffer<uint16_t> a(problem.a), b(problem.b);
  const Buffer<int> rows(problem.rows);
  const Buffer<float> c(problem.expected.size());
  const dim3 grid((problem.M + kTile - 1) / kTile, (problem.N + kTile - 1) / kTile);
  const Outcome outcome = run(gemm_kernel<kPlant>, grid, kThreads, kStages * kStageBytes, a.data(),
                              rows.data(), b.data(), c.data(), problem.M, problem.N, problem.K);
  *wrong = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    if (!(c[i] == problem.expected[i])) ++*wrong;  // NaN counts as wrong
  }
  return outcome;
}

// The numbers show the mistake, or the race flavour names it.
template <Plant kPlant>
void expect_found(const Problem& problem, bool in_every_schedule, const char* what) {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    int wrong = 0;
    const Outcome outcome = run_gemm<kPlant>(problem, &wrong);
    const std::string where = std::string(what) + ", " + setting.name;
    if (kRaceFlavour) {
      expect_defect(
          outcome,
          {simt::DefectKind::kRace, simt::DefectKind::kInFlight, simt::DefectKind::kUninitialised},
          where);
    } else if (in_every_schedule || setting.schedule == simt::Schedule::kSkewed) {
      expect_clean(outcome, where);
      CHECK_MESSAGE(wrong > 0, where, ": the numbers are right");
    }
  }
}

TEST_CASE("planted") {
  const Problem problem = make_problem(70, 100, 224, 11);
  expect_found<Plant::kWeakWait>(problem, true, "wait one too weak");
  expect_found<Plant::kNoBarrier>(problem, false, "no barrier in the loop");
  expect_found<Plant::kWrongStage>(problem, true, "refill into the wrong stage");
  expect_found<Plant::kRefillEarly>(problem, false, "refill before the barrier");

  int wrong = 0;
  simt::reset_counters();
  expect_clean(run_gemm<Plant::kNone>(problem, &wrong), "swizzled");
  CHECK_MESSAGE(wrong == 0, "swizzled: right");
  CHECK_MESSAGE(simt::counters().ldmatrix_bank_conflicts == 0,
                "swizzled: no bank conflicts of ldmatrix");
  CHECK_MESSAGE(simt::counters().cp_async_bank_conflicts == 0,
                "swizzled: no bank conflicts of cp.async");
  CHECK_MESSAGE(simt::counters("gemm_kernel").mma > 0, "counters by name");
  CHECK_MESSAGE(simt::counters("no such kernel").mma == 0, "counters by name");
  simt::reset_counters();
  expect_clean(run_gemm<Plant::kNoSwizzle>(problem, &wrong), "not swizzled");
  CHECK_MESSAGE(wrong == 0, "not swizzled: right all the same");
  CHECK_MESSAGE(simt::counters().ldmatrix_bank_conflicts > 1000,
                "not swizzled: bank conflicts counted");

  expect_defect(run_gemm<Plant::kInFlightAtEnd>(problem, &wrong), {simt::DefectKind::kInFlight},
                "copies in flight at the end", "exits with");
}

TEST_CASE("shapes") {
  const int shapes[][3] = {{64, 64, 32}, {37, 200, 96}, {130, 64, 32}, {1, 1, 8}, {65, 63, 104}};
  for (const auto& shape : shapes) {
    const Problem problem = make_problem(shape[0], shape[1], shape[2], 12);
    for (const Setting& setting : all_settings()) {
      const Scheduled scheduled(setting.schedule, setting.seed);
      int wrong = 0;
      const std::string what = "gemm " + std::to_string(shape[0]) + " x " +
                               std::to_string(shape[1]) + " x " + std::to_string(shape[2]) + ", " +
                               setting.name;
      expect_clean(run_gemm<Plant::kNone>(problem, &wrong), what);
      CHECK_MESSAGE(wrong == 0, what, ": ", wrong, " wrong");
    }
  }
}

// A figure to read, not a check: timings depend on the machine.
TEST_CASE("speed" * doctest::skip(std::getenv("SIMT_TEST_SPEED") == nullptr)) {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Problem problem = make_problem(512, 512, 512, 13);
    int wrong = 0;
    const auto start = std::chrono::steady_clock::now();
    expect_clean(run_gemm<Plant::kNone>(problem, &wrong), setting.name);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("gemm 512^3, %s: %.2f s, %.2f GMAC/s\n", setting.name, seconds,
                0.134217728 / seconds);
  }
}

TEST_SUITE_END();

}  // namespace
