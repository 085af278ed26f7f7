// Forwards in steps: experts that come and go give the bits of the plain forward.
#include <algorithm>
#include <cstring>
#include <list>
#include <numeric>
#include <string>
#include <vector>

#include "cases.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"
#include "oracle/run_in_steps.h"
#include "oracle/run_rules.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

constexpr SeLayerOptions kCached = {0, 0, 1};

// A layer whose experts are all elsewhere, and some memory for the matrices of a few of them at a
// time.
class CachedLayer {
 public:
  CachedLayer(const LayerFixture& fixture, SeLayerOptions options)
      : all_(current().backend, current().device, fixture.layer, nullptr, fixture.quantised),
        description_(all_.layer()) {
    options.cached = 1;
    SeExperts& experts = description_.experts;
    for (SeMatrixTable* table : {&experts.gate, &experts.up, &experts.down}) {
      absent_.emplace_back(static_cast<size_t>(experts.num_experts), nullptr);
      if (table->data != nullptr) table->data = absent_.back().data();
    }
    code =
        current().backend->layer_open(current().device, &description_, &options, &layer, &status);
  }
  ~CachedLayer() { current().backend->layer_close(layer); }
  CachedLayer(const CachedLayer&) = delete;
  CachedLayer& operator=(const CachedLayer&) = delete;

  const SeMoeLayer& description() const { return description_; }
  int64_t num_experts() const { return description_.experts.num_experts; }

  // Places copies of their matrices; clear() takes them away and leaves NaN where they were.
  int32_t place(const std::vector<int32_t>& experts) {
    std::vector<SeExpertMatrices> matrices;
    for (const int32_t e : experts) {
      const SeExperts& of = all_.layer().experts;
      matrices.push_back({copy(of.gate, e), copy(of.up, e), copy(of.down, e)});
    }
    placed_.insert(placed_.end(), experts.begin(), experts.end());
    return set(experts, matrices);
  }
  void clear() {
    CHECK(set(placed_, std::vector<SeExpertMatrices>(placed_.size())) == SE_OK);
    placed_.clear();
    for (std::vector<char>& matrix : memory_) std::fill(matrix.begin(), matrix.end(), '\xff');
    kept_.splice(kept_.end(), memory_);
  }
  int32_t set(const std::vector<int32_t>& experts, const std::vector<SeExpertMatrices>& matrices) {
    return current().backend->layer_set_experts(
        layer, experts.data(), static_cast<int64_t>(experts.size()), matrices.data(), &status);
  }

  SeLayer* layer = nullptr;
  int32_t code = SE_OK;
  SeStatus status{};

 private:
  const void* copy(const SeMatrixTable& table, int32_t e) {
    if (table.data == nullptr) return nullptr;
    const int32_t dtype = all_.layer().experts.dtype;
    const SeMatrixFormat format = sparse_experts::format_of(table, e, dtype);
    const uint64_t bytes =
        current().backend->matrix_bytes(current().device, table.rows, table.cols, dtype, &format);
    const char* from = static_cast<const char*>(table.data[e]);
    memory_.emplace_back(from, from + bytes);
    return memory_.back().data();
  }

  PackedLayer all_;
  SeMoeLayer description_;
  std::list<std::vector<const void*>> absent_;
  std::list<std::vector<char>> memory_, kept_;
  std::vector<int32_t> placed_;
};

// A call with its own results and workspace, all of it NaN.
struct Call {
  ForwardResult result;
  SeForwardArgs args;
  std::vector<char> workspace;
  uint64_t workspace_bytes;
  char* begin;

  Call(const ForwardCall& call, const CachedLayer& layer) : args(call.args) {
    const SeMoeLayer& of = layer.description();
    const int64_t num_tokens = args.select.num_tokens;
    const int64_t num_slots = num_tokens * of.routing.top_k;
    const int32_t dtype = args.hidden.dtype;
    result.output.assign(num_tokens * of.hidden_size * (dtype == SE_F32 ? 4 : 2), '\xff');
    args.output = tensor_of(result.output.data(), dtype, {num_tokens, of.hidden_size});
    result.ids.assign(num_slots, 0x7fffffff);
    result.weights.assign(num_slots, NAN);
    if (args.replay) {
      std::copy_n(args.select.topk_ids, num_slots, result.ids.begin());
      std::copy_n(args.select.topk_weights, num_slots, result.weights.begin());
    }
    result.flags.assign(num_tokens, 0xff);
    args.select.topk_ids = result.ids.data();
    args.select.topk_weights = result.weights.data();
    args.select.non_finite = result.flags.data();
    workspace_bytes = current().backend->forward_workspace_bytes(current().device, &of,
                                                                 &call.options, num_tokens);
    workspace.assign(workspace_bytes + 64, '\xff');
    begin = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  }
};

