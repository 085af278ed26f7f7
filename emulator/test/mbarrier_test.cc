// mbarriers and the bulk copies and cp.async that they count: a ring between a producer and
// consumers, right in every schedule, and every way to get it wrong that a kernel has.
#include <simt/counters.h>
#include <simt/ptx.h>
#include <simt/ptx90.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("mbarriers");

using namespace simt::ptx;
using simt::DefectKind;

enum class Flaw {
  kNone,
  kNoFullWait,
  kNoEmptyWait,
  kWrongParity,
  kTooFewArrivals,
  kTooManyArrivals,
  kTooFewBytes,
  kTooManyBytes,
  kNoFence,
  kNoBarrierAfterInit,
  kInitTwice,
  kOverwritten,
  kRefillUnfenced,
};

constexpr uint32_t kStages = 2;
constexpr uint32_t kStageBytes = 256;
constexpr int kRounds = 7;

// Warp 0 fills stages by bulk copies, warps 1 and 2 add them up. Consumers write to their stage, so
// that a refill must be fenced.
__global__ void ring_kernel(Flaw flaw, const uint32_t* source, uint32_t* sums) {
  unsigned char* stages = simt::dynamic_shared();
  auto* barriers = SIMT_STATIC_SHARED(uint64_t, 2 * kStages);
  const auto full = [&](uint32_t stage) { return smem_u32(barriers + stage); };
  const auto empty = [&](uint32_t stage) { return smem_u32(barriers + kStages + stage); };
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < kStages; ++i) {
      mbarrier_init(full(i), flaw == Flaw::kTooFewArrivals ? 2 : 1);
      mbarrier_init(empty(i), 2);
    }
    if (flaw == Flaw::kInitTwice) mbarrier_init(full(0), 1);
    if (flaw != Flaw::kNoFence) fence_mbarrier_init();
  }
  if (flaw != Flaw::kNoBarrierAfterInit) __syncthreads();
  if (flaw == Flaw::kOverwritten && threadIdx.x == 40) barriers[0] = 0;
  if (threadIdx.x < 32) {
    if (!elect_one()) return;
    for (int round = 0; round < kRounds; ++round) {
      const uint32_t stage = static_cast<uint32_t>(round) % kStages;
      const uint32_t parity = static_cast<uint32_t>(round) / kStages & 1u;
      if (flaw != Flaw::kNoEmptyWait) mbarrier_wait(empty(stage), parity ^ 1u);
      uint32_t bytes = kStageBytes;
      if (flaw == Flaw::kTooFewBytes) bytes -= 16;
      if (flaw == Flaw::kTooManyBytes) bytes += 16;
      mbarrier_arrive_expect_tx(full(stage), bytes);
      if (flaw == Flaw::kTooManyArrivals) mbarrier_arrive(full(stage));
      bulk_load(smem_u32(stages + stage * kStageBytes), source + round * 64, kStageBytes,
                full(stage));
    }
    return;
  }
  uint32_t sum = 0;
  const unsigned own = threadIdx.x - 32;
  for (int round = 0; round < kRounds; ++round) {
    const uint32_t stage = static_cast<uint32_t>(round) % kStages;
    const uint32_t parity = static_cast<uint32_t>(round) / kStages & 1u;
    if (flaw != Flaw::kNoFullWait) {
      mbarrier_wait(full(stage), flaw == Flaw::kWrongParity ? parity ^ 1u : parity);
    }
    auto* words = reinterpret_cast<uint32_t*>(stages + stage * kStageBytes);
    sum += words[own];
    words[own] = 0;
    if (flaw != Flaw::kRefillUnfenced) fence_proxy_async();
    __syncwarp();
    if (own % 32 == 0) mbarrier_arrive(empty(stage));
  }
  sums[own] = sum;
}

