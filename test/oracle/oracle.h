// The MoE block in double precision, as plainly as it can be written. Shares nothing with the
// backend but its structs.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"

namespace native_test {

struct OracleRouting {
  std::vector<int32_t> ids;     // [T, K]
  std::vector<double> weights;  // [T, K]
  std::vector<double> margins;  // [T]: distance of the last selected and the first unselected
                                // score; infinite without one
};

// Element `index` of a float tensor of any dtype.
double element(const void* data, int32_t dtype, int64_t index);

// Router logits [T, E] of f32, f16 or bf16 rows.
std::vector<double> oracle_logits(const SeMoeLayer& layer, const SeTensor& router_input);
OracleRouting oracle_select(const SeRouting& routing, const SeSelectArgs& args,
                            const std::vector<double>& logits);
// Output [T, hidden_size] for given ids and weights.
std::vector<double> oracle_experts(const SeMoeLayer& layer, const SeTensor& hidden,
                                   const int32_t* ids, const float* weights);
double oracle_activation(const SeActivationSpec& spec, double gate, double up);

}  // namespace native_test
