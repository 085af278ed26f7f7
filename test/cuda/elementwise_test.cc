// Conversions, scaled gathers, pointer tables and the checks of contents: every result exactly.
#include "cuda/ops/elementwise.h"

#include <algorithm>

#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/ops/content_checks.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("elementwise");

using sparse_experts::cuda::ConvertArgs;
using sparse_experts::cuda::launch_check_offsets;
using sparse_experts::cuda::launch_check_range;
using sparse_experts::cuda::launch_check_row_top_k;
using sparse_experts::cuda::launch_check_slots;
using sparse_experts::cuda::launch_convert;
using sparse_experts::cuda::launch_fill_table;
using sparse_experts::cuda::launch_scale_rows;
using sparse_experts::cuda::ScaleRowsArgs;

constexpr int32_t kFloatDtypes[] = {SE_F32, SE_F16, SE_BF16};
constexpr int64_t kNoFault = INT64_MAX;

bool is_poison(const std::vector<uint8_t>& bytes, int64_t first, int64_t count) {
  return std::all_of(bytes.begin() + first, bytes.begin() + first + count,
                     [](uint8_t byte) { return byte == 0xFF; });
}

// ---- convert ----------------------------------------------------------------------------------

void convert_case(int32_t from_dtype, int32_t to_dtype, int64_t rows, int64_t cols, int64_t pad,
                  int64_t shift) {
  const std::string what = std::string("convert ") + dtype_name(from_dtype) + " to " +
                           dtype_name(to_dtype) + ", " + std::to_string(rows) + " x " +
                           std::to_string(cols) + ", pad " + std::to_string(pad) + ", shift " +
                           std::to_string(shift);
  Random random(static_cast<uint64_t>(rows * 10000 + cols * 10 + pad + shift));
  const int64_t stride = cols + pad;
  std::vector<double> values =
      random_values(random, from_dtype, shift + rows * stride, from_dtype == SE_F32 ? 3e4 : 10);
  // Specials that every dtype has, in the first row.
  const double specials[] = {0.0, -0.0, INFINITY, -INFINITY, 65504, -65520, 6e-8, 3e-5};
  for (int64_t i = 0; i < std::min<int64_t>(cols, 8); ++i)
    values[static_cast<size_t>(shift + i)] = rounded(from_dtype, {specials[i]})[0];
  const int64_t from_element = dtype_bytes(from_dtype);
  const int64_t to_element = dtype_bytes(to_dtype);
  DeviceArray<uint8_t> from(encode(from_dtype, values));
  DeviceArray<uint8_t> to((shift + rows * stride) * to_element);
  const ConvertArgs args = {from.data() + shift * from_element,
                            from_dtype,
                            stride,
                            to.data() + shift * to_element,
                            to_dtype,
                            stride,
                            rows,
                            cols};
  if (!synced(launch_convert(args, nullptr), what)) return;
  const std::vector<uint8_t> expected = encode(to_dtype, values);
  const std::vector<uint8_t> out = to.download();
  Every exact;
  bool untouched = is_poison(out, 0, shift * to_element);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first = (shift + row * stride) * to_element;
    const int64_t end = first + cols * to_element;
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(end); ++i)
      exact.equal(int{out[i]}, int{expected[i]});
    untouched = untouched && is_poison(out, end, pad * to_element);
  }
  exact.check(what);
  CHECK_MESSAGE(untouched, what, ": writes nothing else");
}

