// Whole layers whose experts are held as stored codes: against the oracle, the rules about bits, and what
// is refused.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cases.h"
#include "core/dtype.h"
#include "cpp/check.h"
#include "cuda/context.h"
#include "cuda/device_layer.h"
#include "oracle/code_rows_rules.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("stored_layers");

const SeBackend& backend() { return *se_backend_entry(); }

LayerOptions options_of(int32_t dtype) {
  LayerOptions options;
  options.hidden_size = 320;
  options.intermediate = 144;
  options.num_experts = 4;
  options.dtype = dtype;
  return options;
}

// By the number of a kind, whose format depends on the matrix where a scale belongs to a row.
void quantise(LayerFixture* fixture, size_t gate_up, size_t down) {
  for (SeExperts* experts : {&fixture->layer.experts, &fixture->layer.shared}) {
    if (experts->num_experts == 0) continue;
    for (SeMatrixTable* table : {&experts->gate, &experts->up, &experts->down}) {
      if (table->data == nullptr) continue;
      const size_t kind = table == &experts->down ? down : gate_up;
      fixture->quantise(table, experts->num_experts,
                        {quantised_kinds(table->rows, table->cols)[kind].format});
    }
  }
}

std::string name_of(size_t kind) { return quantised_kinds(1, 1)[kind].name; }

ForwardResult check_layer(SeDevice* device, const LayerFixture& fixture, int64_t num_tokens,
                          const std::string& what) {
  // Rows that the dtype holds: what rounding them costs a layer is not a matter of its weights.
  Random random(static_cast<uint64_t>(8 + num_tokens));
  const int32_t dtype = fixture.layer.experts.dtype;
  const int64_t count = num_tokens * fixture.layer.hidden_size;
  const std::vector<char> rounded = random_bytes(&random, count, dtype, 1);
  std::vector<char> hidden(static_cast<size_t>(count) * sizeof(float));
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(element(rounded.data(), dtype, i));
    std::memcpy(hidden.data() + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }
  const ForwardCall call(fixture, hidden, SE_F32);
  const DeviceLayer layer(device, fixture.layer, 0, fixture.quantised);
  ForwardResult result = run_on_device(layer, call);
  const std::string name = what + " T=" + std::to_string(num_tokens);
  if (CHECK_MESSAGE(result.code == SE_OK, name, ": ", std::string(result.status.message)))
    check_close(
        result.values(SE_F32),
        oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
        layer_bound(dtype), name);
  return result;
}

TEST_CASE("layers of every kind against the oracle") {
  OpenDevice device;
  for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
    for (const int32_t dtype : {SE_BF16, SE_F16}) {
      LayerFixture fixture(options_of(dtype));
      quantise(&fixture, kind, kind);
      for (const int64_t num_tokens : {1, 9}) {
        check_layer(device.get(), fixture, num_tokens, name_of(kind));
        if (!is_first_schedule()) break;
      }
    }
  }
}

// Every activation, bias, shared experts of the same code and of another, a latent space, weighted inputs.
TEST_CASE("what a family asks for beside the matrices") {
  OpenDevice device;
  for (int32_t kind = SE_SILU; kind <= SE_SITU; ++kind) {
    LayerOptions options = options_of(kind % 2 == 0 ? SE_BF16 : SE_F16);
    const bool gated = kind % 3 != 2;
    options.activation = {kind, gated, 1.0f, 0.0f, gated && kind % 2 == 0 ? 3.0f : 0.0f, 0.0f};
    options.biases = kind % 2 != 0;
    options.weight_on_input = kind == SE_GELU;
    options.shared = kind == SE_RELU ? 0 : 96;
    options.seed = static_cast<uint64_t>(40 + kind);
    LayerFixture fixture(options);
    quantise(&fixture, 13, 18);
    if (kind ==
        SE_GELU_TANH) {  // another code than the routed experts', and so a launch of its own
      SeExperts& shared = fixture.layer.shared;
      for (SeMatrixTable* table : {&shared.gate, &shared.up})
        fixture.quantise(table, 1, {quantised_kinds(table->rows, table->cols)[1].format});
    }
    for (const int64_t num_tokens : {1, 40})
      check_layer(device.get(), fixture, num_tokens, "activation " + std::to_string(kind));
  }
  LayerOptions options = options_of(SE_BF16);
  options.latent = 96;
  LayerFixture fixture(options);
  quantise(&fixture, 2, 3);
  fixture.quantise(&fixture.layer.latent_down, 1, {quantised_kinds(96, 320)[31].format});
  fixture.quantise(&fixture.layer.latent_up, 1, {quantised_kinds(320, 96)[5].format});
  for (const int64_t num_tokens : {1, 17})
    check_layer(device.get(), fixture, num_tokens, "latent projections");
}

