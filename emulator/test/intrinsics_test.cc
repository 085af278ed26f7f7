// Every intrinsic against a plain model of it, with random values, masks and widths.
#include <cmath>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("intrinsics");

constexpr unsigned kFull = 0xffffffffu;

__global__ void shuffle_kernel(const int* values, const int* lanes, int width, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[t] = __shfl_sync(kFull, values[t], lanes[t], width);
  out[32 + t] = __shfl_up_sync(kFull, values[t], lanes[0], width);
  out[64 + t] = __shfl_down_sync(kFull, values[t], lanes[0], width);
  out[96 + t] = __shfl_xor_sync(kFull, values[t], lanes[0], width);
}

TEST_CASE("shuffles") {
  Inputs inputs(1);
  Every right;
  for (int round = 0; round < 100; ++round) {
    std::vector<int> values(32), lanes(32);
    for (int i = 0; i < 32; ++i) {
      values[i] = static_cast<int>(inputs.next());
      lanes[i] = static_cast<int>(inputs.below(32));
    }
    const int width = 1 << inputs.below(6);
    const Buffer<int> in(values), at(lanes), out(128);
    if (!expect_clean(run(shuffle_kernel, 1, 32, 0, in.data(), at.data(), width, out.data()),
                      "shuffles")) {
      return;
    }
    const int d = lanes[0];
    for (int i = 0; i < 32; ++i) {
      const int segment = i / width * width;
      right.equal(out[i], values[segment + lanes[i] % width]);
      right.equal(out[32 + i], values[i - segment >= d ? i - d : i]);
      right.equal(out[64 + i], values[i - segment + d < width ? i + d : i]);
      right.equal(out[96 + i], values[(i ^ d) < segment + width ? i ^ d : i]);
    }
  }
  right.check("shuffles give the lanes' values");
}

__global__ void types_kernel(float* f, double* d, long long* l, unsigned* u) {
  const int t = static_cast<int>(threadIdx.x);
  f[t] = __shfl_sync(kFull, 0.5f + static_cast<float>(t), 31 - t);
  d[t] = __shfl_sync(kFull, 0.25 + t, 31 - t);
  l[t] = __shfl_sync(kFull, (1LL << 40) + t, 31 - t);
  u[t] = __shfl_sync(kFull, 0x80000000u + static_cast<unsigned>(t), 31 - t);
}

TEST_CASE("shuffle types") {
  const Buffer<float> f(32);
  const Buffer<double> d(32);
  const Buffer<long long> l(32);
  const Buffer<unsigned> u(32);
  expect_clean(run(types_kernel, 1, 32, 0, f.data(), d.data(), l.data(), u.data()), "types");
  Every right;
  for (int i = 0; i < 32; ++i) {
    right.that(f[i] == 31.5f - static_cast<float>(i) && d[i] == 31.25 - i &&
               l[i] == (1LL << 40) + 31 - i &&
               u[i] == 0x80000000u + 31u - static_cast<unsigned>(i));
  }
  right.check("shuffles of all types");
}

// The two halves of a warp run different code, each with its own mask.
__global__ void vote_kernel(unsigned mask, const int* values, unsigned* out) {
  const unsigned t = threadIdx.x;
  if (mask >> t & 1u) {
    out[t] = __ballot_sync(mask, values[t] & 1);
    out[32 + t] = static_cast<unsigned>(__any_sync(mask, values[t] & 1));
    out[64 + t] = static_cast<unsigned>(__all_sync(mask, values[t] & 1));
    out[96 + t] = __match_any_sync(mask, values[t]);
    out[128 + t] = __reduce_add_sync(mask, static_cast<unsigned>(values[t]));
    out[160 + t] = static_cast<unsigned>(__reduce_min_sync(mask, values[t] - 2));
    out[192 + t] = __reduce_max_sync(mask, static_cast<unsigned>(values[t]));
    out[224 + t] = __reduce_and_sync(mask, static_cast<unsigned>(values[t]));
    out[256 + t] = __reduce_or_sync(mask, static_cast<unsigned>(values[t]));
    out[288 + t] = static_cast<unsigned>(__reduce_max_sync(mask, values[t] - 100));
  } else {
    out[t] = __ballot_sync(~mask, 1);
  }
}

