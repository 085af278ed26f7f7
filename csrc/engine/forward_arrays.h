// The arrays of a forward, one by one.
#pragma once

#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::engine {

enum ForwardArray {
  kHidden,
  kRouterInputArray,
  kOutput,
  kTokenIds,
  kRowTopK,
  kRowTopP,
  kSequenceLengths,
  kTopkIds,
  kTopkWeights,
  kNonFinite,
  kNumForwardArrays
};

// Where an array of a forward lies; null where the call has none.
void* pointer_of(const SeForwardArgs& args, int array);
void set_pointer(SeForwardArgs* args, int array, void* data);

// Bytes that a token has of an array; 0 of kSequenceLengths, which has no row for each token.
uint64_t row_bytes(const SeMoeLayer& layer, const SeForwardArgs& args, int array);

// The forward writes it. A replay reads its ids and weights.
bool is_result(const SeForwardArgs& args, int array);

}  // namespace sparse_experts::engine