TEST_CASE("convert") {
  for (const int32_t from : kFloatDtypes) {
    for (const int32_t to : kFloatDtypes) {
      convert_case(from, to, 5, 64, 0, 0);
      convert_case(from, to, 5, 64, 8, 0);
      convert_case(from, to, 5, 64, 4, 0);
      convert_case(from, to, 5, 64, 0, 1);
      convert_case(from, to, 7, 17, 0, 0);
      convert_case(from, to, 7, 17, 2, 3);
      convert_case(from, to, 1, 8, 3, 0);
    }
  }
  for (const int64_t cols : {1, 8, 17, 31, 96, 160, 192, 704, 1407, 2880})
    convert_case(SE_F32, SE_BF16, 3, cols, cols % 2, 0);
  for (const int64_t rows : {1, 7, 9, 33, 130}) convert_case(SE_F16, SE_F32, rows, 24, 8, 0);
  // More rows than a grid has in y, and more columns than one block takes.
  convert_case(SE_BF16, SE_F32, 65536 + 3, 1, 1, 0);
  convert_case(SE_F32, SE_F16, 1, 70000, 0, 0);
  // NaN stays NaN.
  DeviceArray<float> from(std::vector<float>{std::nanf(""), -std::nanf("1"), 1.0f});
  DeviceArray<uint8_t> to(6);
  const ConvertArgs args = {from, SE_F32, 3, to, SE_BF16, 3, 1, 3};
  if (synced(launch_convert(args, nullptr), "convert NaN")) {
    const std::vector<double> out = decode(SE_BF16, to.download());
    CHECK_MESSAGE(std::isnan(out[0]), "convert NaN");
    CHECK_MESSAGE(std::isnan(out[1]), "convert NaN");
    CHECK_MESSAGE(out[2] == 1.0, "convert NaN");
  }
  ConvertArgs none = args;
  none.rows = 0;
  CHECK_MESSAGE(launch_convert(none, nullptr) == cudaSuccess, "convert: no rows");
  none.rows = 1;
  none.to_dtype = SE_I32;
  CHECK_MESSAGE(launch_convert(none, nullptr) == cudaErrorInvalidValue, "convert: no such dtype");
}

// ---- scale_rows -------------------------------------------------------------------------------

void scale_case(int32_t dtype, int64_t tokens, int64_t top_k, int64_t cols, int64_t pad,
                int64_t shift) {
  const std::string what = std::string("scale_rows ") + dtype_name(dtype) + ", " +
                           std::to_string(tokens) + " x " + std::to_string(top_k) + " x " +
                           std::to_string(cols) + ", pad " + std::to_string(pad) + ", shift " +
                           std::to_string(shift);
  Random random(static_cast<uint64_t>(tokens * 1000 + cols + pad + 7 * top_k));
  const int64_t num_slots = tokens * top_k;
  const int64_t stride = cols + pad;
  const int64_t element = dtype_bytes(dtype);
  std::vector<double> values = random_values(random, dtype, shift + tokens * stride);
  std::vector<float> weights = random_array<float>(random, num_slots);
  std::vector<int32_t> slots;
  std::vector<bool> used(static_cast<size_t>(tokens), false);
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    if (random.uniform() < 0.3) continue;
    slots.insert(slots.begin() + random.below(static_cast<int64_t>(slots.size()) + 1),
                 static_cast<int32_t>(slot));
    used[static_cast<size_t>(slot / top_k)] = true;
  }
  for (int64_t token = 0; token < tokens; ++token) {
    if (!used[static_cast<size_t>(token)])
      std::fill_n(values.begin() + shift + token * stride, stride, std::nan(""));
  }
  const int64_t listed = static_cast<int64_t>(slots.size());
  slots.resize(static_cast<size_t>(num_slots), -1);
  std::vector<double> expected;
  for (int64_t i = 0; i < listed; ++i) {
    const int64_t slot = slots[static_cast<size_t>(i)];
    for (int64_t column = 0; column < cols; ++column)
      expected.push_back(static_cast<double>(
          weights[static_cast<size_t>(slot)] *
          static_cast<float>(values[static_cast<size_t>(shift + slot / top_k * stride + column)])));
  }
  DeviceArray<uint8_t> from(encode(dtype, values));
  DeviceArray<uint8_t> to((shift + num_slots * cols) * element);
  DeviceArray<float> scales(weights);
  DeviceArray<int32_t> sorted_slots(slots);
  DeviceArray<int32_t> num_sorted(std::vector<int32_t>{static_cast<int32_t>(listed)});
  const ScaleRowsArgs args = {from.data() + shift * element,
                              stride,
                              to.data() + shift * element,
                              dtype,
                              scales,
                              sorted_slots,
                              num_sorted,
                              num_slots,
                              top_k,
                              cols};
  if (!synced(launch_scale_rows(args, nullptr), what)) return;
  const std::vector<uint8_t> out = to.download();
  const std::vector<uint8_t> wanted = encode(dtype, expected);
  CHECK_MESSAGE(std::equal(wanted.begin(), wanted.end(), out.begin() + shift * element), what);
  CHECK_MESSAGE(is_poison(out, 0, shift * element), what, ": writes nothing else");
  CHECK_MESSAGE(
      is_poison(out, (shift + listed * cols) * element, (num_slots - listed) * cols * element),
      what, ": writes nothing else");
}