TEST_CASE("votes") {
  Inputs inputs(2);
  Every right;
  for (int round = 0; round < 100; ++round) {
    const unsigned mask = round == 0 ? kFull : static_cast<unsigned>(inputs.next()) | 1u;
    std::vector<int> values(32);
    for (int& value : values)
      value = static_cast<int>(inputs.below(round % 2 == 0 ? 4 : 2)) | (round % 3 == 0);
    const Buffer<int> in(values);
    const Buffer<unsigned> out(320);
    if (!expect_clean(run(vote_kernel, 1, 32, 0, mask, in.data(), out.data()), "votes")) return;
    unsigned ballot = 0, sum = 0, most = 0, all = kFull, any = 0;
    int least = 100, largest = -200;
    for (unsigned i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) == 0) continue;
      const unsigned value = static_cast<unsigned>(values[i]);
      ballot |= (value & 1u) << i;
      sum += value;
      most = std::max(most, value);
      all &= value;
      any |= value;
      least = std::min(least, values[i] - 2);
      largest = std::max(largest, values[i] - 100);
    }
    for (unsigned i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) == 0) {
        right.equal(out[i], ~mask);
        continue;
      }
      unsigned equal = 0;
      for (unsigned j = 0; j < 32; ++j) {
        if ((mask >> j & 1u) != 0 && values[j] == values[i]) equal |= 1u << j;
      }
      right.that(out[i] == ballot && out[32 + i] == (ballot != 0 ? 1u : 0u) &&
                 out[64 + i] == (ballot == mask ? 1u : 0u) && out[96 + i] == equal &&
                 out[128 + i] == sum && out[160 + i] == static_cast<unsigned>(least) &&
                 out[192 + i] == most && out[224 + i] == all && out[256 + i] == any &&
                 out[288 + i] == static_cast<unsigned>(largest));
    }
  }
  right.check("votes, matches and reductions");
}

__global__ void barrier_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[t] = __syncthreads_count(t % 3 == 0);
  out[96 + t] = __syncthreads_or(t == 77);
  out[192 + t] = __syncthreads_and(t != 77);
  out[288 + t] = __syncthreads_or(0);
  out[384 + t] = __syncthreads_and(1);
}

TEST_CASE("barriers") {
  const Buffer<int> out(480);
  expect_clean(run(barrier_kernel, 1, 96, 0, out.data()), "barriers");
  Every right;
  for (int i = 0; i < 96; ++i) {
    right.that(out[i] == 32 && out[96 + i] == 1 && out[192 + i] == 0 && out[288 + i] == 0 &&
               out[384 + i] == 1);
  }
  right.check("barriers that count");
}

__global__ void index_kernel(unsigned* out) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = block * 1000 + thread;
}

TEST_CASE("indices") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<unsigned> out(2 * 3 * 2 * 30);
    expect_clean(run(index_kernel, dim3(2, 3, 2), dim3(5, 3, 2), 0, out.data()), "indices");
    Every right;
    for (unsigned i = 0; i < out.size(); ++i) right.equal(out[i], i / 30 * 1000 + i % 30);
    right.check(std::string("every thread once, ") + setting.name);
  }
}

__global__ void atomic_kernel(int* i, unsigned* u, unsigned long long* l) {
  const unsigned t = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&i[0], static_cast<int>(t));
  atomicMin(&i[1], -static_cast<int>(t));
  atomicMax(&i[2], static_cast<int>(t));
  atomicExch(&i[3], 7);
  atomicCAS(&i[4], 0, 9);
  atomicAdd(&u[0], t);
  atomicMin(&u[1], t);
  atomicMax(&u[2], t);
  atomicOr(&u[3], 1u << t % 32);
  atomicAdd(&l[0], 1ull << 32);
  atomicMax(&l[1], static_cast<unsigned long long>(t) << 33);
}