Outcome run_ring(Flaw flaw, bool* right) {
  std::vector<uint32_t> values(kRounds * 64);
  std::vector<uint32_t> expected(64, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<uint32_t>(i * i + 1);
    expected[i % 64] += values[i];
  }
  // 16-byte aligned.
  const Buffer<uint4> source(values.size() / 4);
  std::memcpy(static_cast<void*>(source.data()), values.data(), values.size() * 4);
  const Buffer<uint32_t> sums(64);
  const Outcome outcome = run(ring_kernel, 1, 96, kStages * kStageBytes, flaw,
                              reinterpret_cast<const uint32_t*>(source.data()), sums.data());
  *right = std::memcmp(sums.data(), expected.data(), 256) == 0;
  return outcome;
}

TEST_CASE("a ring of bulk copies") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    bool right = false;
    simt::reset_counters();
    expect_clean(run_ring(Flaw::kNone, &right), setting.name);
    CHECK_MESSAGE(right, "the ring's values, ", setting.name);
    const simt::Counters counters = simt::counters();
    CHECK(counters.bulk_loads == kRounds);
    CHECK(counters.bulk_load_bytes == kRounds * kStageBytes);
    CHECK(counters.mbarrier_waits == kRounds * 65);
    CHECK(counters.proxy_fences == kRounds * 64);

    const auto expect = [&](Flaw flaw, std::initializer_list<DefectKind> kinds, const char* what,
                            const char* text = "") {
      expect_defect(run_ring(flaw, &right), kinds, std::string(what) + ", " + setting.name, text);
    };
    expect(Flaw::kTooFewArrivals, {DefectKind::kDeadlock}, "an arrival too few",
           "arrivals missing");
    expect(Flaw::kTooManyArrivals, {DefectKind::kProtocol}, "an arrival too many", "more arrivals");
    expect(Flaw::kTooFewBytes, {DefectKind::kDeadlock}, "too few bytes expected", "bytes missing");
    expect(Flaw::kTooManyBytes, {DefectKind::kDeadlock}, "too many bytes expected",
           "bytes missing");
    expect(Flaw::kNoFence, {DefectKind::kProtocol}, "inits not made visible",
           "fence_mbarrier_init");
    expect(Flaw::kInitTwice, {DefectKind::kProtocol}, "init over a barrier", "mbarrier.inval");
    expect(Flaw::kNoEmptyWait,
           {DefectKind::kProtocol, DefectKind::kInFlight, DefectKind::kRace, DefectKind::kDeadlock},
           "a refill before its stage is free");
    expect(Flaw::kOverwritten, {DefectKind::kProtocol, DefectKind::kRace}, "a barrier overwritten");
    if (kRaceFlavour) {
      expect(Flaw::kNoFullWait,
             {DefectKind::kInFlight, DefectKind::kUninitialised, DefectKind::kRace},
             "no wait for a stage");
      expect(Flaw::kNoBarrierAfterInit, {DefectKind::kRace, DefectKind::kProtocol},
             "nothing orders the init");
      expect(Flaw::kRefillUnfenced, {DefectKind::kRace}, "a refill without a fence",
             "fence.proxy.async");
      expect(Flaw::kWrongParity,
             {DefectKind::kInFlight, DefectKind::kUninitialised, DefectKind::kRace},
             "the other parity");
      continue;
    }
    for (const Flaw flaw : {Flaw::kNoFullWait, Flaw::kWrongParity}) {
      const Outcome outcome = run_ring(flaw, &right);
      CHECK_MESSAGE((!outcome.clean || !right), "a stage read too early, ", setting.name);
    }
  }
}

// --- cp.async behind an mbarrier -----------------------------------------------------------------