// Runs a call in steps of `at_once` experts in a random order, those without slots among them. Their
// matrices are there for one step only, and when the sum is made none is.
ForwardResult run_in_steps(const LayerFixture& fixture, const ForwardCall& call, int64_t at_once,
                           int64_t* num_waves = nullptr) {
  const SeBackend* backend = current().backend;
  CachedLayer layer(fixture, call.options);
  Call own(call, layer);
  ForwardResult& result = own.result;
  result.code = layer.code;
  result.status = layer.status;
  if (result.code != SE_OK) return result;
  SeForwardRun* run = nullptr;
  result.code = backend->forward_begin(layer.layer, &own.args, own.begin, own.workspace_bytes, &run,
                                       &result.status);
  if (result.code != SE_OK) return result;
  Random random(static_cast<uint64_t>(at_once) + 99);
  std::vector<int32_t> order(static_cast<size_t>(layer.num_experts()));
  std::iota(order.begin(), order.end(), 0);
  SeForwardWave wave{};
  const auto succeeds = [&](int32_t code) {
    if (result.code == SE_OK) result.code = code;
    return code == SE_OK;
  };
  int64_t waves = 0;
  while (succeeds(backend->forward_wave(run, &wave, &result.status)) && wave.num_tokens > 0) {
    ++waves;
    SeTensor rows{};
    if (!succeeds(backend->forward_slot_rows(run, nullptr, 0, &rows, &result.status))) break;
    CHECK(rows.shape[0] == wave.num_tokens * fixture.layer.routing.top_k);
    std::memset(rows.data, 0xff, static_cast<size_t>(rows.shape[0] * rows.strides[0] * 4));
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    for (size_t at = 0; at < order.size(); at += static_cast<size_t>(at_once)) {
      const size_t end = std::min(order.size(), at + static_cast<size_t>(at_once));
      const std::vector<int32_t> step(order.begin() + static_cast<int64_t>(at),
                                      order.begin() + static_cast<int64_t>(end));
      if (!succeeds(layer.place(step))) break;
      if (!succeeds(backend->forward_experts(run, step.data(), static_cast<int64_t>(step.size()),
                                             &result.status)))
        break;
      layer.clear();
    }
    if (result.code != SE_OK || !succeeds(backend->forward_finish(run, &result.status))) break;
  }
  backend->forward_end(run);
  if (num_waves != nullptr) *num_waves = waves;
  return result;
}

void check_steps(const LayerFixture& fixture, const ForwardCall& call, const std::string& what,
                 const std::vector<int64_t>& steps = {1, 3, 1 << 20}) {
  const ForwardResult whole = run_forward(current().backend, current().device, fixture, call);
  if (!CHECK_MESSAGE(whole.code == SE_OK, what, ": ", std::string(whole.status.message))) return;
  for (const int64_t at_once : steps) {
    const ForwardResult part = run_in_steps(fixture, call, at_once);
    const std::string name = what + ", " + std::to_string(at_once) + " experts at once";
    if (!CHECK_MESSAGE(part.code == SE_OK, name, ": ", std::string(part.status.message))) continue;
    check_same_bits(part.output, whole.output, name);
    check_same_bits(part.ids, whole.ids, name + ": ids");
    check_same_bits(part.weights, whole.weights, name + ": weights");
    check_same_bits(part.flags, whole.flags, name + ": flags");
  }
}

void check_kind(const LayerOptions& options, const std::string& name, int64_t num_tokens,
                int32_t hidden_dtype, const std::vector<int64_t>& steps) {
  LayerFixture fixture(options);
  const std::vector<char> hidden =
      random_bytes(&fixture.random, num_tokens * options.hidden_size, hidden_dtype, 1);
  check_steps(fixture, ForwardCall(fixture, hidden, hidden_dtype),
              name + " T=" + std::to_string(num_tokens), steps);
}

