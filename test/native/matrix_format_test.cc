// Which formats of matrices the backend holds, and what it refuses.
#include "core/matrix_format.h"

#include "cpp/check.h"
#include "cpu/backend.h"
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

TEST_CASE("a layer's own dtype is held as it is, other floats are converted to it") {
  const OpenDevice open;
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const int32_t stored : {SE_F32, SE_F16, SE_BF16}) {
      SeMatrixFormat format = float_format(stored);
      const int32_t support = open.backend->matrix_format(open.device, dtype, &format);
      CHECK(support == (stored == dtype ? SE_FORMAT_AS_IS : SE_FORMAT_CONVERTED));
      CHECK(format.code == float_format(dtype).code);
      CHECK(sparse_experts::is_float_format(format));
    }
  }
}

TEST_CASE("what is no float is not held") {
  const OpenDevice open;
  SeMatrixFormat unknown = float_format(SE_F32);
  unknown.code = 99;
  CHECK(open.backend->matrix_format(open.device, SE_F32, &unknown) == SE_FORMAT_NO);
  CHECK(unknown.code == 99);
  SeMatrixFormat scaled = float_format(SE_F32);
  scaled.scale = 1;
  CHECK(open.backend->matrix_format(open.device, SE_F32, &scaled) == SE_FORMAT_NO);
}

TEST_CASE("a layer opens with tables of its own format alone") {
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
  const SeMatrixFormat other = float_format(dtype == SE_F32 ? SE_BF16 : SE_F32);
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