// Every producer thread copies 16 bytes and arrives when they have landed.
template <bool kFollows>
__global__ void noinc_kernel(const uint4* source, uint4* out) {
  auto* tile = reinterpret_cast<uint4*>(simt::dynamic_shared());
  auto* barrier = SIMT_STATIC_SHARED(uint64_t, 1);
  const uint32_t address = smem_u32(barrier);
  if (threadIdx.x == 0) mbarrier_init(address, 32);
  __syncthreads();
  for (int round = 0; round < 3; ++round) {
    if (threadIdx.x < 32) {
      cp_async_16(smem_u32(tile + threadIdx.x), source + round * 32 + threadIdx.x);
      if (kFollows) {
        cp_async_mbarrier_arrive_noinc(address);
      } else {
        mbarrier_arrive(address);
      }
    } else {
      mbarrier_wait(address, static_cast<uint32_t>(round) & 1u);
      out[round * 32 + threadIdx.x - 32] = tile[63 - threadIdx.x];
    }
    __syncthreads();
  }
  if (!kFollows) cp_async_commit();
  if (!kFollows) cp_async_wait<0>();
}

TEST_CASE("cp.async behind an mbarrier") {
  const Buffer<uint4> source(96), out(96);
  for (unsigned i = 0; i < 96; ++i) source[i] = make_uint4(i, i, i, i);
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    expect_clean(run(noinc_kernel<true>, 1, 64, 512, source.data(), out.data()), setting.name);
    Every right;
    for (unsigned i = 0; i < 96; ++i) right.equal(out[i].x, i / 32 * 32 + 31 - i % 32);
    right.check("the copies' values");
    const Outcome early = run(noinc_kernel<false>, 1, 64, 512, source.data(), out.data());
    CHECK_MESSAGE((!early.clean || out[0].x == 0xffffffffu), "arrivals that do not follow copies, ",
                  setting.name);
  }
}

// --- alone ---------------------------------------------------------------------------------------

__global__ void half_phase_kernel() {
  auto* barrier = SIMT_STATIC_SHARED(uint64_t, 1);
  mbarrier_init(smem_u32(barrier), 2);
  mbarrier_arrive(smem_u32(barrier));
}
__global__ void unawaited_kernel(const uint4* source) {
  auto* barrier = SIMT_STATIC_SHARED(uint64_t, 1);
  mbarrier_init(smem_u32(barrier), 1);
  fence_mbarrier_init();
  mbarrier_arrive_expect_tx(smem_u32(barrier), 16);
  bulk_load(smem_u32(simt::dynamic_shared()), source, 16, smem_u32(barrier));
}
__global__ void no_barrier_kernel() { mbarrier_arrive(smem_u32(simt::dynamic_shared())); }
__global__ void misaligned_kernel() { mbarrier_init(smem_u32(simt::dynamic_shared()) + 4, 1); }
__global__ void zero_count_kernel() { mbarrier_init(smem_u32(simt::dynamic_shared()), 0); }
__global__ void inval_kernel(bool early) {
  const uint32_t barrier = smem_u32(simt::dynamic_shared());
  for (uint32_t count = 1; count < 4; ++count) {
    mbarrier_init(barrier, count);
    for (uint32_t i = early ? 1 : 0; i < count; ++i) mbarrier_arrive(barrier);
    if (!early) mbarrier_wait(barrier, 0);
    mbarrier_inval(barrier);
  }
}

TEST_CASE("barriers alone") {
  const Buffer<uint4> source(1);
  expect_defect(run(half_phase_kernel, 1, 1, 0), {DefectKind::kProtocol}, "an unfinished phase",
                "middle of a phase");
  expect_defect(run(unawaited_kernel, 1, 1, 128, source.data()), {DefectKind::kInFlight},
                "a copy nobody waits for", "in flight");
  expect_defect(run(no_barrier_kernel, 1, 1, 128), {DefectKind::kProtocol}, "no barrier there",
                "no mbarrier");
  expect_defect(run(misaligned_kernel, 1, 1, 128), {DefectKind::kMisaligned}, "at 4 bytes");
  expect_defect(run(zero_count_kernel, 1, 1, 128), {DefectKind::kProtocol}, "a count of zero");
  expect_clean(run(inval_kernel, 1, 1, 128, false), "three lives of one barrier");
  expect_defect(run(inval_kernel, 1, 1, 128, true), {DefectKind::kProtocol},
                "inval in the middle of a phase", "mbarrier.inval");
}

TEST_SUITE_END();

}  // namespace