TEST_CASE("every kind of layer, in every dtype") {
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const auto& [name, kind] : layer_kinds()) {
      LayerOptions options = kind;
      options.dtype = dtype;
      check_kind(options, name, 9, dtype, {2});
      if (dtype != SE_F32) continue;
      check_kind(options, name, 0, dtype, {1});
      check_kind(options, name, 1, dtype, {1, 1 << 20});
    }
  }
}

void quantise(LayerFixture* fixture, size_t kind, int64_t flags = 0) {
  for (SeExperts* experts : {&fixture->layer.experts, &fixture->layer.shared}) {
    if (experts->num_experts == 0) continue;
    for (SeMatrixTable* table : {&experts->gate, &experts->up, &experts->down}) {
      std::vector<SeMatrixFormat> formats;
      for (const size_t other : {kind, kind + 1})
        formats.push_back(
            quantised_kinds(table->rows, table->cols)[other % quantised_kinds(1, 1).size()].format);
      for (SeMatrixFormat& format : formats) format.flags |= flags;
      fixture->quantise(table, experts->num_experts, formats);
    }
  }
}

TEST_CASE("every stored format, its neighbour beside it, and rows as codes of 8 bits") {
  for (size_t kind = 0; kind < quantised_kinds(1, 1).size(); ++kind) {
    LayerOptions options;
    options.hidden_size = 320, options.intermediate = 144, options.num_experts = 4;
    options.dtype = kind % 2 == 0 ? SE_F32 : SE_BF16;
    options.shared = kind % 3 == 0 ? 96 : 0;
    LayerFixture fixture(options);
    quantise(&fixture, kind);
    const std::vector<char> hidden = random_bytes(&fixture.random, 7 * 320, SE_F32, 1);
    ForwardCall call(fixture, hidden, SE_F32);
    const std::string name = quantised_kinds(1, 1)[kind].name;
    check_steps(fixture, call, name, {1});
    call.options.int8_activations = 1;
    check_steps(fixture, call, name + ", int8 activations", {1});
  }
}

TEST_CASE("columns in an order of their own") {
  for (const int64_t latent : {0, 288}) {
    for (const int32_t coded : {0, 1}) {
      LayerOptions options;
      options.hidden_size = 320, options.intermediate = 144, options.num_experts = 6;
      options.top_k = 3, options.shared = 272, options.latent = latent;
      options.weight_on_input = latent == 0;
      LayerFixture fixture(options);
      quantise(&fixture, 5, SE_FORMAT_PERMUTED);
      const std::vector<char> hidden = random_bytes(&fixture.random, 33 * 320, SE_F32, 1);
      ForwardCall call(fixture, hidden, SE_F32);
      call.options.int8_activations = coded;
      check_steps(fixture, call, "permuted columns", {1, 4});
    }
  }
}