TEST_CASE("atomics") {
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<int> i({0, 0, 0, 0, 0});
    const Buffer<unsigned> u({0, 5, 0, 0});
    const Buffer<unsigned long long> l({0, 0});
    expect_clean(run(atomic_kernel, 3, 64, 0, i.data(), u.data(), l.data()), "atomics");
    CHECK_MESSAGE(i[0] == 18336, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(i[1] == -191, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(i[2] == 191, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(i[3] == 7, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(i[4] == 9, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(u[0] == 18336, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(u[1] == 0, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(u[2] == 191, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE(u[3] == kFull, "atomics, ", std::string(setting.name));
    CHECK_MESSAGE((l[0] == 192ull << 32), "atomics, ", std::string(setting.name));
    CHECK_MESSAGE((l[1] == 191ull << 33), "atomics, ", std::string(setting.name));
  }
}

TEST_CASE("bits") {
  CHECK_MESSAGE(__popc(0xf0f0u) == 8, "popc");
  CHECK_MESSAGE(__popcll(~0ull) == 64, "popc");
  CHECK_MESSAGE(__ffs(0) == 0, "ffs and clz");
  CHECK_MESSAGE(__ffs(8) == 4, "ffs and clz");
  CHECK_MESSAGE(__clz(0) == 32, "ffs and clz");
  CHECK_MESSAGE(__clz(1) == 31, "ffs and clz");
  CHECK_MESSAGE(__clzll(1) == 63, "ffs and clz");
  CHECK_MESSAGE(__brev(1u) == 0x80000000u, "brev");
  CHECK_MESSAGE(__brev(0x12345678u) == 0x1e6a2c48u, "brev");
  CHECK_MESSAGE(__byte_perm(0x03020100u, 0x07060504u, 0x7531u) == 0x07050301u, "byte_perm");
  CHECK_MESSAGE(__float_as_uint(1.0f) == 0x3f800000u, "bits of floats");
  CHECK_MESSAGE(__uint_as_float(0x40000000u) == 2.0f, "bits of floats");
  CHECK_MESSAGE(__int_as_float(__float_as_int(-3.5f)) == -3.5f, "bits of floats");
  CHECK_MESSAGE(__umulhi(0x80000000u, 6u) == 3u, "high products");
  CHECK_MESSAGE(__mulhi(-1, 1) == -1, "high products");
  CHECK_MESSAGE(min(1, 2u) == 1u, "min and max");
  CHECK_MESSAGE(max(-1.5f, 2.0f) == 2.0f, "min and max");
  CHECK_MESSAGE(min(3ll, 2) == 2, "min and max");
  CHECK_MESSAGE(max(std::nanf(""), 1.0f) == 1.0f, "NaN loses");
  CHECK_MESSAGE(min(1.0f, std::nanf("")) == 1.0f, "NaN loses");
  CHECK_MESSAGE(rsqrtf(4.0f) == 0.5f, "rsqrt");
  CHECK_MESSAGE(rsqrt(0.25) == 2.0, "rsqrt");
  CHECK_MESSAGE(__float2int_rn(2.5f) == 2, "conversions");
  CHECK_MESSAGE(__float2int_rz(-2.7f) == -2, "conversions");
  CHECK_MESSAGE(__float2int_rd(-2.1f) == -3, "conversions");
  CHECK_MESSAGE(__float2int_ru(2.1f) == 3, "conversions");
  CHECK_MESSAGE(__float2int_rn(1e20f) == 0x7fffffff, "conversions");
  CHECK_MESSAGE(__float2int_rn(std::nanf("")) == 0, "conversions");
  CHECK_MESSAGE(sizeof(float4) == 16, "vector types");
  CHECK_MESSAGE(alignof(float4) == 16, "vector types");
  CHECK_MESSAGE(alignof(uint2) == 8, "vector types");
  CHECK_MESSAGE(alignof(double2) == 16, "vector types");
  CHECK_MESSAGE(sizeof(uchar4) == 4, "vector types");
  const float4 made = make_float4(1, 2, 3, 4);
  CHECK_MESSAGE(made.x == 1, "make_float4");
  CHECK_MESSAGE(made.w == 4, "make_float4");
}

TEST_SUITE_END();

}  // namespace
