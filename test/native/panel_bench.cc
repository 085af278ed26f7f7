// native_tests --bench-panels: products of packed panels on one thread, by kind and number of rows.
// Streamed: each call reads other panels, 96 MiB of them in turn. Cached: the same 256 KiB again and
// again. Activations are floats, then codes. GB/s are of packed bytes. Floats are the yardstick; both take turns of 2 ms, and the best turn
// of each counts: on a machine that is busy with other work, some turns meet none of it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "core/host_memory.h"
#include "core/matrix_format.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/layouts/matrix_panels.h"
#include "native/context.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

using namespace sparse_experts;
using cpu::MatrixPanels;

constexpr int64_t kCols = 2048;
constexpr int64_t kStreamedBytes = int64_t{96} << 20;
constexpr int64_t kCachedBytes = int64_t{256} << 10;
constexpr int kRounds = 40;
constexpr double kSliceSeconds = 0.002;

// Of the processor, not of the clock: others may have it meanwhile.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int64_t bytes_of_slab(int32_t x_dtype) {
  if (x_dtype == cpu::kCodedRows) return sizeof(cpu::CodedSlab);
  return cpu::kSlab * (x_dtype == SE_BF16 ? 2 : 4);
}

const char* name_of(int32_t x_dtype) {
  return x_dtype == cpu::kCodedRows ? "int8" : x_dtype == SE_BF16 ? "bf16" : "f32 ";
}

// m rows in slabs.
std::vector<char> rows_of(const cpu::IsaKernels& kernels, int32_t x_dtype, int32_t code, int64_t m,
                          Random* random) {
  const bool is_coded = x_dtype == cpu::kCodedRows;
  const int64_t slabs = m * (kCols / cpu::kSlab);
  std::vector<char> values =
      random_bytes(random, slabs * cpu::kSlab, is_coded ? SE_F32 : x_dtype, 1);
  if (!is_coded) return values;
  std::vector<char> coded(slabs * sizeof(cpu::CodedSlab));
  for (int64_t i = 0; i < slabs; ++i) {
    cpu::CodedSlab slab;
    kernels.encode(&slab, reinterpret_cast<const float*>(values.data()) + i * cpu::kSlab,
                   cpu::kSlab, cpu::columns_of_word(code));
    std::memcpy(coded.data() + i * sizeof slab, &slab, sizeof slab);
  }
  return coded;
}

struct Subject {
  Subject(const cpu::IsaKernels& isa, std::string kind_name, const SeMatrixFormat& kind_format,
          Random* random)
      : kernels(isa),
        name(std::move(kind_name)),
        format(kind_format),
        layout(isa.panel_width, isa.panel_width, kCols, kind_format) {
    num_panels = kStreamedBytes / layout.panel_bytes / 2 * 2;
    void* data = nullptr;
    if (!host_allocate(static_cast<uint64_t>(num_panels * layout.panel_bytes), &data).is_ok())
      std::abort();
    memory = static_cast<char*>(data);
    std::vector<char> panel(layout.panel_bytes);
    if (layout.is_quantised) {
      const QuantisedMatrix matrix(format, isa.panel_width, kCols, Scales::kUsual, random);
      const SeMatrixRows rows = matrix.rows_of(0, isa.panel_width, SE_F32, panel.data());
      if (!cpu::pack_matrix_rows(isa.panel_width, rows).is_ok()) std::abort();
    } else {
      const std::vector<char> values =
          random_bytes(random, isa.panel_width * kCols, element_dtype(format), 1);
      std::memcpy(panel.data(), values.data(), panel.size());
    }
    for (int64_t p = 0; p < num_panels; ++p)
      std::memcpy(memory + p * layout.panel_bytes, panel.data(), panel.size());
  }
  ~Subject() { host_free(memory, static_cast<uint64_t>(num_panels * layout.panel_bytes)); }
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  // Seconds for a byte.
  double run(int32_t x_dtype, const std::vector<char>& x, int64_t m, bool is_cached) {
    const int64_t slab_bytes = bytes_of_slab(x_dtype);
    std::vector<const char*> rows(m);
    for (int64_t i = 0; i < m; ++i) rows[i] = x.data() + i * slab_bytes;
    alignas(64) static float out[128 * 64];
    cpu::PanelTile tile{};
    tile.x_rows = rows.data();
    tile.x_slab_bytes = m * slab_bytes;
    tile.panel_bytes = layout.panel_bytes;
    tile.num_panels = 64 / layout.width;
    tile.m = m;
    tile.k = kCols;
    tile.out = out;
    tile.out_stride = 64;
    tile.quant = layout.is_quantised ? &layout.quant : nullptr;
    const auto function = cpu::find_matmul(kernels, x_dtype, format.code)->panels;
    const int64_t in_turn =
        is_cached ? std::max(tile.num_panels, kCachedBytes / layout.panel_bytes) : num_panels;
    const double begin = thread_seconds();
    int64_t bytes = 0;
    double seconds = 0;
    for (int call = 0; seconds < kSliceSeconds; ++call) {
      if (at_ + tile.num_panels > in_turn) at_ = 0;
      tile.w = memory + at_ * layout.panel_bytes;
      function(tile);
      at_ += tile.num_panels;
      bytes += tile.num_panels * layout.panel_bytes;
      if (call % 4 == 3) seconds = thread_seconds() - begin;
    }
    return seconds / static_cast<double>(bytes);
  }
  double flops_per_byte(int64_t m) const {
    return 2.0 * static_cast<double>(m * layout.width * kCols) /
           static_cast<double>(layout.panel_bytes);
  }

