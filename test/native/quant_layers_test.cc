// Whole layers whose experts are quantised: against the oracle, and the bit rules.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cases.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("quant_layers");

constexpr int64_t kHidden = 320;
constexpr int64_t kIntermediate = 144;

LayerOptions options_of(int32_t dtype) {
  LayerOptions options;
  options.hidden_size = kHidden;
  options.intermediate = kIntermediate;
  options.num_experts = 2;
  options.dtype = dtype;
  return options;
}

// Kinds by the columns that they scale: what belongs to a row has as many as the matrix.
std::vector<SeMatrixFormat> formats_of(size_t kind, int64_t cols) {
  return {quantised_kinds(kIntermediate, cols)[kind].format};
}

void quantise(LayerFixture* fixture, size_t kind) {
  SeExperts& experts = fixture->layer.experts;
  for (SeMatrixTable* table : {&experts.gate, &experts.up, &experts.down})
    fixture->quantise(table, experts.num_experts, formats_of(kind, table->cols));
}

constexpr SeLayerOptions kInt8 = {0, 1, 0};

ForwardResult forward_of(const LayerFixture& fixture, const std::vector<char>& hidden,
                         int32_t num_threads = 0, const SeLayerOptions& options = kDefaultOptions) {
  ForwardCall call(fixture, hidden, SE_F32);
  call.args.num_threads = num_threads;
  call.options = options;
  return run_forward(current().backend, current().device, fixture, call);
}

// Whether rows are rounded to bf16: elsewhere experts compute in f32, whatever the dtype.
bool rounds_rows(int32_t dtype) { return dtype == SE_BF16 && current().isa == "avx512bf16"; }

double bound_of(int32_t dtype) { return layer_bound(rounds_rows(dtype) ? SE_BF16 : SE_F32); }

void check_layer(const LayerFixture& fixture, int64_t num_tokens, const std::string& what) {
  Random random(8);
  const std::vector<char> hidden =
      random_bytes(&random, num_tokens * fixture.layer.hidden_size, SE_F32, 1);
  const ForwardResult result = forward_of(fixture, hidden);
  if (!CHECK_MESSAGE(result.code == SE_OK, what, ": ", std::string(result.status.message))) return;
  const ForwardCall call(fixture, hidden, SE_F32);
  check_close(
      result.values(SE_F32),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      bound_of(fixture.layer.experts.dtype), what + " T=" + std::to_string(num_tokens));
}

TEST_CASE("layers of every kind against the oracle") {
  for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      LayerFixture fixture(options_of(dtype));
      quantise(&fixture, kind);
      const std::string name = quantised_kinds(1, 1)[kind].name;
      for (const int64_t num_tokens : {1, 9}) check_layer(fixture, num_tokens, name);
    }
  }
}

// Each expert another format, and each matrix of an expert: gate and up of a gated MLP differ too.
TEST_CASE("formats differ from expert to expert and from matrix to matrix") {
  for (const int32_t dtype : {SE_F32, SE_BF16}) {
    LayerOptions options = options_of(dtype);
    options.num_experts = 4;
    options.shared = 96;
    options.biases = true;
    LayerFixture fixture(options);
    SeExperts& experts = fixture.layer.experts;
    const auto formats = [&](std::initializer_list<size_t> kinds, int64_t cols) {
      std::vector<SeMatrixFormat> out;
      for (const size_t kind : kinds) out.push_back(formats_of(kind, cols)[0]);
      return out;
    };
    fixture.quantise(&experts.gate, 4, formats({2, 5, 9}, kHidden));
    fixture.quantise(&experts.up, 4, formats({13, 17}, kHidden));
    fixture.quantise(&experts.down, 4, formats({18, 1, 8, 12}, kIntermediate));
    fixture.quantise(&fixture.layer.shared.up, 1, formats({0}, kHidden));
    for (const int64_t num_tokens : {1, 30}) check_layer(fixture, num_tokens, "mixed formats");
  }
}

