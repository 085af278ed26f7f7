// The inner part of the half-precision matmul: one tile of products, K in rising steps.
//
//   1. all stages but one are under way while that one is multiplied; one barrier per stage
//   2. within a stage the fragments of the next k16 step are loaded before the products of this one,
//      across the border of stages too
//   3. every output is one f32 accumulator that takes its k16 steps in order
//   4. stages whose copies are plain have a loop of their own: without a branch in it the compiler
//      spreads the copies among the products, where they cost no time of their own
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_load.cuh"

namespace sparse_experts::cuda {

template <typename Element>
__device__ __forceinline__ void multiply_fragment(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]);
template <>
__device__ __forceinline__ void multiply_fragment<Bf16>(float (&d)[4], const uint32_t (&a)[4],
                                                        const uint32_t (&b)[2]) {
  ptx::mma_m16n8k16_bf16(d, a, b);
}
template <>
__device__ __forceinline__ void multiply_fragment<F16>(float (&d)[4], const uint32_t (&a)[4],
                                                       const uint32_t (&b)[2]) {
  ptx::mma_m16n8k16_f16(d, a, b);
}

// What a warp needs for one k16 step: kWidth fragments of tokens.
template <typename Tile, int kWidth>
struct Fragments {
  uint32_t a[Tile::kFragmentsM][4];
  uint32_t b[kWidth][2];

  // `rows` and `tokens`: shared addresses of this warp's first row in the stage.
  __device__ __forceinline__ void load(uint32_t rows, uint32_t tokens, int k16) {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    constexpr int kChunks = Tile::kChunks;
    constexpr int kRowBytes = Tile::kRowBytes;  // 16 rows further the swizzle is the same
    rows += swizzled<kChunks>(lane % 16, k16 * 2 + lane / 16);
#pragma unroll
    for (int m = 0; m < Tile::kFragmentsM; ++m) {
      ptx::ldmatrix_x4(a[m], rows + m * 16 * kRowBytes);
    }
    const int chunk = k16 * 2 + lane / 8 % 2;
    if constexpr (kWidth == 1) {
      ptx::ldmatrix_x2(b[0], tokens + swizzled<kChunks>(lane % 8, chunk));
    } else {
      tokens += swizzled<kChunks>(lane % 8 + lane / 16 * 8, chunk);
#pragma unroll
      for (int n = 0; n + 1 < kWidth; n += 2) {
        uint32_t pair[4];
        ptx::ldmatrix_x4(pair, tokens + n * 8 * kRowBytes);
        b[n][0] = pair[0];
        b[n][1] = pair[1];
        b[n + 1][0] = pair[2];
        b[n + 1][1] = pair[3];
      }
      // The second half of the lanes, 8 rows further, gives addresses that nothing asks for.
      if constexpr (kWidth % 2 == 1)
        ptx::ldmatrix_x2(b[kWidth - 1], tokens + (kWidth - 1) * 8 * kRowBytes);
    }
  }
};

// Where the warp stands in its block.
struct WarpPlace {
  int m;      // strip of rows
  int n;      // strip of tokens
  int slice;  // of K
};

// Where a warp reads and the block writes, in bytes from the first stage.
struct Ring {
  uint32_t shared;  // of the first stage
  uint32_t rows;    // of this warp's first weight row in a stage
  uint32_t tokens;  // of its first token row
  int stage_bytes;
  int last_at;       // the last stage
  int read_at = 0;   // the stage that is multiplied
  int write_at = 0;  // the stage that is filled

  __device__ __forceinline__ int after(int at) const {
    return at == last_at ? 0 : at + stage_bytes;
  }
};

// Returns when at most num_stages - 2 of the thread's latest groups are under way.
__device__ __forceinline__ void wait_for_stage(int num_stages) {
  if (num_stages == kFewStages) {
    ptx::cp_async_wait<kFewStages - 2>();
  } else if (num_stages == kSomeStages) {
    ptx::cp_async_wait<kSomeStages - 2>();
  } else {
    ptx::cp_async_wait<kMostStages - 2>();
  }
}

// One stage. `wait` returns when the next stage is there; `fill` queues the copies of the stage that takes the place of the one before; `has_next`:
// another stage will be multiplied after this one.
template <typename Element, typename Tile, int kWidth, typename Wait, typename Fill>
__device__ __forceinline__ void multiply_stage(
    float (&sums)[Tile::kFragmentsM][Tile::kFragmentsN][4], Fragments<Tile, kWidth> (&fragments)[2],
    Ring& ring, bool has_next, const Wait& wait, const Fill& fill) {
  constexpr int kSteps16 = Tile::kBlockK / 16;
#pragma unroll
  for (int k16 = 0; k16 < kSteps16; ++k16) {
    if (k16 == kSteps16 - 1) {
      // This stage's fragments are all in registers: behind the barrier it may be filled anew.
      wait();
      __syncthreads();
      ring.read_at = ring.after(ring.read_at);
    }
    if (k16 < kSteps16 - 1 || has_next) {
      const uint32_t stage = ring.shared + ring.read_at;
      fragments[(k16 + 1) % 2].load(stage + ring.rows, stage + ring.tokens, (k16 + 1) % kSteps16);
    }
    if (k16 == 0) {
      fill(ring.write_at);
      ptx::cp_async_commit();
      ring.write_at = ring.after(ring.write_at);
    }
#pragma unroll
    for (int m = 0; m < Tile::kFragmentsM; ++m) {
#pragma unroll
      for (int n = 0; n < kWidth; ++n) {
        multiply_fragment<Element>(sums[m][n], fragments[k16 % 2].a[m], fragments[k16 % 2].b[n]);
      }
    }
  }
}