TEST_CASE("more tokens than one wave holds") {
  LayerOptions options;
  options.hidden_size = 8192, options.intermediate = 4, options.num_experts = 64,
  options.top_k = 64;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_bytes(&fixture.random, int64_t{300} * 8192, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult whole = run_forward(current().backend, current().device, fixture, call);
  int64_t num_waves = 0;
  const ForwardResult part = run_in_steps(fixture, call, 24, &num_waves);
  CHECK(num_waves > 1);
  CHECK(part.code == SE_OK);
  check_same_bits(part.output, whole.output, "waves in steps");
}

TEST_CASE("rows that are not finite need no expert, and keep their flags") {
  LayerOptions options;
  options.shared = 40, options.num_experts = 16, options.top_k = 4;
  for (const int64_t latent : {0, 32}) {
    options.latent = latent;
    LayerFixture fixture(options);
    std::vector<char> hidden = random_bytes(&fixture.random, 9 * 64, SE_F32, 1);
    reinterpret_cast<float*>(hidden.data())[2 * 64 + 5] = NAN;
    reinterpret_cast<float*>(hidden.data())[6 * 64] = INFINITY;
    reinterpret_cast<float*>(hidden.data())[7 * 64 + 1] = 3e38F;  // the experts overflow
    check_steps(fixture, ForwardCall(fixture, hidden, SE_F32), "rows that are not finite");
    // Nothing but such rows: no expert at all.
    std::vector<char> nan(hidden.begin() + 2 * 64 * 4, hidden.begin() + 3 * 64 * 4);
    check_steps(fixture, ForwardCall(fixture, nan, SE_F32), "one row that is not finite");
  }
}

TEST_CASE("capacity, budgets and replayed ids with repeats") {
  LayerOptions options;
  options.num_experts = 10, options.num_identity = 2, options.top_k = 3;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_bytes(&fixture.random, 6 * 64, SE_F32, 1);
  ForwardCall call(fixture, hidden, SE_F32);
  std::vector<uint8_t> kept = {0, 1, 2, 3, 0, 3};
  call.args.select.row_top_k = kept.data();
  check_steps(fixture, call, "budgets");
  call.args.select.row_top_k = nullptr;
  call.args.replay = 1;
  std::vector<int32_t> ids = {-1, -1, -1, 4, 4, 4, 0, -1, 0, 9, 8, 9, 7, 2, 2, -1, 8, 1};
  std::vector<float> weights(18, 0.25F);
  call.args.select.topk_ids = ids.data();
  call.args.select.topk_weights = weights.data();
  check_steps(fixture, call, "replay");

  LayerOptions narrow;
  narrow.num_experts = 4;
  LayerFixture full(narrow);
  full.layer.routing.capacity = SE_CAPACITY_BATCH;
  full.layer.routing.expert_capacity = 5;
  const std::vector<char> many = random_bytes(&full.random, 30 * 64, SE_F32, 1);
  check_steps(full, ForwardCall(full, many, SE_F32), "capacity");
}

// What run_rules.h asks for, on the device of this round.
struct OneToken : RunInSteps {
  LayerFixture fixture{options_of_eight()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 64, SE_F32, 1);
  const ForwardCall call{fixture, hidden, SE_F32};
  const ForwardResult whole = run_forward(current().backend, current().device, fixture, call);
  CachedLayer layer{fixture, kCached};
  const OpenLayer all{current().backend, current().device, fixture.layer};
  Call own{call, layer};
  const std::vector<int32_t> needed = {whole.ids[0], whole.ids[1]};

  OneToken() {
    REQUIRE(layer.code == SE_OK);
    backend = current().backend;
    opened = layer.layer;
    args = &own.args;
    workspace = own.begin;
    workspace_bytes = own.workspace_bytes;
    begin_wave();
  }
  ~OneToken() { end(); }
  OneToken(const OneToken&) = delete;
  OneToken& operator=(const OneToken&) = delete;

  SeLayer* resident() const { return all.layer; }
  static void read_rows(const SeTensor& rows, void* to, uint64_t bytes) {
    std::memcpy(to, rows.data, bytes);
  }
  static void write_rows(const SeTensor& rows, const void* from, uint64_t bytes) {
    std::memcpy(rows.data, from, bytes);
  }
  void check_result(const std::string& what) const {
    check_same_bits(own.result.output, whole.output, what);
    check_same_bits(own.result.flags, whole.flags, what + ": flags");
  }
};

TEST_CASE("a wave says which experts it needs") { check_wave_says_what_it_needs<OneToken>(); }

TEST_CASE("an expert that is needed and absent is an error, never a smaller sum") {
  check_absent_expert_is_error<OneToken>();
}

TEST_CASE("a plain forward of a cached layer needs its experts too") {
  OneToken one;
  check_plain_forward_needs_experts(one);
}

TEST_CASE("rows that the caller writes take the place of experts") {
  check_rows_of_caller<OneToken>();
}

TEST_CASE("what breaks the order of a run, or names no expert, is refused") {
  check_order<OneToken>();
}

TEST_CASE("a run begins with the checks of a forward, and an abort stops it") {
  OneToken one;
  int32_t cancel = 0;
  check_begin(one, &cancel);
  cancel = 1;
  CHECK(one.compute({one.needed[0]}) == SE_CANCELLED);
  CHECK(one.finish() == SE_INTERNAL);
  CHECK(one.compute({one.needed[1]}) == SE_CANCELLED);
  CHECK(one.finish() == SE_CANCELLED);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
