// Which rank computes which slots of a wave of tokens: what is left to this rank, and a request's worth
// for each of the others.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "transport/messages.h"

namespace sparse_experts::engine {

// What one peer computes of a wave.
struct PeerPart {
  int32_t owner = 0;
  std::vector<int64_t> tokens;  // of the call; each once, rising
  std::vector<transport::RequestedSlot> slots;
  std::vector<int64_t> slot_rows;  // of the wave's slot rows, one for each slot
};

struct WaveSplit {
  std::vector<int32_t> own_experts;    // with slots, rising
  std::vector<int32_t> other_experts;  // the same of other ranks
  std::vector<PeerPart> parts;         // by owner, rising
};

// `owner_of`: [num_experts], the rank of each expert. Throws FailureException (INTERNAL) where the ids do
// not give the slots that the wave counts.
WaveSplit split_wave(const SeForwardWave& wave, const SeSelectArgs& select, int64_t top_k,
                     const std::vector<int32_t>& owner_of, int32_t rank);

}  // namespace sparse_experts::engine
