#include "cpu/isa/choose_isa.h"

#include <string>

#if defined(SPARSE_EXPERTS_X86)
#include <cpuid.h>
#endif
#if defined(SPARSE_EXPERTS_NEON)
#include "platform/arm_instructions.h"
#endif
#include "platform/environment.h"

namespace sparse_experts::cpu {
namespace {

struct Candidate {
  const IsaKernels* kernels;
  bool supported;
};

#if defined(SPARSE_EXPERTS_X86)
// Not every compiler's __builtin_cpu_supports knows this name; the registers are AVX's, which
// has_avx2 asks for.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx_vnni() {
  constexpr unsigned kAvxVnni = 1u << 4;  // of EAX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax & kAvxVnni) != 0;
}
#if defined(SE_AVX512_IN_C)  // tests
bool has_avx512() { return has_avx2(); }
bool has_avx512_vnni() { return has_avx2(); }
bool has_avx512bf16() { return has_avx2(); }
bool has_vbmi() { return true; }
#else
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
// Every processor with the one has the other.
bool has_avx512bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }
bool has_vbmi() { return __builtin_cpu_supports("avx512vbmi"); }
#endif
#endif

struct Table {
  // Rising quality.
  Candidate candidates[6] = {};
  int count = 0;
  const IsaKernels* available[7] = {};

  Table() {
    add(&kScalarKernels, true);
#if defined(SPARSE_EXPERTS_X86)
    __builtin_cpu_init();
    add(&kAvx2Kernels, has_avx2());
    add(&kAvxVnniKernels, has_avx_vnni());
    add(&kAvx512Kernels, has_avx512());
    add(&kAvx512VnniKernels, has_avx512_vnni());
    add(has_vbmi() ? &kAvx512Bf16VbmiKernels : &kAvx512Bf16Kernels, has_avx512bf16());
#endif
#if defined(SPARSE_EXPERTS_NEON)
    add(&kNeonKernels, true);
    add(&kNeonDotProdKernels, platform::has_dot_products());
    add(&kNeonI8mmKernels, platform::has_dot_products() && platform::has_matrix_products());
#endif
    int found = 0;
    for (int i = 0; i < count; ++i) {
      if (candidates[i].supported) available[found++] = candidates[i].kernels;
    }
  }

 private:
  void add(const IsaKernels* kernels, bool supported) {
    candidates[count++] = {kernels, supported};
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

const IsaKernels* const* available_isas() { return table().available; }

const IsaKernels* choose_isa(std::string* reason) {
  const Table& isas = table();
  const std::string forced = platform::environment_variable("SPARSE_EXPERTS_CPU_ISA");
  std::string known;
  for (int i = isas.count - 1; i >= 0; --i) {
    const Candidate& candidate = isas.candidates[i];
    if (forced.empty()) {
      if (candidate.supported) return candidate.kernels;
    } else if (forced == candidate.kernels->name) {
      if (candidate.supported) return candidate.kernels;
      *reason = "SPARSE_EXPERTS_CPU_ISA=" + forced + ": this processor does not have it";
      return nullptr;
    }
    if (candidate.supported)
      known += std::string(known.empty() ? "" : ", ") + candidate.kernels->name;
  }
  *reason = "SPARSE_EXPERTS_CPU_ISA=" + forced + ": no such instruction set; this processor runs " +
            known;
  return nullptr;
}

const MatmulKernel* find_matmul(const IsaKernels& kernels, int32_t x_dtype, int32_t code) {
  const auto multiplies = [&](const MatmulKernel& kernel) {
    return kernel.x_dtype == x_dtype && kernel.code == code && kernel.panels != nullptr;
  };
  for (const MatmulKernel& kernel : kernels.matmuls)
    if (multiplies(kernel)) return &kernel;
  for (const MatmulKernel& kernel : kernels.coded->matmuls)
    if (multiplies(kernel)) return &kernel;
  return nullptr;
}

bool has_bf16_product(const IsaKernels& kernels) {
  return find_matmul(kernels, SE_BF16, SE_CODE_BF16) != nullptr;
}

}  // namespace sparse_experts::cpu