// The layer whose matrices hold the same weights in f32 gives the same bits.
TEST_CASE("an f32 layer computes as if its weights were stored in f32") {
  Random random(9);
  for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
    LayerFixture fixture(options_of(SE_F32));
    quantise(&fixture, kind);
    for (const int64_t num_tokens : {1, 19}) {
      const std::vector<char> hidden = random_bytes(&random, num_tokens * kHidden, SE_F32, 1);
      const ForwardResult stored = forward_of(fixture, hidden);
      const QuantisedMatrices quantised = std::move(fixture.quantised);
      fixture.quantised.clear();
      const ForwardResult expanded = forward_of(fixture, hidden);
      fixture.quantised = quantised;
      CHECK(stored.code == SE_OK);
      check_same_bits(stored.output, expanded.output, quantised_kinds(1, 1)[kind].name);
    }
  }
}

SeMatrixFormat permuted(size_t kind, int64_t cols) {
  SeMatrixFormat format = formats_of(kind, cols)[0];
  format.flags |= SE_FORMAT_PERMUTED;
  return format;
}

// Columns in an order of their own: gate and up in the same, in different ones, one of the two.
void quantise_permuted(LayerFixture* fixture) {
  const auto fill = [&](SeMatrixTable* table, int64_t count,
                        const std::vector<SeMatrixFormat>& formats) {
    fixture->quantise(table, count, formats);
  };
  SeExperts& experts = fixture->layer.experts;
  SeExperts& shared = fixture->layer.shared;
  const int64_t cols = experts.up.cols;
  const SeMatrixFormat plain = formats_of(5, cols)[0];
  fill(&experts.gate, experts.num_experts, {permuted(5, cols), permuted(5, cols), plain});
  fill(&experts.up, experts.num_experts, {permuted(5, cols), permuted(6, cols), permuted(7, cols)});
  fill(&experts.down, experts.num_experts,
       {permuted(18, experts.down.cols), permuted(7, experts.down.cols)});
  fill(&shared.gate, 1, {permuted(6, shared.gate.cols)});
  fill(&shared.up, 1, {permuted(7, shared.up.cols)});
  fill(&shared.down, 1, {permuted(20, shared.down.cols)});
  fill(&fixture->layer.latent_down, 1, {permuted(5, kHidden)});
  fill(&fixture->layer.latent_up, 1, {permuted(7, fixture->layer.latent_size)});
}

LayerOptions options_of_permuted(int32_t dtype) {
  LayerOptions options = options_of(dtype);
  options.num_experts = 6;
  options.top_k = 3;
  options.shared = 272;
  options.biases = true;
  return options;
}

TEST_CASE("columns in an order of their own") {
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const int64_t latent : {0, 288}) {
      for (const bool weight_on_input : {false, true}) {
        LayerOptions options = options_of_permuted(dtype);
        options.latent = latent;
        options.weight_on_input = weight_on_input;
        LayerFixture fixture(options);
        quantise_permuted(&fixture);
        for (const int64_t num_tokens : {1, 9, 150})
          check_layer(fixture, num_tokens, "permuted columns");
      }
    }
  }
}

TEST_CASE("a permutation that is missing or leaves the row is refused") {
  Random random(11);
  QuantisedMatrix matrix(permuted(5, kHidden), 64, kHidden, Scales::kUsual, &random);
  const SeBackend* backend = current().backend;
  SeDevice* device = current().device;
  std::vector<char> memory(backend->matrix_bytes(device, 64, kHidden, SE_F32, &matrix.format));
  SeMatrixRows rows = matrix.rows_of(0, 64, SE_F32, memory.data());
  const auto code_of = [&](const std::vector<int32_t>& permutation) {
    rows.permutation = permutation.empty() ? nullptr : permutation.data();
    SeStatus status{};
    return backend->matrix_write(device, &rows, &status);
  };
  std::vector<int32_t> permutation(rows.permutation, rows.permutation + kHidden);
  CHECK(code_of(permutation) == SE_OK);
  CHECK(code_of({}) == SE_INVALID_ARGUMENT);
  for (const int32_t wrong : {-1, static_cast<int32_t>(kHidden), INT32_MAX, INT32_MIN}) {
    permutation[kHidden - 1] = wrong;
    CHECK(code_of(permutation) == SE_INVALID_ARGUMENT);
  }
}

