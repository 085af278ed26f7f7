#include "cpu/ops/combine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/ops/expert_segments.h"

namespace sparse_experts::cpu {
namespace {

// Columns per pass: sums stay on the stack and in L1.
constexpr int64_t kColumns = 1024;

bool is_flagged(const CombineWave& wave, int64_t row) {
  const uint8_t* flags = wave.args.select.non_finite;
  return flags != nullptr && flags[wave.first_token + row] != 0;
}

// Columns [col, col + n) of the weighted sum over the slots of a token, in rising slot order.
void sum_slots(const CombineWave& wave, int64_t row, int64_t col, int64_t n, float* sum) {
  const SeMoeLayer& layer = wave.layer;
  const SeExperts& experts = layer.experts;
  const IsaKernels& kernels = *wave.context.kernels;
  const int64_t top_k = layer.routing.top_k;
  const int64_t first_slot = (wave.first_token + row) * top_k;
  std::memset(sum, 0, n * sizeof(float));
  for (int64_t k = 0; k < top_k; ++k) {
    const int32_t expert = wave.args.select.topk_ids[first_slot + k];
    if (expert < 0) continue;
    const float weight = wave.args.select.topk_weights[first_slot + k];
    if (expert >= experts.num_experts) {  // identity expert: the input itself
      const SeTensor& hidden = wave.args.hidden;
      const char* x =
          static_cast<const char*>(hidden.data) +
          ((wave.first_token + row) * hidden.strides[0] + col) * dtype_bytes(hidden.dtype);
      float wide[kColumns];
      kernels.widen(wide, x, hidden.dtype, n);
      kernels.axpy(sum, wide, weight, n);
    } else if (wave.counts_absent || is_present(experts, expert)) {
      const float* y = wave.expert_output + (row * top_k + k) * wave.width + col;
      kernels.axpy(sum, y, layer.weight_on_input ? 1.0f : weight, n);
    }
  }
}

// sigmoid(shared_gate . x), with the hidden row in the place of the weights: it is widened on load.
float shared_coefficient(const CombineWave& wave, int64_t row) {
  const SeTensor& hidden = wave.args.hidden;
  float z = 0;
  MatmulTile tile;
  tile.x = reinterpret_cast<const char*>(wave.layer.shared_gate);
  tile.x_rows = nullptr;
  tile.x_stride_bytes = 0;
  tile.w = static_cast<const char*>(hidden.data) +
           (wave.first_token + row) * hidden.strides[0] * dtype_bytes(hidden.dtype);
  tile.w_stride_bytes = 0;
  tile.m = 1;
  tile.n = 1;
  tile.k = wave.layer.hidden_size;
  tile.out = &z;
  tile.out_stride = 1;
  find_matmul(*wave.context.kernels, SE_F32, float_format(hidden.dtype).code)->rows(tile);
  if (wave.layer.shared_logit_bias != nullptr) z += wave.layer.shared_logit_bias[0];
  return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(z))));
}

void combine_row(const CombineWave& wave, int64_t row) {
  const SeMoeLayer& layer = wave.layer;
  const IsaKernels& kernels = *wave.context.kernels;
  const SeTensor& output = wave.args.output;
  const int64_t hidden_size = layer.hidden_size;
  const int64_t out_bytes = dtype_bytes(output.dtype);
  char* out =
      static_cast<char*>(output.data) + (wave.first_token + row) * output.strides[0] * out_bytes;
  const bool flagged = is_flagged(wave, row);
  const bool has_coefficient =
      wave.shared_output != nullptr && layer.shared_gate_mode != SE_SHARED_PLAIN;
  const float coefficient = has_coefficient && !flagged ? shared_coefficient(wave, row) : 1.0f;
  bool finite = true;
  float sum[kColumns];
  for (int64_t col = 0; col < hidden_size; col += kColumns) {
    const int64_t n = std::min(kColumns, hidden_size - col);
    if (flagged) {
      std::fill_n(sum, n, std::numeric_limits<float>::quiet_NaN());
    } else {
      if (wave.projected != nullptr) {
        std::memcpy(sum, wave.projected + row * hidden_size + col, n * sizeof(float));
      } else {
        sum_slots(wave, row, col, n, sum);
      }
      if (wave.shared_output != nullptr) {
        if (layer.shared_gate_mode == SE_SHARED_MIX) kernels.scale(sum, sum, 1.0f - coefficient, n);
        kernels.axpy(sum, wave.shared_output + row * hidden_size + col, coefficient, n);
      }
      if (layer.output_bias != nullptr) kernels.axpy(sum, layer.output_bias + col, 1.0f, n);
    }
    finite = kernels.narrow(out + col * out_bytes, output.dtype, sum, n) != 0 && finite;
  }
  if (!finite && wave.args.select.non_finite != nullptr)
    wave.args.select.non_finite[wave.first_token + row] = 1;
}

}  // namespace

namespace {

// Sums of one token in the latent space, in pieces: body(col, n, sum).
template <typename Body>
void for_latent_pieces(const CombineWave& wave, int64_t row, const Body& body) {
  float sum[kSlab];
  for (int64_t col = 0; col < wave.width; col += kSlab) {
    const int64_t n = std::min(kSlab, wave.width - col);
    if (is_flagged(wave, row)) {  // its slots were not computed; the row ends as NaN
      std::memset(sum, 0, n * sizeof(float));
    } else {
      sum_slots(wave, row, col, n, sum);
    }
    body(col, n, sum);
  }
}

// 1 / sqrt(mean of squares + epsilon) of a token's sums. They are added up twice rather than kept:
// that is little beside the matmuls, and needs no memory.
double latent_factor(const CombineWave& wave, int64_t row) {
  double squares = 0;
  for_latent_pieces(wave, row, [&](int64_t, int64_t n, const float* sum) {
    for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(sum[i]) * sum[i];
  });
  return 1 / std::sqrt(squares / static_cast<double>(wave.width) + wave.layer.latent_norm_epsilon);
}

}  // namespace

void sum_latent(const CombineWave& wave, void* sums, const RowLayout& layout, int32_t dtype) {
  wave.context.for_rows(
      wave.num_tokens, wave.width * wave.layer.routing.top_k, [&](int64_t first, int64_t last) {
        const float* scale = wave.layer.latent_norm;
        for (int64_t row = first; row < last; ++row) {
          const double factor = scale != nullptr ? latent_factor(wave, row) : 1;
          for_latent_pieces(wave, row, [&](int64_t col, int64_t n, float* sum) {
            for (int64_t i = 0; scale != nullptr && i < n; ++i)
              sum[i] = static_cast<float>(sum[i] * factor * scale[col + i]);
            char* out = static_cast<char*>(sums) + layout.offset(row, col) * dtype_bytes(dtype);
            wave.context.kernels->narrow(out, dtype, sum, n);
          });
        }
      });
}

void combine_rows(const CombineWave& wave) {
  wave.context.for_rows(wave.num_tokens, wave.layer.hidden_size * (wave.layer.routing.top_k + 1),
                        [&](int64_t first, int64_t last) {
                          for (int64_t row = first; row < last; ++row) combine_row(wave, row);
                        });
}

}  // namespace sparse_experts::cpu
