// The stage expert_matmul over weights as they are stored, on a device that computes in the host's
// memory: matrices of experts that have slots are decoded to f32, a few at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "formats/decode.h"

namespace sparse_experts::engine {

// args.weights has its shape [E, N', K'] and no data; experts[e] is the matrix [N', K'] of expert e.
// Bits are those of the stage over the same weights in f32. Scratch: 64 MiB, or one matrix in f32
// where that is more, and the rows of its slots.
int32_t encoded_expert_matmul(const SeBackend& backend, SeDevice* device,
                              const SeExpertMatmulArgs& args,
                              const std::vector<EncodedMatrix>& experts, SeStatus* status);

}  // namespace sparse_experts::engine
