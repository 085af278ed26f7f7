// Loops that do nothing but what they measure, in assembly, so that no compiler can drop, fold or
// spill them: multiply-adds on independent accumulators in registers, and reads of whole cache
// lines. Each instruction has more chains than its latency times its ports (at most 2 x 6), so the
// rate is the units', not the dependencies'. Which loops there are is known at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace machine_limits {

// FLOPs of one round of a multiply-add loop; `run` does `rounds` of them.
struct ComputeLoop {
  const char* name;
  int64_t flops_per_round;
  void (*run)(int64_t rounds);
};

// Reads `bytes` (a multiple of 4096) from `data` as `streams` interleaved streams.
struct ReadLoop {
  int streams;
  void (*run)(const char* data, size_t bytes);
};

// Operands: neither zeros nor powers of two, so that the multipliers switch as with real weights.
alignas(64) inline const
    float kOperand[16] = {0.731f, -0.417f, 0.119f, -0.903f, 0.251f, -0.077f, 0.633f, -0.549f,
                          0.871f, -0.293f, 0.487f, -0.161f, 0.359f, -0.787f, 0.943f, -0.029f};

#if defined(__x86_64__)

#define SE_ACCUMULATORS_24 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
#define SE_ACCUMULATORS_12 "0,1,2,3,4,5,6,7,8,9,10,11"

// One round: `instruction` once on each accumulator of the list, with registers 30/31 or 14/15.
#define SE_COMPUTE_LOOP(function, isa, instruction, reg, list, a, b, ...)                         \
  __attribute__((target(isa), noinline)) inline void function(int64_t rounds) {                   \
    asm volatile("vmovups (%1), %%" reg a "\n\tvmovups (%1), %%" reg b                            \
                 "\n\t"                                                                           \
                 ".irp r," list "\n\tvxorps %%xmm0, %%xmm0, %%xmm0\n\tvmovaps %%" reg "0, %%" reg \
                 "\\r\n\t.endr\n"                                                                 \
                 "1:\n\t.irp r," list "\n\t" instruction " %%" reg a ", %%" reg b ", %%" reg      \
                 "\\r\n\t.endr\n\t"                                                               \
                 "subq $1, %0\n\tjnz 1b\n\tvzeroupper"                                            \
                 : "+r"(rounds)                                                                   \
                 : "r"(kOperand)                                                                  \
                 : "cc", "memory", __VA_ARGS__);                                                  \
  }
#define SE_XMM_LOW                                                                         \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define SE_XMM_ALL                                                                             \
  SE_XMM_LOW, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", \
      "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"

SE_COMPUTE_LOOP(fma_avx2, "avx2,fma", "vfmadd231ps", "ymm", SE_ACCUMULATORS_12, "14", "15",
                SE_XMM_LOW)
SE_COMPUTE_LOOP(fma_avx512, "avx512f,avx512vl", "vfmadd231ps", "zmm", SE_ACCUMULATORS_24, "30",
                "31", SE_XMM_ALL)
SE_COMPUTE_LOOP(bf16_avx512, "avx512f,avx512vl,avx512bf16", "vdpbf16ps", "zmm", SE_ACCUMULATORS_24,
                "30", "31", SE_XMM_ALL)

// Eight lines of each stream a step.
template <int kStreams>
__attribute__((noinline)) void read_sse(const char* data, size_t bytes) {
  const size_t stream = bytes / kStreams;
  for (size_t at = 0; at < stream; at += 512) {
    for (int s = 0; s < kStreams; s++) {
      const char* from = data + s * stream + at;
      asm volatile(
          ".irp o,0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240\n\t"
          "movaps \\o(%0), %%xmm0\n\tmovaps 256+\\o(%0), %%xmm1\n\t.endr"
          :
          : "r"(from)
          : "xmm0", "xmm1", "memory");
    }
  }
}

#define SE_READ_LOOP(function, isa, reg, offsets)                                        \
  template <int kStreams>                                                                \
  __attribute__((target(isa), noinline)) void function(const char* data, size_t bytes) { \
    const size_t stream = bytes / kStreams;                                              \
    for (size_t at = 0; at < stream; at += 512) {                                        \
      for (int s = 0; s < kStreams; s++) {                                               \
        asm volatile(".irp o," offsets "\n\tvmovaps \\o(%0), %%" reg "0\n\t.endr"        \
                     :                                                                   \
                     : "r"(data + s * stream + at)                                       \
                     : "xmm0", "memory");                                                \
      }                                                                                  \
    }                                                                                    \
  }
SE_READ_LOOP(read_avx2, "avx2", "ymm", "0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480")
SE_READ_LOOP(read_avx512, "avx512f", "zmm", "0,64,128,192,256,320,384,448")

inline ComputeLoop fma_loop() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    return {"avx512 fma", 24 * 16 * 2, fma_avx512};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {"avx2 fma", 12 * 8 * 2, fma_avx2};
  }
  return {nullptr, 0, nullptr};
}

inline ComputeLoop bf16_loop() {
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl")) {
    return {"vdpbf16ps", 24 * 32 * 2, bf16_avx512};
  }
  return {nullptr, 0, nullptr};
}

// How many streams a core's prefetchers like differs: the best of three counts is the limit.
inline const ReadLoop* read_loops() {
  static const ReadLoop avx512[] = {{1, read_avx512<1>}, {2, read_avx512<2>}, {4, read_avx512<4>}};
  static const ReadLoop avx2[] = {{1, read_avx2<1>}, {2, read_avx2<2>}, {4, read_avx2<4>}};
  static const ReadLoop sse[] = {{1, read_sse<1>}, {2, read_sse<2>}, {4, read_sse<4>}};
  if (__builtin_cpu_supports("avx512f")) return avx512;
  return __builtin_cpu_supports("avx2") ? avx2 : sse;
}

#elif defined(__aarch64__)

#define SE_VECTORS                                                                               \
  "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", \
      "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v30", "v31"

__attribute__((noinline)) inline void fma_neon(int64_t rounds) {
  asm volatile(
      "ldr q30, [%1]\n\tldr q31, [%1, #16]\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"
      "movi v\\r\\().4s, #0\n\t.endr\n"
      "1:\n\t.irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"
      "fmla v\\r\\().4s, v30.4s, v31.4s\n\t.endr\n\t"
      "subs %0, %0, #1\n\tb.ne 1b"
      : "+r"(rounds)
      : "r"(kOperand)
      : "cc", "memory", SE_VECTORS);
}

template <int kStreams>
__attribute__((noinline)) void read_neon(const char* data, size_t bytes) {
  const size_t stream = bytes / kStreams;
  for (size_t at = 0; at < stream; at += 512) {
    for (int s = 0; s < kStreams; s++) {
      asm volatile(
          ".irp o,0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480\n\t"
          "ldp q0, q1, [%0, #\\o]\n\t.endr"
          :
          : "r"(data + s * stream + at)
          : "v0", "v1", "memory");
    }
  }
}

inline ComputeLoop fma_loop() { return {"neon fmla", 24 * 4 * 2, fma_neon}; }
// The package's NEON kernels widen bf16 to f32: their limit is the f32 one.
inline ComputeLoop bf16_loop() { return {nullptr, 0, nullptr}; }

inline const ReadLoop* read_loops() {
  static const ReadLoop neon[] = {{1, read_neon<1>}, {2, read_neon<2>}, {4, read_neon<4>}};
  return neon;
}

#else
#error "machine_limits knows x86-64 and arm64"
#endif

constexpr int kNumReadLoops = 3;

}  // namespace machine_limits