TEST_CASE("scale rows") {
  for (const int32_t dtype : kFloatDtypes) {
    scale_case(dtype, 9, 2, 64, 0, 0);
    scale_case(dtype, 9, 2, 64, 8, 0);
    scale_case(dtype, 9, 2, 64, 1, 0);
    scale_case(dtype, 9, 2, 64, 0, 1);
    scale_case(dtype, 33, 1, 17, 0, 0);
    for (const int64_t cols : {1, 31, 160, 2880}) scale_case(dtype, 3, 3, cols, 0, 0);
  }
  scale_case(SE_BF16, 65540, 1, 1, 0, 0);
  ScaleRowsArgs none = {};
  CHECK_MESSAGE(launch_scale_rows(none, nullptr) == cudaSuccess, "scale_rows: no slots");
}

// ---- fill_table -------------------------------------------------------------------------------

TEST_CASE("fill table") {
  for (const int64_t count : {1, 255, 256, 257, 1000}) {
    const std::string what = "fill_table " + std::to_string(count);
    DeviceArray<const void*> table(count + 1);
    char* base = reinterpret_cast<char*>(uintptr_t{0x10000});
    const int64_t stride = (int64_t{1} << 33) + 6;  // beyond 32 bits
    if (!synced(launch_fill_table(base, stride, count, table, nullptr), what)) continue;
    const std::vector<const void*> out = table.download();
    const auto address = [&](int64_t i) {
      return reinterpret_cast<uintptr_t>(out[static_cast<size_t>(i)]);
    };
    Every exact;
    for (int64_t i = 0; i < count; ++i)
      exact.equal(address(i), reinterpret_cast<uintptr_t>(base + i * stride));
    exact.equal(address(count), UINTPTR_MAX);
    exact.check(what);
  }
  CHECK_MESSAGE(launch_fill_table(nullptr, 1, 0, nullptr, nullptr) == cudaSuccess,
                "fill_table: nothing");
}

// ---- checks -----------------------------------------------------------------------------------

// Launches a check and returns what it leaves, starting with `before`.
template <typename Launch>
int64_t fault_of(const std::string& what, const Launch& launch, int64_t before = kNoFault) {
  DeviceArray<int64_t> fault(std::vector<int64_t>{before});
  if (!synced(launch(fault.data()), what)) return -1;
  return fault.download()[0];
}

void expect_fault(int64_t found, int64_t expected, const std::string& what) {
  CHECK_MESSAGE(found == expected, what, ": found ", found, ", expected ", expected);
}

TEST_CASE("range") {
  for (const int64_t count : {1, 31, 1023, 1024, 1025, 5000}) {
    const std::string what = "check_range " + std::to_string(count);
    Random random(static_cast<uint64_t>(7000 + count));
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (int32_t& value : values) value = static_cast<int32_t>(random.below(65)) - 1;
    const auto run = [&](int64_t before = kNoFault) {
      DeviceArray<int32_t> array(values);
      return fault_of(
          what,
          [&](int64_t* fault) { return launch_check_range(array, count, -1, 63, fault, nullptr); },
          before);
    };
    expect_fault(run(), kNoFault, what + ", good");
    expect_fault(run(12), 12, what + ", good, an earlier fault stays");
    values[static_cast<size_t>(count - 1)] = 64;
    expect_fault(run(), count - 1, what + ", the last");
    expect_fault(run(count), count - 1, what + ", below an earlier one");
    expect_fault(run(0), 0, what + ", above an earlier one");
    for (int64_t i = count / 3; i < count; ++i)
      values[static_cast<size_t>(i)] = i % 2 == 0 ? INT32_MIN : INT32_MAX;
    expect_fault(run(), count / 3, what + ", many");
    values[0] = -2;
    expect_fault(run(), 0, what + ", the first");
  }
  CHECK_MESSAGE(launch_check_range(nullptr, 0, 0, 0, nullptr, nullptr) == cudaSuccess,
                "check_range: nothing");
}