  const cpu::IsaKernels& kernels;
  std::string name;
  SeMatrixFormat format;
  MatrixPanels layout;
  char* memory = nullptr;
  int64_t num_panels = 0;

 private:
  int64_t at_ = 0;
};

// x_dtype of the rows that floats meet; rows of `kind` are of it, or codes.
void bench_subjects(const Context& context, int32_t x_dtype, bool are_coded,
                    const std::vector<QuantisedKind>& kinds) {
  const cpu::IsaKernels& kernels = *context.device->kernels;
  const int32_t own_dtype = are_coded ? cpu::kCodedRows : x_dtype;
  Random random(1);
  Subject yardstick(kernels, name_of(x_dtype), float_format(x_dtype), &random);
  for (const QuantisedKind& kind : kinds) {
    if (cpu::find_matmul(kernels, own_dtype, kind.format.code) == nullptr) continue;
    Subject subject(kernels, kind.name, kind.format, &random);
    for (const bool is_cached : {false, true}) {
      for (const int64_t m : {1, 2, 4, 8, 16, 64}) {
        const std::vector<char> x = rows_of(kernels, x_dtype, SE_CODE_F32, m, &random);
        const std::vector<char> own_x = rows_of(kernels, own_dtype, kind.format.code, m, &random);
        double base = 1;
        double own = 1;
        for (int round = 0; round < kRounds; ++round) {
          base = std::min(base, yardstick.run(x_dtype, x, m, is_cached));
          own = std::min(own, subject.run(own_dtype, own_x, m, is_cached));
        }
        const double flops = subject.flops_per_byte(m);
        std::printf(
            "%-10s %s %-24s %s R=%-3lld %6.1f GB/s %7.1f GFLOP/s  of the floats' GB/s %.2f, "
            "GFLOP/s %.2f\n",
            context.isa.c_str(), name_of(own_dtype), kind.name.c_str(),
            is_cached ? "cached  " : "streamed", static_cast<long long>(m), 1e-9 / own,
            flops / own * 1e-9, base / own, base / own * flops / yardstick.flops_per_byte(m));
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

void run_panel_bench(const Context& context, const std::string& only) {
  std::vector<QuantisedKind> kinds;
  for (const QuantisedKind& kind : quantised_kinds(32, kCols)) {
    if (kind.name.find(only) != std::string::npos) kinds.push_back(kind);
  }
  const bool has_bf16 = cpu::find_matmul(*context.device->kernels, SE_BF16, SE_CODE_U4) != nullptr;
  for (const bool are_coded : {false, true})
    bench_subjects(context, has_bf16 ? SE_BF16 : SE_F32, are_coded, kinds);
}

}  // namespace native_test
