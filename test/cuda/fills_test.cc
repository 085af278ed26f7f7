// Experts that come by copies which nobody waits for.
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "core/numeric.h"
#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "cuda/one_token.h"
#include "cuda/runs_layer.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

const SeBackend& backend() { return *se_backend_entry(); }

// Page-locked memory for the length of a scope.
class Pinned {
 public:
  Pinned(SeDevice* device, uint64_t bytes) : device_(device), bytes_(bytes) {
    SeStatus status{};
    REQUIRE(backend().pinned_allocate(device_, bytes_, &data_, &status) == SE_OK);
  }
  ~Pinned() { backend().pinned_free(device_, data_, bytes_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  SeDevice* device_;
  void* data_ = nullptr;
  uint64_t bytes_;
};

// Where the matrices of an expert lie in a block.
struct BlockPlan {
  uint64_t gate = 0;
  uint64_t up = 0;
  uint64_t down = 0;
  uint64_t bytes = 0;

  explicit BlockPlan(const SeExperts& experts) {
    const auto place = [&](const SeMatrixTable& table) {
      const int64_t matrix = table.rows * table.cols * sparse_experts::dtype_bytes(experts.dtype);
      const uint64_t at = bytes;
      bytes += sparse_experts::round_up(static_cast<uint64_t>(matrix), uint64_t{64});
      return at;
    };
    gate = place(experts.gate);
    up = place(experts.up);
    down = place(experts.down);
  }
  SeExpertMatrices in(const char* block) const { return {block + gate, block + up, block + down}; }
};

// By matrix_write, in two runs of rows, from rows that lie apart.
void write_matrix(SeDevice* device, const SeMatrixTable& table, int32_t dtype, const void* from,
                  char* to) {
  const SeMatrixFormat format = sparse_experts::float_format(dtype);
  const int64_t element = sparse_experts::dtype_bytes(dtype);
  const int64_t stride = table.cols + 3;
  std::vector<char> apart(static_cast<size_t>(table.rows * stride * element), '\xff');
  for (int64_t row = 0; row < table.rows; ++row)
    std::memcpy(apart.data() + row * stride * element,
                static_cast<const char*>(from) + row * table.row_stride * element,
                static_cast<size_t>(table.cols * element));
  SeMatrixRows rows{};
  rows.matrix = to;
  rows.is_pinned = 1;
  rows.rows = table.rows;
  rows.cols = table.cols;
  rows.dtype = dtype;
  rows.format = &format;
  rows.source_stride = stride;
  rows.global = 1;
  SeStatus status{};
  for (const int64_t first : {int64_t{0}, table.rows / 2}) {
    rows.first_row = first;
    rows.num_rows = first == 0 ? table.rows / 2 : table.rows - table.rows / 2;
    rows.source = apart.data() + first * stride * element;
    CHECK(backend().matrix_write(device, &rows, &status) == SE_OK);
  }
}

// The layer of a token, its two experts in memory of the host.
struct HostExperts {
  OneToken one;
  const SeExperts& host = one.fixture.layer.experts;
  const BlockPlan plan{host};
  Pinned memory{one.device.get(), 2 * plan.bytes};
  std::vector<DeviceMemory> blocks;
  SeStatus status{};

  HostExperts() {
    for (size_t i = 0; i < 2; ++i) {
      const int32_t e = one.needed[i];
      char* const block = from(i);
      std::memset(block, 0xff, plan.bytes);
      write_matrix(one.device.get(), host.gate, host.dtype, host.gate.data[e], block + plan.gate);
      write_matrix(one.device.get(), host.up, host.dtype, host.up.data[e], block + plan.up);
      write_matrix(one.device.get(), host.down, host.dtype, host.down.data[e], block + plan.down);
      blocks.emplace_back(one.device.get(), plan.bytes);
    }
  }
  char* from(size_t i) const { return memory.data() + i * plan.bytes; }
  // Needed expert i into a block.
  int32_t fill(size_t i, size_t block) {
    return backend().fill_begin(one.device.get(), blocks[block].as<>(), from(i), plan.bytes,
                                &status);
  }
  int32_t place(size_t i, size_t block) {
    return one.layer.set({one.needed[i]}, {plan.in(blocks[block].as<char>())});
  }
};

TEST_CASE("kernels come behind the copies before them" * doctest::test_suite("abi")) {
  HostExperts of;
  OneToken& one = of.one;
  for (const size_t shift : {0, 1}) {
    for (const size_t i : {0, 1}) {
      CHECK(of.fill(i, i ^ shift) == SE_OK);
      CHECK(of.place(i, i ^ shift) == SE_OK);
      CHECK(one.compute({one.needed[i]}) == SE_OK);
    }
    CHECK(one.finish() == SE_OK);
    one.check_result("experts by copies");
    // The sources may be written to now: what was copied has been copied.
    const std::vector<char> kept(of.memory.data(), of.memory.data() + 2 * of.plan.bytes);
    std::memset(of.memory.data(), 0xff, 2 * of.plan.bytes);
    one.end();
    one.begin_wave();
    CHECK(one.compute(one.needed) == SE_OK);
    CHECK(one.finish() == SE_OK);
    one.check_result("experts that stayed");
    std::memcpy(of.memory.data(), kept.data(), kept.size());
    // Next into the other's block.
    CHECK(one.layer.set(one.needed, {{}, {}}) == SE_OK);
    one.end();
    one.begin_wave();
  }
}

TEST_CASE("a block that is taken away is read no more" * doctest::test_suite("abi")) {
  HostExperts of;
  OneToken& one = of.one;
  for (const size_t i : {0, 1}) {
    CHECK(of.fill(i, 0) == SE_OK);
    CHECK(of.place(i, 0) == SE_OK);
    CHECK(one.compute({one.needed[i]}) == SE_OK);
    CHECK(one.layer.set({one.needed[i]}, {{}}) == SE_OK);
  }
  CHECK(one.finish() == SE_OK);
  one.check_result("one block for two experts");
}

TEST_CASE("copies can be waited for, and are counted" * doctest::test_suite("abi")) {
  HostExperts of;
  const OneToken& one = of.one;
  CHECK(backend().fill_wait(one.device.get(), &of.status) == SE_OK);
  const SeDeviceCounters before = one.device.counters();
  CHECK(before.pinned_bytes >= 2 * of.plan.bytes);
  CHECK(of.fill(0, 0) == SE_OK);
  CHECK(backend().fill_wait(one.device.get(), &of.status) == SE_OK);
  const std::vector<char> expected(of.from(0), of.from(0) + of.plan.bytes);
  check_same_bits(of.blocks[0].download(), expected, "what was copied");
  CHECK(one.device.counters().copied_to_device_bytes ==
        before.copied_to_device_bytes + of.plan.bytes);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
