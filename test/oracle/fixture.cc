#include "oracle/fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "oracle/oracle.h"

namespace native_test {

// Round to nearest, ties to even. Written out here, so that a test's inputs do not depend on the code
// under test.
uint16_t to_half_bits(float value, int32_t dtype) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (dtype == SE_BF16) {
    if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  const uint32_t sign = bits >> 16 & 0x8000;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 65520) return static_cast<uint16_t>(sign | 0x7c00);
  const int exponent = std::max(magnitude == 0 ? -14 : std::ilogb(magnitude), -14);
  const double steps = std::nearbyint(std::ldexp(magnitude, 10 - exponent));  // 1024 is 2^exponent
  return static_cast<uint16_t>(sign | ((exponent + 14) * 1024 + static_cast<uint32_t>(steps)));
}

std::vector<char> random_bytes(Random* random, int64_t count, int32_t dtype, double deviation) {
  const int64_t size = sparse_experts::dtype_bytes(dtype);
  std::vector<char> out(count * size);
  // A long run repeats a block of prime length: drawing every number would take longer than the
  // tests.
  constexpr int64_t kBlock = 65537;
  for (int64_t i = 0; i < count; ++i) {
    if (i >= kBlock) {
      const int64_t length = std::min(kBlock, count - i) * size;
      std::memcpy(out.data() + i * size, out.data() + (i - kBlock) * size, length);
      i += kBlock - 1;
      continue;
    }
    const float value = static_cast<float>(random->normal() * deviation);
    if (dtype == SE_F32) {
      std::memcpy(out.data() + i * 4, &value, 4);
    } else {
      const uint16_t bits = to_half_bits(value, dtype);
      std::memcpy(out.data() + i * 2, &bits, 2);
    }
  }
  return out;
}

SeTensor tensor_of(void* data, int32_t dtype, std::initializer_list<int64_t> shape) {
  SeTensor tensor{};
  tensor.data = data;
  tensor.dtype = dtype;
  tensor.rank = static_cast<int32_t>(shape.size());
  int axis = 0;
  for (const int64_t extent : shape) tensor.shape[axis++] = extent;
  int64_t stride = 1;
  for (int i = tensor.rank - 1; i >= 0; --i) {
    tensor.strides[i] = stride;
    stride *= tensor.shape[i];
  }
  return tensor;
}

const float* LayerFixture::floats(int64_t count, double deviation, double mean) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(mean + random.normal() * deviation);
  floats_.push_back(std::move(values));
  return floats_.back().data();
}

SeMatrixTable LayerFixture::matrices(int64_t count, int64_t rows, int64_t cols, int32_t dtype,
                                     int64_t padding) {
  const int64_t size = sparse_experts::dtype_bytes(dtype);
  std::vector<const void*> table;
  for (int64_t e = 0; e < count; ++e) {
    const std::vector<char> dense =
        random_bytes(&random, rows * cols, dtype, 1 / std::sqrt(static_cast<double>(cols)));
    std::vector<char> padded(rows * (cols + padding) * size,
                             '\xff');  // all ones is a NaN in each dtype
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(padded.data() + r * (cols + padding) * size, dense.data() + r * cols * size,
                  cols * size);
    bytes_.push_back(std::move(padded));
    table.push_back(bytes_.back().data());
  }
  tables_.push_back(std::move(table));
  SeMatrixTable matrices{};
  matrices.data = tables_.back().data();
  matrices.rows = rows;
  matrices.cols = cols;
  matrices.row_stride = cols + padding;
  return matrices;
}

SeBiasTable LayerFixture::bias_table(int64_t count, int64_t size) {
  std::vector<const float*> table;
  for (int64_t e = 0; e < count; ++e) table.push_back(floats(size * 2, 0.5));
  bias_tables_.push_back(std::move(table));
  return {bias_tables_.back().data(), 2};
}

SeExperts LayerFixture::experts(const LayerOptions& options, int64_t count, int64_t width,
                                int64_t intermediate) {
  SeExperts out{};
  out.num_experts = count;
  out.dtype = options.dtype;
  out.activation = options.activation;
  out.up = matrices(count, intermediate, width, options.dtype, options.row_padding);
  if (options.activation.gated)
    out.gate = matrices(count, intermediate, width, options.dtype, options.row_padding);
  out.down = matrices(count, width, intermediate, options.dtype, options.row_padding);
  if (options.biases) {
    out.up_bias = bias_table(count, intermediate);
    if (options.activation.gated) out.gate_bias = bias_table(count, intermediate);
    out.down_bias = bias_table(count, width);
  }
  return out;
}

LayerFixture::LayerFixture(const LayerOptions& options) : random(options.seed * 7919 + 17) {
  const int64_t hidden_size = options.hidden_size;
  const int64_t width = options.latent > 0 ? options.latent : hidden_size;
  SeRouting& routing = layer.routing;
  routing.scoring = SE_SOFTMAX;
  routing.num_experts = options.num_experts;
  routing.num_identity_experts = options.num_identity;
  routing.top_k = options.top_k;
  routing.num_expert_groups = 1;
  routing.topk_group = 1;
  routing.normalization = SE_NORM_SUM;
  routing.scaling_factor = 1;
  layer.hidden_size = hidden_size;
  layer.latent_size = options.latent;
  layer.router_weight =
      floats(options.num_experts * hidden_size, 1.5 / std::sqrt(static_cast<double>(hidden_size)));
  if (options.router_bias) layer.router_bias = floats(options.num_experts, 0.3);
  if (options.input_scale) {
    layer.router_input_scale = floats(hidden_size, 4, std::sqrt(static_cast<double>(hidden_size)));
    layer.router_norm_epsilon = options.router_norm_epsilon;
  }
  layer.weight_on_input = options.weight_on_input;
  layer.experts =
      experts(options, options.num_experts - options.num_identity, width, options.intermediate);
  if (options.shared > 0) layer.shared = experts(options, 1, hidden_size, options.shared);
  layer.shared_gate_mode = options.shared_mode;
  if (options.shared_mode != SE_SHARED_PLAIN) layer.shared_gate = floats(hidden_size, 0.1);
  if (options.shared_logit_bias) layer.shared_logit_bias = floats(1, 0.7);
  if (options.latent > 0) {
    layer.latent_down =
        matrices(1, options.latent, hidden_size, options.dtype, options.row_padding);
    layer.latent_norm_epsilon = options.latent_norm_epsilon;
    if (options.latent_norm_epsilon > 0) layer.latent_norm = floats(options.latent, 0.3, 1);
    layer.latent_up = matrices(1, hidden_size, options.latent, options.dtype, options.row_padding);
  }
  if (options.output_bias) layer.output_bias = floats(hidden_size, 0.5);
}