TEST_CASE("row top k") {
  std::vector<uint8_t> values(3000, 8);
  values[0] = 0;
  const auto run = [&] {
    DeviceArray<uint8_t> array(values);
    return fault_of("check_row_top_k", [&](int64_t* fault) {
      return launch_check_row_top_k(array, 3000, 8, fault, nullptr);
    });
  };
  expect_fault(run(), kNoFault, "check_row_top_k, good");
  values[2999] = 255;
  expect_fault(run(), 2999, "check_row_top_k, the last");
  values[1500] = 9;
  expect_fault(run(), 1500, "check_row_top_k, the least");
  CHECK_MESSAGE(launch_check_row_top_k(nullptr, 0, 0, nullptr, nullptr) == cudaSuccess,
                "check_row_top_k: nothing");
}

TEST_CASE("offsets") {
  const auto run = [](const std::vector<int32_t>& offsets, int64_t num_slots) {
    DeviceArray<int32_t> array(offsets);
    return fault_of("check_offsets", [&](int64_t* fault) {
      return launch_check_offsets(array, static_cast<int64_t>(offsets.size()) - 1, num_slots, fault,
                                  nullptr);
    });
  };
  expect_fault(run({0, 2, 2, 7}, 7), kNoFault, "check_offsets, good");
  expect_fault(run({0, 0, 0, 0}, 0), kNoFault, "check_offsets, empty");
  expect_fault(run({1, 2, 2, 7}, 7), 0, "check_offsets, not from 0");
  expect_fault(run({-1, 2, 2, 7}, 7), 0, "check_offsets, from below 0");
  expect_fault(run({0, 3, 2, 7}, 7), 2, "check_offsets, falls");
  expect_fault(run({0, 2, 2, 8}, 7), 3, "check_offsets, too many");
  expect_fault(run({0, INT32_MAX, INT32_MIN, 7}, 7), 2, "check_offsets, wild");
  std::vector<int32_t> many(2001);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int32_t>(3 * i);
  expect_fault(run(many, 6000), kNoFault, "check_offsets, many");
  expect_fault(run(many, 5999), 2000, "check_offsets, many, too many");
  many[700] = 0;
  expect_fault(run(many, 6000), 700, "check_offsets, many, falls");
}

TEST_CASE("slots") {
  std::vector<int32_t> slots(1500);
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(slots.size() - 1 - i);
  const auto run = [&](int32_t listed) {
    DeviceArray<int32_t> array(slots);
    DeviceArray<int32_t> num_listed(std::vector<int32_t>{listed});
    return fault_of("check_slots", [&](int64_t* fault) {
      return launch_check_slots(array, num_listed, 1500, fault, nullptr);
    });
  };
  expect_fault(run(1500), kNoFault, "check_slots, good");
  slots[1200] = -1;
  expect_fault(run(1200), kNoFault, "check_slots, behind the list");
  expect_fault(run(1201), 1200, "check_slots, the last listed");
  expect_fault(run(INT32_MAX), 1200, "check_slots, a list longer than the slots");
  expect_fault(run(-5), kNoFault, "check_slots, a list of less than none");
  slots[40] = 1500;
  expect_fault(run(1500), 40, "check_slots, too large");
  CHECK_MESSAGE(launch_check_slots(nullptr, nullptr, 0, nullptr, nullptr) == cudaSuccess,
                "check_slots: nothing");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
