// Matrices from typed arrays: strides, dtypes, fused halves, and the rows that a backend packs
// together.
#include "engine/store_matrix.h"

#include <doctest/doctest.h>

#include <cstring>

#include "fixture.h"

using namespace engine_test;

namespace {

// Element (r, c) of a matrix in the device's memory.
float element(const uint8_t* matrix, int64_t row, int64_t col, int64_t cols) {
  float value = 0;
  std::memcpy(&value, matrix + (row * cols + col) * sizeof value, sizeof value);
  return value;
}

std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

const uint8_t* bytes_of(const std::vector<float>& values) {
  return reinterpret_cast<const uint8_t*>(values.data());
}

}  // namespace

TEST_SUITE_BEGIN("store matrix");

TEST_CASE("strides, negative ones too, say where an element is") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const MatrixSlot slot = layer->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kUp);
  const auto values = counting(8 * 6);
  const auto store = [&](int64_t offset, int64_t row_stride, int64_t col_stride) {
    store_matrix(*executor, {bytes_of(values) + offset * 4, SE_F32, row_stride, col_stride}, slot);
  };
  store(0, 6, 1);
  CHECK(element(slot.data, 7, 5, 6) == 47);
  store(0, 1, 8);
  CHECK(element(slot.data, 3, 2, 6) == 3 + 2 * 8);
  store(47, -6, -1);
  CHECK(element(slot.data, 0, 0, 6) == 47);
  CHECK(element(slot.data, 7, 4, 6) == 1);
}

TEST_CASE("values are rounded to the format that the backend holds") {
  for (const bool converts : {false, true}) {
    CAPTURE(converts);
    Stub stub;
    stub.converts_to_bf16 = converts;
    const auto executor = make_executor();
    LayerDescription description = small_layer();
    description.dtype = converts ? SE_F32 : SE_BF16;
    const auto layer = LayerState::create(description, executor);
    const MatrixSlot slot = layer->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kDown);
    const std::vector<float> values(6 * 8, 1.00390625F);  // halfway: rounds to even, 1
    store_matrix(*executor, {bytes_of(values), SE_F32, 8, 1}, slot);
    uint16_t stored = 0;
    std::memcpy(&stored, slot.data + (6 * 8 - 1) * 2, 2);
    CHECK(stored == 0x3f80);
  }
}

TEST_CASE("fused gate and up come apart, in halves or in alternate rows") {
  for (const bool interleaved : {false, true}) {
    for (const int64_t granule : {0, 4}) {
      CAPTURE(interleaved);
      CAPTURE(granule);
      Stub stub;
      stub.granule = granule;
      const auto executor = make_executor();
      LayerDescription description = small_layer();
      description.gate_up_interleaved = interleaved;
      const auto layer = LayerState::create(description, executor);
      const MatrixSlot slot = layer->matrix_slot(MatrixRole::kExpert, 1, MatrixKind::kGateUp);
      const auto values = counting(16 * 6);
      store_matrix(*executor, {bytes_of(values), SE_F32, 6, 1}, slot);
      for (int64_t row = 0; row < 8; ++row) {
        const int64_t gate = interleaved ? 2 * row : row;
        const int64_t up = interleaved ? 2 * row + 1 : row + 8;
        CHECK(element(slot.data, row, 3, 6) == static_cast<float>(gate * 6 + 3));
        CHECK(element(slot.up_data, row, 3, 6) == static_cast<float>(up * 6 + 3));
      }
      CHECK(stub.breaches() == 0);
    }
  }
}

TEST_CASE("a long matrix goes in pieces that break no granule") {
  for (const bool is_host : {true, false}) {
    CAPTURE(is_host);
    Stub stub;
    stub.granule = 16;
    stub.is_host = is_host;
    const auto executor = make_executor();
    LayerDescription description = small_layer();
    description.intermediate_size = 1001;
    description.hidden_size = 1024;
    description.vectors = {};
    const auto layer = LayerState::create(description, executor);
    const MatrixSlot slot = layer->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kGateUp);
    const auto values = counting(2002 * 1024);
    store_matrix(*executor, {bytes_of(values), SE_F32, 1024, 1}, slot);
    CHECK(element(slot.data, 1000, 1023, 1024) == values[1000 * 1024 + 1023]);
    CHECK(element(slot.up_data, 0, 0, 1024) == values[1001 * 1024]);
    CHECK(element(slot.up_data, 1000, 1023, 1024) == values.back());
    CHECK(stub.breaches() == 0);
    zero_matrix(*executor, slot);
    CHECK(element(slot.up_data, 1000, 1023, 1024) == 0);
    CHECK(stub.breaches() == 0);
  }
}

TEST_CASE("a write that fails half-way is told") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const MatrixSlot slot = layer->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kGateUp);
  const auto values = counting(16 * 6);
  stub.fail(Call::kMatrixWrite, SE_DEVICE_LOST, 1);
  const StridedSource source = {bytes_of(values), SE_F32, 6, 1};
  const auto store = [&] { store_matrix(*executor, source, slot); };
  CHECK(failure_of(store).code == ErrorCode::kDeviceLost);
}

TEST_CASE("corners outside of the array are refused, and so are sums that overflow") {
  const auto code = [](int64_t offset, int64_t rows, int64_t cols, uint64_t length) {
    return failure_of([&] { check_inside(offset, rows, cols, length); }).code;
  };
  CHECK(code(0, 40, 7, 48) == ErrorCode::kNone);
  CHECK(code(47, -40, -7, 48) == ErrorCode::kNone);
  CHECK(code(0, 41, 7, 48) == ErrorCode::kInvalidArgument);
  CHECK(code(46, -40, -7, 48) == ErrorCode::kInvalidArgument);
  CHECK(code(-1, 1, 1, 48) == ErrorCode::kInvalidArgument);
  CHECK(code(40, -40, 8, 48) == ErrorCode::kInvalidArgument);
  CHECK(code(1, INT64_MAX, 0, UINT64_MAX) == ErrorCode::kInvalidArgument);
  CHECK(code(0, INT64_MIN, -1, UINT64_MAX) == ErrorCode::kInvalidArgument);
}

TEST_SUITE_END();