void LayerFixture::quantise(SeMatrixTable* table, int64_t count,
                            const std::vector<SeMatrixFormat>& formats) {
  static const SeMatrixFormat kF32 = sparse_experts::float_format(SE_F32);
  if (table->data == nullptr) return;
  std::vector<const void*> decoded;
  for (int64_t e = 0; e < count; ++e) {
    const SeMatrixFormat& format = formats[e % static_cast<int64_t>(formats.size())];
    const QuantisedMatrix matrix(format, table->rows, table->cols, Scales::kUsual, &random);
    floats_.push_back(matrix.weights());
    decoded.push_back(floats_.back().data());
    quantised.emplace(decoded.back(), matrix);
  }
  tables_.push_back(std::move(decoded));
  table->data = tables_.back().data();
  table->row_stride = table->cols;
  table->formats = &kF32;
  table->num_formats = 1;
}

void LayerFixture::quantise(const std::vector<SeMatrixFormat>& formats) {
  for (SeExperts* experts : {&layer.experts, &layer.shared}) {
    if (experts->num_experts == 0) continue;
    for (SeMatrixTable* table : {&experts->gate, &experts->up, &experts->down})
      quantise(table, experts->num_experts, formats);
  }
}

std::vector<double> ForwardResult::values(int32_t dtype) const {
  std::vector<double> out(output.size() / static_cast<size_t>(sparse_experts::dtype_bytes(dtype)));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = element(output.data(), dtype, static_cast<int64_t>(i));
  return out;
}

ForwardCall::ForwardCall(const LayerFixture& fixture, const std::vector<char>& hidden,
                         int32_t dtype) {
  const int64_t hidden_size = fixture.layer.hidden_size;
  const int64_t num_tokens =
      static_cast<int64_t>(hidden.size()) / (hidden_size * sparse_experts::dtype_bytes(dtype));
  args.hidden = tensor_of(const_cast<char*>(hidden.data()), dtype, {num_tokens, hidden_size});
  args.select.num_tokens = num_tokens;
  args.select.call_top_k = fixture.layer.routing.top_k;
  args.select.top_p = 1;
}

OpenLayer::OpenLayer(const SeBackend* opened_backend, SeDevice* device,
                     const SeMoeLayer& description, const void* untouched,
                     const QuantisedMatrices& quantised, const SeLayerOptions& options)
    : backend(opened_backend), packed(opened_backend, device, description, untouched, quantised) {
  code = backend->layer_open(device, &packed.layer(), &options, &layer, &status);
}

OpenLayer::~OpenLayer() { backend->layer_close(layer); }

ForwardResult run_forward(const SeBackend* backend, SeDevice* device, const LayerFixture& fixture,
                          const ForwardCall& call) {
  SeForwardArgs args = call.args;
  ForwardResult result;
  const int64_t num_tokens = args.select.num_tokens;
  const int64_t num_slots = num_tokens * fixture.layer.routing.top_k;
  const int64_t out_bytes =
      num_tokens * fixture.layer.hidden_size * sparse_experts::dtype_bytes(args.hidden.dtype);
  result.output.assign(out_bytes, '\xff');
  args.output =
      tensor_of(result.output.data(), args.hidden.dtype, {num_tokens, fixture.layer.hidden_size});
  if (args.replay) {
    result.ids.assign(args.select.topk_ids, args.select.topk_ids + num_slots);
    result.weights.assign(args.select.topk_weights, args.select.topk_weights + num_slots);
  } else {
    result.ids.assign(num_slots, 0x7fffffff);
    result.weights.assign(num_slots, NAN);
  }
  result.flags.assign(num_tokens, 0xff);
  args.select.topk_ids = result.ids.data();
  args.select.topk_weights = result.weights.data();
  args.select.non_finite = result.flags.data();
  OpenLayer layer(backend, device, fixture.layer, fixture.untouched, fixture.quantised,
                  call.options);
  result.code = layer.code;
  result.status = layer.status;
  if (layer.code != SE_OK) return result;
  const uint64_t bytes =
      backend->forward_workspace_bytes(device, &layer.packed.layer(), &call.options, num_tokens);
  // Exactly what was asked for, between canaries.
  std::vector<char> workspace(bytes + 128, '\xff');
  const uint64_t misalignment = reinterpret_cast<uintptr_t>(workspace.data()) % 64;
  char* begin = workspace.data() + (64 - misalignment) % 64;
  result.code = backend->forward(layer.layer, &args, begin, bytes, &result.status);
  Every intact;
  for (char* at = begin + bytes; at < workspace.data() + workspace.size(); ++at)
    intact.equal(*at, '\xff');
  intact.check("bytes behind the workspace are untouched");
  return result;
}

}  // namespace native_test