// All stages up to the last plain one that is not copied yet; `next`, the one to copy, is past the first
// kStages - 1. That all lanes turn as often is what the shuffle tells the compiler: it counts in registers of
// the warp then, and does not bring the lanes together again in each turn.
template <typename Element, typename Tile, int kWidth, int kStages>
__device__ __forceinline__ void multiply_plain(
    float (&sums)[Tile::kFragmentsM][Tile::kFragmentsN][4], Fragments<Tile, kWidth> (&fragments)[2],
    Ring& ring, const StageLoader<Tile>& loader, int& next) {
  const int end = __shfl_sync(kFullWarp, loader.plain_steps, 0);
  int step = kStages - 1;
#pragma unroll 1
  for (; step < end; ++step) {
    multiply_stage<Element, Tile, kWidth>(
        sums, fragments, ring, true, [] { ptx::cp_async_wait<kStages - 2>(); },
        [&](int at) {
          loader.template load_plain<kWidth * 8 * Tile::kWarpsN>(ring.shared + at, step);
        });
  }
  next = step;
}

template <typename Element, typename Tile, int kWidth>
__device__ __forceinline__ void multiply_tile(
    float (&sums)[Tile::kFragmentsM][Tile::kFragmentsN][4], StageLoader<Tile>& loader,
    const WarpPlace& warp, unsigned char* stages, int num_stages) {
  constexpr int kTileWidth = kWidth * 8 * Tile::kWarpsN;
  Ring ring;
  ring.shared = ptx::smem_u32(stages);
  ring.stage_bytes = (Tile::kRows + (loader.tile_tokens << loader.log_split)) * Tile::kRowBytes;
  ring.last_at = (num_stages - 1) * ring.stage_bytes;
  ring.rows = (warp.slice * loader.tile_rows + warp.m * Tile::kFragmentsM * 16) *
              static_cast<uint32_t>(Tile::kRowBytes);
  ring.tokens = (Tile::kRows + warp.slice * loader.tile_tokens + warp.n * kWidth * 8) *
                static_cast<uint32_t>(Tile::kRowBytes);

#pragma unroll
  for (int m = 0; m < Tile::kFragmentsM; ++m) {
#pragma unroll
    for (int n = 0; n < Tile::kFragmentsN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0.0f;
    }
  }

  loader.template find_tokens<kTileWidth>(stages, ring.stage_bytes, num_stages);
  int next = 0;  // the stage of K that is copied next
#pragma unroll 1
  for (; ring.write_at < ring.last_at; ++next) {
    const int at = ring.write_at;
    if (next < loader.plain_steps) {
      loader.template load_plain<kTileWidth>(ring.shared + at, next);
    } else if (next < loader.num_steps()) {
      loader.template load_carefully<kTileWidth>(stages + at, ring.shared + at, next);
    }
    ptx::cp_async_commit();
    ring.write_at += ring.stage_bytes;
  }
  wait_for_stage(num_stages);
  __syncthreads();

  Fragments<Tile, kWidth> fragments[2];
  fragments[0].load(ring.shared + ring.rows, ring.shared + ring.tokens, 0);
  if (num_stages == kFewStages) {
    multiply_plain<Element, Tile, kWidth, kFewStages>(sums, fragments, ring, loader, next);
  } else if (num_stages == kSomeStages) {
    multiply_plain<Element, Tile, kWidth, kSomeStages>(sums, fragments, ring, loader, next);
  } else {
    multiply_plain<Element, Tile, kWidth, kMostStages>(sums, fragments, ring, loader, next);
  }
  const int num_steps = loader.num_steps();
  const int end = num_steps + num_stages - 1;
#pragma unroll 1
  for (; next < end; ++next) {
    multiply_stage<Element, Tile, kWidth>(
        sums, fragments, ring, next + 1 < end, [&] { wait_for_stage(num_stages); },
        [&](int at) {
          if (next >= num_steps) return;
          loader.template load_carefully<kTileWidth>(stages + at, ring.shared + at, next);
        });
  }
  ptx::cp_async_wait<0>();
}

}  // namespace sparse_experts::cuda
