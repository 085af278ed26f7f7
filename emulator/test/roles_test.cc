// Named barriers, registers that move between warp groups, elect.
#include <simt/counters.h>
#include <simt/ptx.h>
#include <simt/ptx90.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("roles");

using namespace simt::ptx;
using simt::DefectKind;

enum class Flaw { kNone, kCount, kSharedId, kNoBarrier, kMissing, kIdZero, kOddCount };

// Warps 0 and 1 exchange values over barrier 1, warps 2 and 3 over barrier 2; warp 0 then waits for
// warp 2 over barrier 3, where warp 2 only arrives.
__global__ void exchange_kernel(Flaw flaw, uint32_t* out) {
  auto* values = SIMT_STATIC_SHARED(uint32_t, 128);
  auto* late = SIMT_STATIC_SHARED(uint32_t, 32);
  const unsigned t = threadIdx.x;
  values[t] = t * 3;
  if (flaw == Flaw::kIdZero) {
    named_barrier_sync(0, 64);
  } else if (flaw == Flaw::kOddCount) {
    named_barrier_sync(1, 63);
  } else if (flaw == Flaw::kCount) {
    named_barrier_sync(1 + t / 64, t % 64 < 32 ? 64 : 96);
  } else if (t < 64) {
    if (flaw != Flaw::kNoBarrier) named_barrier_sync(1, 64);
  } else {
    if (flaw != Flaw::kNoBarrier) named_barrier_sync(flaw == Flaw::kSharedId ? 1 : 2, 64);
  }
  out[t] = values[t ^ 32];
  if (t < 32) {
    named_barrier_sync(3, 64);
    out[128 + t] = late[31 - t];
  }
  if (t / 32 == 2) {
    late[t - 64] = t;
    if (flaw != Flaw::kMissing) named_barrier_arrive(3, 64);
  }
}

TEST_CASE("named barriers") {
  const Buffer<uint32_t> out(160);
  const auto outcome = [&](Flaw flaw) { return run(exchange_kernel, 1, 128, 0, flaw, out.data()); };
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    simt::reset_counters();
    expect_clean(outcome(Flaw::kNone), setting.name);
    Every right;
    for (uint32_t i = 0; i < 128; ++i) right.equal(out[i], (i ^ 32) * 3);
    for (uint32_t i = 0; i < 32; ++i) right.equal(out[128 + i], 64 + 31 - i);
    right.check("the exchanged values");
    CHECK(simt::counters().named_barriers == 3);
    expect_defect(outcome(Flaw::kCount), {DefectKind::kDivergence}, "two counts", "for 96");
    expect_defect(outcome(Flaw::kMissing), {DefectKind::kDeadlock}, "nobody arrives", "bar.sync");
    expect_defect(outcome(Flaw::kIdZero), {DefectKind::kProtocol}, "barrier 0");
    expect_defect(outcome(Flaw::kOddCount), {DefectKind::kProtocol}, "63 threads");
    if (kRaceFlavour) {
      expect_defect(outcome(Flaw::kNoBarrier), {DefectKind::kRace, DefectKind::kUninitialised},
                    "no barrier");
    }
  }
  // Whoever comes first shares a round with whoever comes next: in turns that is the other role.
  const Scheduled scheduled(simt::Schedule::kRandom, 1);
  expect_defect(outcome(Flaw::kSharedId),
                {DefectKind::kDivergence, DefectKind::kRace, DefectKind::kUninitialised},
                "two roles on one id");
}

// Two consumer groups and a producer group of 128 threads each: 168 registers a thread at first.
template <int kConsumer, int kProducer>
__global__ void registers_kernel() {
  if (threadIdx.x < 256) {
    set_max_registers_inc<kConsumer>();
  } else {
    set_max_registers_dec<kProducer>();
  }
}
__global__ void raise_first_kernel() {
  if (threadIdx.x < 256) set_max_registers_inc<224>();
  __syncthreads();
  if (threadIdx.x >= 256) set_max_registers_dec<56>();
}
__global__ void one_warp_kernel() {
  if (threadIdx.x < 32)
    set_max_registers_dec<56>();
  else if (threadIdx.x < 128)
    set_max_registers_dec<64>();
}
__global__ void wrong_way_kernel() { set_max_registers_dec<232>(); }

TEST_CASE("registers") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    expect_clean(run(registers_kernel<224, 56>, 1, 384, 0), "224 and 56");
    expect_clean(run(registers_kernel<240, 24>, 1, 384, 0), "240 and 24");
    // 2 * 128 * 240 + 128 * 32 is more than the 384 * 168 that the block has.
    expect_defect(run(registers_kernel<240, 32>, 1, 384, 0), {DefectKind::kDeadlock}, "240 and 32",
                  "setmaxnreg.inc");
    expect_defect(run(raise_first_kernel, 1, 384, 0),
                  {DefectKind::kDeadlock, DefectKind::kDivergence}, "raised before lowered");
    expect_defect(run(one_warp_kernel, 1, 384, 0), {DefectKind::kDivergence}, "warps disagree",
                  "disagree");
    expect_defect(run(wrong_way_kernel, 1, 384, 0), {DefectKind::kProtocol}, "dec that raises");
    expect_defect(run(registers_kernel<220, 56>, 1, 384, 0), {DefectKind::kProtocol},
                  "no multiple of 8");
    expect_defect(run(registers_kernel<224, 56>, 1, 320, 0), {DefectKind::kDivergence},
                  "half a warp group", "four warps");
  }
}

__global__ void elect_kernel(uint32_t* out) {
  for (int round = 0; round < 2; ++round) {
    if (elect_one()) atomicAdd(out + round * 64 + threadIdx.x, 1u);
    if (threadIdx.x % 32 < 4 && elect_one(0xf)) atomicAdd(out + 128 + round, 1u);
  }
}

TEST_CASE("elect") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<uint32_t> out(std::vector<uint32_t>(130, 0));
    expect_clean(run(elect_kernel, 1, 64, 0, out.data()), setting.name);
    uint32_t elected = 0;
    for (uint32_t i = 0; i < 64; ++i) {
      elected += out[i];
      CHECK_MESSAGE(out[i] == out[64 + i], "the same lane again");
    }
    CHECK(elected == 2);
    CHECK((out[128] == 2 && out[129] == 2));
  }
}

TEST_SUITE_END();

}  // namespace
