// conformance90 [CASE | --list]
//   what the warp-group matmul counts on and only a Hopper can say, each case alone or all in turn: a wrong
//   wait never ends, so whoever runs them on a card gives each a process and a limit of time
// Ends with "N passed, M failed"; status 0 only when M is 0, 3 where the device is no Hopper.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "conformance/cases_tensor.cuh"
#include "conformance90/kernels.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"

namespace conformance90 {
namespace {

using conformance::Operands;
using conformance::Random;
using sparse_experts::cuda::encode_wg_weight_maps;
using sparse_experts::cuda::kWeightMapBytes;
using sparse_experts::cuda::WeightMatrices;
using sparse_experts::testing::DeviceArray;
using sparse_experts::testing::must;

int passed = 0;
int failed = 0;

void report(bool good, const std::string& what) {
  ++(good ? passed : failed);
  std::printf("%s %s\n", good ? "ok    " : "FAILED", what.c_str());
}

template <typename... Parameters, typename... Arguments>
void run(void (*kernel)(Parameters...), size_t shared_bytes, Arguments&&... arguments) {
  must(sparse_experts::cuda::allow_shared_bytes(kernel, shared_bytes), "shared memory");
  must(sparse_experts::cuda::launch(kernel, dim3(1), dim3(128), shared_bytes, nullptr,
                                    std::forward<Arguments>(arguments)...),
       "launch");
  must(cudaDeviceSynchronize(), "kernel");
}

bool is_nan(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

// The bits of mma.sync, and for small whole numbers those of a plain loop: any order of a sum gives them, so
// they prove where each element lies.
template <bool kBf16, int kColumns>
void check_product(const char* name, Operands operands, uint64_t seed) {
  Random random(seed);
  std::vector<uint16_t> a(kRows * kDepth);
  std::vector<uint16_t> b(kColumns * kDepth);
  for (uint16_t& bits : a)
    bits = static_cast<uint16_t>(conformance::operand<kBf16>(random, operands, true));
  for (uint16_t& bits : b)
    bits = static_cast<uint16_t>(conformance::operand<kBf16>(random, operands, false));
  if (operands == Operands::kCancelling) {
    // The second half of K takes the first half away again, but for a bit of some elements.
    for (size_t i = 0; i < b.size(); ++i)
      if (i % kDepth >= kDepth / 2) b[i] = b[i - kDepth / 2] ^ 0x8000u;
    for (size_t i = 0; i < a.size(); ++i)
      if (i % kDepth >= kDepth / 2) a[i] = a[i - kDepth / 2] ^ static_cast<uint16_t>(random.below(2));
  }
  const auto upload = [](const std::vector<uint16_t>& values) {
    std::vector<uint4> vectors(values.size() / 8);
    std::memcpy(vectors.data(), values.data(), values.size() * 2);
    return DeviceArray<uint4>(vectors);
  };
  const DeviceArray<uint4> a_on_device = upload(a);
  const DeviceArray<uint4> b_on_device = upload(b);
  const DeviceArray<float> wgmma(kRows * kColumns);
  const DeviceArray<float> mma(kRows * kColumns);
  run(product_kernel<kBf16, kColumns>, kAlignment + (kRows + kColumns) * kRowBytes,
      a_on_device.data(), b_on_device.data(), wgmma.data(), mma.data());
  const std::vector<float> out = wgmma.download();
  const std::vector<float> expected = mma.download();
  size_t other = 0;
  size_t wrong = 0;
  const conformance::model::Format format =
      kBf16 ? conformance::model::kBf16 : conformance::model::kF16;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint32_t got = conformance::model::bits_of(out[i]);
    const uint32_t wanted = conformance::model::bits_of(expected[i]);
    if (got != wanted && !(is_nan(got) && is_nan(wanted))) ++other;
    if (operands != Operands::kWhole) continue;
    double sum = 0;
    for (size_t k = 0; k < kDepth; ++k)
      sum += conformance::model::value_of(format, a[i / kColumns * kDepth + k]) *
             conformance::model::value_of(format, b[i % kColumns * kDepth + k]);
    if (static_cast<double>(out[i]) != sum) ++wrong;
  }
  report(other == 0 && wrong == 0,
         std::string("wgmma ") + (kBf16 ? "bf16" : "f16") + " n" + std::to_string(kColumns) + " " +
             name + ": " + std::to_string(other) + " of " + std::to_string(out.size()) +
             " have other bits than mma.sync, " + std::to_string(wrong) + " are wrong");
}

template <bool kBf16, int kColumns>
void check_products() {
  check_product<kBf16, kColumns>("whole numbers", Operands::kWhole, 1);
  check_product<kBf16, kColumns>("random", Operands::kRandom, 2);
  check_product<kBf16, kColumns>("cancellation", Operands::kCancelling, 3);
  check_product<kBf16, kColumns>("magnitudes", Operands::kMagnitudes, 4);
  check_product<kBf16, kColumns>("inf and NaN", Operands::kSpecial, 5);
}

void products_of_wgmma() {
  check_products<true, 64>();
  check_products<true, 128>();
  check_products<true, 192>();
  check_products<true, 256>();
  check_products<false, 64>();
  check_products<false, 256>();
}

// The box at column x and row `row` of the matrices, against what should lie in shared memory: chunk c of row
// r at c ^ r % 8, rows beyond the matrix zero.
void check_box(const std::string& name, const WeightMatrices& matrices, int64_t distance,
               const std::vector<uint16_t>& values, const DeviceArray<uint8_t>& maps, int32_t x,
               int32_t row) {
  constexpr int kBoxRows = sparse_experts::cuda::kWgTileRows;
  const DeviceArray<uint4> out(kBoxRows * kChunks);
  const BoxPlace place = {matrices.gated, x, matrices.gated ? row / 8 : row, kBoxRows * kRowBytes};
  run(box_kernel, kAlignment + kBoxRows * kRowBytes, static_cast<const void*>(maps.data()), place,
      out.data());
  const std::vector<uint4> got = out.download();
  std::vector<uint16_t> halves(got.size() * 8);
  std::memcpy(halves.data(), got.data(), got.size() * sizeof(uint4));
  size_t wrong = 0;
  for (int r = 0; r < kBoxRows; ++r) {
    // Gated: 8 rows of gate, 8 of up.
    const int64_t matrix_row = row + (matrices.gated ? r / 16 * 8 + r % 8 : r);
    const int64_t begin = (matrices.gated && r / 8 % 2 == 1 ? distance : 0) +
                          matrix_row * matrices.row_stride;
    for (int c = 0; c < kDepth; ++c) {
      const bool there = matrix_row < matrices.rows && x + c < matrices.cols;
      const uint16_t expected = there ? values[static_cast<size_t>(begin + x + c)] : uint16_t{0};
      const int at = r * kDepth + (c / 8 ^ r % 8) * 8 + c % 8;
      if (halves[static_cast<size_t>(at)] != expected) ++wrong;
    }
  }
  report(wrong == 0, name + ", column " + std::to_string(x) + ", row " + std::to_string(row) + ": " +
                         std::to_string(wrong) + " elements are wrong");
}

// One matrix, or gate and up whose first elements lie `distance` apart.
void check_boxes(const std::string& name, bool gated, int64_t rows, int64_t cols, int64_t stride,
                 int64_t distance) {
  Random random(7);
  std::vector<uint16_t> values(static_cast<size_t>(distance + rows * stride));
  for (uint16_t& bits : values) bits = static_cast<uint16_t>(1 + random.below(0x7000));
  const DeviceArray<uint16_t> memory(values);
  const void* gate = memory.data();
  const void* up = memory.data() + distance;
  const WeightMatrices matrices = {SE_BF16, 1, &gate, &up, gated, rows, cols, stride};
  std::vector<uint8_t> maps(kWeightMapBytes);
  if (!encode_wg_weight_maps(matrices, maps.data())) {
    report(false, name + ": the driver refuses the map");
    return;
  }
  const DeviceArray<uint8_t> maps_on_device(maps);
  for (const int32_t x : {0, 64}) {
    for (const int32_t row : {0, 64})
      check_box(name, matrices, distance, values, maps_on_device, x, row);
  }
}

void boxes_of_one_matrix() {
  check_boxes("one matrix", false, 200, 128, 128, 0);
  check_boxes("one matrix with ends", false, 100, 72, 80, 0);
}

void boxes_of_gate_and_up() {
  check_boxes("up behind gate", true, 128, 128, 128, 128 * 128);
  check_boxes("ends", true, 72, 72, 80, 72 * 80);
  check_boxes("rows in turn", true, 128, 96, 2 * 96, 96);
  check_boxes("a distance that no stride divides", true, 128, 128, 128, 128 * 128 + 8);
#if defined(SIMT_EMULATOR)
  check_boxes("far", true, 72, 72, 72, int64_t{1} << 20);
#else
  check_boxes("far", true, 72, 72, 72, int64_t{1} << 29);
#endif
}

struct Group {
  const char* name;
  void (*run)();
};
const Group kGroups[] = {{"products", products_of_wgmma},
                         {"boxes", boxes_of_one_matrix},
                         {"gated-boxes", boxes_of_gate_and_up}};

bool is_hopper() {
#if defined(SIMT_EMULATOR)
  return true;
#else
  cudaDeviceProp properties;
  must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.major == 9 && properties.minor == 0;
#endif
}

}  // namespace
}  // namespace conformance90

int main(int argc, char** argv) {
  using namespace conformance90;
  const std::string wanted = argc > 1 ? argv[1] : "";
  if (wanted == "--list") {
    for (const Group& group : kGroups) std::printf("%s\n", group.name);
    return 0;
  }
  if (!is_hopper()) {
    std::printf("no device of compute capability 9.0\n");
    return 3;
  }
  bool found = wanted.empty();
  for (const Group& group : kGroups) {
    if (!wanted.empty() && wanted != group.name) continue;
    found = true;
    group.run();
  }
  if (!found) {
    std::fprintf(stderr, "conformance90: no case %s: --list names them\n", wanted.c_str());
    return 2;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