// Shared experts whose dtype's rows are floats, beside routed ones of codes.
TEST_CASE("some matrices are codes and others rows") {
  OpenDevice device;
  LayerOptions options = options_of(SE_BF16);
  options.shared = 64;
  LayerFixture fixture(options);
  SeExperts& experts = fixture.layer.experts;
  for (SeMatrixTable* table : {&experts.gate, &experts.up})
    fixture.quantise(table, experts.num_experts, {quantised_kinds(144, 320)[2].format});
  for (const int64_t num_tokens : {1, 24, 200})
    check_layer(device.get(), fixture, num_tokens, "mixed");
}

TEST_CASE("rows do not know of each other, nor of the grid") {
  OpenDevice device;
  for (const size_t kind : {size_t{3}, size_t{15}, size_t{31}}) {
    LayerFixture fixture(options_of(SE_BF16));
    quantise(&fixture, kind, kind);
    const int64_t width = fixture.layer.hidden_size;
    constexpr int64_t kTokens = 41;
    const std::vector<char> hidden = random_bytes(&fixture.random, kTokens * width, SE_F32, 1);
    const DeviceLayer layer(device.get(), fixture.layer, 0, fixture.quantised);
    const ForwardResult batch = run_on_device(layer, ForwardCall(fixture, hidden, SE_F32));
    CHECK_MESSAGE(batch.code == SE_OK, name_of(kind), ": ", std::string(batch.status.message));
    const auto row_bytes = static_cast<size_t>(width) * sizeof(float);
    for (const size_t row : {size_t{0}, size_t{7}, size_t{40}}) {
      const auto from = [&](const std::vector<char>& rows) {
        return std::vector<char>(rows.begin() + static_cast<int64_t>(row * row_bytes),
                                 rows.begin() + static_cast<int64_t>((row + 1) * row_bytes));
      };
      const std::vector<char> alone = from(hidden);
      const ForwardResult one = run_on_device(layer, ForwardCall(fixture, alone, SE_F32));
      check_same_bits(one.output, from(batch.output), name_of(kind) + ": a row alone");
    }
  }
}

TEST_CASE("matrices of one matmul have one format") {
  OpenDevice device;
  const auto refused = [&](const LayerFixture& fixture, const char* why) {
    const DeviceLayer layer(device.get(), fixture.layer, 0, fixture.quantised);
    CHECK_MESSAGE(layer.code == SE_INVALID_ARGUMENT, why);
    CHECK_MESSAGE(std::string(layer.status.message).find(why) != std::string::npos,
                  std::string(layer.status.message));
  };
  {
    LayerFixture fixture(options_of(SE_BF16));
    quantise(&fixture, 5, 5);
    SeMatrixTable& up = fixture.layer.experts.up;
    fixture.quantise(&up, 4, {quantised_kinds(up.rows, up.cols)[6].format});
    refused(fixture, "gate and up must have one format");
  }
  {
    LayerFixture fixture(options_of(SE_BF16));
    quantise(&fixture, 5, 5);
    SeMatrixTable& down = fixture.layer.experts.down;
    const auto kinds = quantised_kinds(down.rows, down.cols);
    fixture.quantise(&down, 4, {kinds[5].format, kinds[18].format});
    refused(fixture, "the matrices of all experts must have one format");
  }
  {
    LayerFixture fixture(options_of(SE_F32));
    quantise(&fixture, 5, 5);
    refused(fixture, "not computed in place");
  }
}

TEST_CASE("a matrix without its scales is refused") {
  OpenDevice device;
  Random random(3);
  const QuantisedMatrix matrix(quantised_kinds(8, 64)[13].format, 8, 64, Scales::kUsual, &random);
  const DeviceMemory memory(device.get(),
                            backend().matrix_bytes(device.get(), 8, 64, SE_BF16, &matrix.format));
  const SeMatrixRows rows = matrix.rows_of(0, 8, SE_BF16, memory.as<>());
  check_incomplete_rows(rows, [&](const SeMatrixRows& other) {
    SeStatus status{};
    return backend().matrix_write(device.get(), &other, &status);
  });
}

}  // namespace
}  // namespace native_test
