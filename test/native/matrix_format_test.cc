// Which formats of matrices the backend holds, and what it refuses.
#include "core/matrix_format.h"

#include <cstring>

#include "cpp/check.h"
#include "cpu/backend.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"
#include "oracle/code_rows_rules.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

using sparse_experts::float_format;

TEST_SUITE_BEGIN("matrix_format");

class OpenDevice {
 public:
  OpenDevice() {
    SeStatus status{};
    REQUIRE(backend->device_open(0, &device, &status) == SE_OK);
  }
  ~OpenDevice() { backend->device_close(device); }

  const SeBackend* backend = sparse_experts::cpu_backend();
  SeDevice* device = nullptr;
};

TEST_CASE("floats are held as they are where that costs nothing, else converted") {
  const OpenDevice open;
  const bool bf16_product = sparse_experts::cpu::has_bf16_product(*current().device->kernels);
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const int32_t stored : {SE_F32, SE_F16, SE_BF16}) {
      // 16 bits instead of 16 or 32. A layer that multiplies bf16 by bf16 has bf16 alone.
      const bool is_free = dtype == SE_F32 || stored != SE_F32;
      const bool is_held = stored == dtype || (is_free && !(dtype == SE_BF16 && bf16_product));
      SeMatrixFormat format = float_format(stored);
      const int32_t support = open.backend->matrix_format(open.device, dtype, &format);
      CHECK(support == (is_held ? SE_FORMAT_AS_IS : SE_FORMAT_CONVERTED));
      CHECK(format.code == float_format(is_held ? stored : dtype).code);
      CHECK(sparse_experts::is_float_format(format));
    }
  }
}

TEST_CASE("quantised matrices are held as they are under every dtype") {
  const OpenDevice open;
  for (const QuantisedKind& kind : quantised_kinds(64, 320)) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      SeMatrixFormat format = kind.format;
      CHECK_MESSAGE(open.backend->matrix_format(open.device, dtype, &format) == SE_FORMAT_AS_IS,
                    kind.name);
      CHECK(std::memcmp(&format, &kind.format, sizeof format) == 0);
    }
  }
}

TEST_CASE("what has no panels is not held") {
  const OpenDevice open;
  const auto support = [&](SeMatrixFormat format) {
    const SeMatrixFormat asked = format;
    const int32_t answer = open.backend->matrix_format(open.device, SE_F32, &format);
    CHECK(std::memcmp(&format, &asked, sizeof format) == 0);
    return answer;
  };
  SeMatrixFormat unknown = float_format(SE_F32);
  unknown.code = 99;
  CHECK(support(unknown) == SE_FORMAT_NO);
  SeMatrixFormat scaled = float_format(SE_F32);
  scaled.scale = 1;
  CHECK(support(scaled) == SE_FORMAT_NO);
  const SeMatrixFormat q4_k = {SE_CODE_U4, SE_TABLE_Q, SE_SCALE_U8, SE_OFFSET_U8, 1, 32, 256, 0};
  CHECK(support(q4_k) == SE_FORMAT_AS_IS);
  SeMatrixFormat other = q4_k;
  other.flags = SE_FORMAT_PERMUTED;
  CHECK(support(other) == SE_FORMAT_AS_IS);
  other.flags = SE_FORMAT_GLOBAL_MULTIPLIES | SE_FORMAT_GLOBAL_DIVIDES;
  CHECK(support(other) == SE_FORMAT_NO);
  other = q4_k;
  other.super_cols = 512;
  CHECK(support(other) == SE_FORMAT_NO);
  other = q4_k;
  other.table = SE_TABLE_NONE;
  CHECK(support(other) == SE_FORMAT_NO);
}

TEST_CASE("a matrix is not written without what its format has") {
  const OpenDevice open;
  Random random(1);
  const SeMatrixFormat q4_k = {SE_CODE_U4, SE_TABLE_Q, SE_SCALE_U8, SE_OFFSET_U8, 1, 32, 256, 0};
  const QuantisedMatrix matrix(q4_k, 5, 256, Scales::kUsual, &random);
  std::vector<char> memory(open.backend->matrix_bytes(open.device, 5, 256, SE_F32, &q4_k));
  const SeMatrixRows complete = matrix.rows_of(0, 5, SE_F32, memory.data());
  const auto write = [&](const SeMatrixRows& rows) {
    SeStatus status{};
    return open.backend->matrix_write(open.device, &rows, &status);
  };
  check_incomplete_rows(complete, write);
  const SeMatrixFormat ragged = {SE_CODE_I8, SE_TABLE_NONE, SE_SCALE_F16, SE_OFFSET_NONE, 1, 24, 0,
                                 0};
  const QuantisedMatrix of_24(ragged, 5, 40, Scales::kUsual, &random);
  CHECK(write(of_24.rows_of(0, 5, SE_F32, memory.data())) == SE_INVALID_ARGUMENT);
}

TEST_CASE("a layer opens with tables of formats that are held") {
  const OpenDevice open;
  LayerFixture fixture{LayerOptions()};
  const auto opens = [&] {
    SeStatus status{};
    SeLayer* layer = nullptr;
    const int32_t code =
        open.backend->layer_open(open.device, &fixture.layer, &kDefaultOptions, &layer, &status);
    if (layer != nullptr) open.backend->layer_close(layer);
    return code;
  };
  const int32_t dtype = fixture.layer.experts.dtype;
  const SeMatrixFormat own = float_format(dtype);
  SeMatrixFormat other = own;
  other.flags = SE_FORMAT_PERMUTED;
  fixture.layer.experts.down.formats = &own;
  CHECK(opens() == SE_INVALID_ARGUMENT);
  fixture.layer.experts.down.num_formats = 1;
  CHECK(opens() == SE_OK);
  fixture.layer.experts.down.formats = &other;
  CHECK(opens() == SE_INVALID_ARGUMENT);
  std::vector<uint8_t> format_of(static_cast<size_t>(fixture.layer.experts.num_experts),
                                 uint8_t{0});
  fixture.layer.experts.down.formats = &own;
  fixture.layer.experts.down.format_of = format_of.data();
  CHECK(opens() == SE_OK);
  format_of.back() = 1;
  CHECK(opens() == SE_INVALID_ARGUMENT);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