void check_bits(const LayerFixture& fixture, const std::string& name,
                const SeLayerOptions& options = kDefaultOptions) {
  Random random(10);
  const int64_t most = 40;
  const int64_t row_bytes = kHidden * 4;
  const std::vector<char> hidden = random_bytes(&random, most * kHidden, SE_F32, 1);
  const ForwardResult whole = forward_of(fixture, hidden, 0, options);
  CHECK(whole.code == SE_OK);
  for (const int32_t threads : {1, 3})
    check_same_bits(forward_of(fixture, hidden, threads, options).output, whole.output,
                    name + ": threads");
  Every same;
  for (const int64_t m : {1, 2, 3, 5, 8, 13, 30}) {
    const ForwardResult part =
        forward_of(fixture, {hidden.end() - m * row_bytes, hidden.end()}, 0, options);
    same.that(
        std::equal(part.output.begin(), part.output.end(), whole.output.end() - m * row_bytes));
  }
  same.check(name + ": batches");
}

TEST_CASE("rows, batches and threads give the same bits") {
  for (const int32_t dtype : {SE_F32, SE_BF16}) {
    if (dtype == SE_BF16 && !rounds_rows(dtype)) continue;  // the same as f32
    for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
      LayerFixture fixture(options_of(dtype));
      quantise(&fixture, kind);
      check_bits(fixture, quantised_kinds(1, 1)[kind].name);
    }
    LayerFixture fixture(options_of_permuted(dtype));
    quantise_permuted(&fixture);
    check_bits(fixture, "permuted columns");
  }
}

// What rounding activations to codes of 8 bits costs stays small, in every kind of weights; those that
// codes are not multiplied by give the bits of exact activations.
void check_loss(const LayerFixture& fixture, const std::vector<char>& hidden, bool is_exact,
                const std::string& name) {
  const ForwardResult exact = forward_of(fixture, hidden);
  const ForwardResult coded = forward_of(fixture, hidden, 0, kInt8);
  if (!CHECK_MESSAGE(coded.code == SE_OK, name, ": ", std::string(coded.status.message))) return;
  if (is_exact) {
    check_same_bits(coded.output, exact.output, name + ": exact");
    return;
  }
  CHECK_MESSAGE(coded.output != exact.output, name);
  check_close(coded.values(SE_F32), exact.values(SE_F32), kInt8ActivationsBound, name);
}

TEST_CASE("activations as codes of 8 bits") {
  Random random(14);
  for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
    LayerFixture fixture(options_of(SE_F32));
    quantise(&fixture, kind);
    const QuantisedKind of_kind = quantised_kinds(1, 1)[kind];
    for (const int64_t num_tokens : {1, 19}) {
      check_loss(fixture, random_bytes(&random, num_tokens * kHidden, SE_F32, 1),
                 of_kind.format.code == SE_CODE_E4M3, of_kind.name + ", int8 activations");
    }
    check_bits(fixture, of_kind.name + ", int8 activations", kInt8);
  }
}

TEST_CASE("activations as codes for columns in an order of their own, and beside exact ones") {
  Random random(15);
  for (const int64_t latent : {0, 288}) {
    for (const bool weight_on_input : {false, true}) {
      LayerOptions options = options_of_permuted(SE_BF16);
      options.latent = latent;
      options.weight_on_input = weight_on_input;
      LayerFixture fixture(options);
      quantise_permuted(&fixture);
      for (const int64_t num_tokens : {1, 9, 150})
        check_loss(fixture, random_bytes(&random, num_tokens * kHidden, SE_F32, 1), false,
                   "permuted columns, int8 activations");
      check_bits(fixture, "permuted columns, int8 activations", kInt8);
    }
  }
  // Gate of one code, up of another or of none, and floats in between.
  LayerOptions options = options_of(SE_F32);
  options.num_experts = 4;
  options.shared = 96;
  LayerFixture fixture(options);
  SeExperts& experts = fixture.layer.experts;
  const auto formats = [&](std::initializer_list<size_t> kinds, int64_t cols) {
    std::vector<SeMatrixFormat> out;
    for (const size_t kind : kinds) out.push_back(formats_of(kind, cols)[0]);
    return out;
  };
  fixture.quantise(&experts.gate, 4, formats({5, 18, 11, 0}, kHidden));
  fixture.quantise(&experts.up, 4, formats({18, 0, 17, 5}, kHidden));
  fixture.quantise(&fixture.layer.shared.down, 1, formats({5}, 96));
  check_loss(fixture, random_bytes(&random, 30 * kHidden, SE_F32, 1), false, "mixed formats");
  check_bits(fixture, "mixed formats, int8 activations", kInt8);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
