// Layers with random weights in any dtype, and one forward with everything poisoned.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "abi/backend.h"
#include "cpp/random.h"
#include "oracle/packed_layer.h"
#include "oracle/quantised.h"

namespace native_test {

// Bits of a finite value in a 16-bit dtype, to nearest even.
uint16_t to_half_bits(float value, int32_t dtype);
// `count` values as raw bytes of a dtype.
std::vector<char> random_bytes(Random* random, int64_t count, int32_t dtype, double deviation);
SeTensor tensor_of(void* data, int32_t dtype, std::initializer_list<int64_t> shape);

struct LayerOptions {
  int64_t hidden_size = 64;
  int64_t intermediate = 48;
  int64_t num_experts = 8;  // router outputs, identity experts included
  int64_t num_identity = 0;
  int64_t top_k = 2;
  int32_t dtype = SE_F32;
  SeActivationSpec activation = {SE_SILU, 1, 1.0f, 0.0f, 0.0f, 0.0f};
  bool biases = false;
  bool router_bias = false;
  bool input_scale = false;
  double router_norm_epsilon = 1e-6;  // with an input scale
  bool weight_on_input = false;
  bool output_bias = false;
  int64_t shared = 0;
  int32_t shared_mode = SE_SHARED_PLAIN;
  bool shared_logit_bias = false;
  int64_t latent = 0;
  double latent_norm_epsilon = 0;  // 0: no norm
  int64_t row_padding = 0;         // extra elements between matrix rows, NaN
  uint64_t seed = 1;
};

class LayerFixture {
 public:
  explicit LayerFixture(const LayerOptions& options);
  LayerFixture(const LayerFixture&) = delete;
  LayerFixture& operator=(const LayerFixture&) = delete;

  SeMoeLayer layer{};
  Random random;
  // A pointer in the tables to what must not be read.
  const void* untouched = nullptr;

  const float* floats(int64_t count, double deviation, double mean = 0);
  const void** pointers(SeMatrixTable* table) { return const_cast<const void**>(table->data); }

  // Replaces the matrices of a table by quantised ones, of each format in turn. The layer's own
  // tables then hold them decoded to f32, for the oracle.
  void quantise(SeMatrixTable* table, int64_t count, const std::vector<SeMatrixFormat>& formats);
  // All matrices of the routed and shared experts.
  void quantise(const std::vector<SeMatrixFormat>& formats);
  // By the pointer in the tables. Without them the same layer holds its matrices in f32.
  QuantisedMatrices quantised;

 private:
  SeMatrixTable matrices(int64_t count, int64_t rows, int64_t cols, int32_t dtype, int64_t padding);
  SeBiasTable bias_table(int64_t count, int64_t size);
  SeExperts experts(const LayerOptions& options, int64_t count, int64_t width,
                    int64_t intermediate);

  std::deque<std::vector<char>> bytes_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<const void*>> tables_;
  std::deque<std::vector<const float*>> bias_tables_;
};

constexpr SeLayerOptions kDefaultOptions = {};

// A layer opened on a device, for the length of a scope.
struct OpenLayer {
  // The description's matrices are rows; `untouched` as in PackedLayer.
  OpenLayer(const SeBackend* opened_backend, SeDevice* device, const SeMoeLayer& description,
            const void* untouched = nullptr, const QuantisedMatrices& quantised = {},
            const SeLayerOptions& options = kDefaultOptions);
  ~OpenLayer();
  OpenLayer(const OpenLayer&) = delete;
  OpenLayer& operator=(const OpenLayer&) = delete;

  const SeBackend* backend;
  PackedLayer packed;
  SeLayer* layer = nullptr;
  int32_t code = SE_OK;
  SeStatus status{};
};

struct ForwardResult {
  int32_t code = SE_OK;
  SeStatus status{};
  std::vector<char> output;
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<uint8_t> flags;
  std::vector<double> values(int32_t dtype) const;
};

// Defaults: one sequence, all of top_k, top_p off. Outputs and workspace are filled with NaN bits
// first.
struct ForwardCall {
  SeForwardArgs args{};
  SeLayerOptions options{};  // of the layer
  ForwardCall(const LayerFixture& fixture, const std::vector<char>& hidden, int32_t dtype);
};
ForwardResult run_forward(const SeBackend* backend, SeDevice* device, const LayerFixture& fixture,
                          const ForwardCall& call);

}  // namespace native_test
