// How a forward is cut into waves of tokens, and where each intermediate lies in the workspace.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

// Intermediates of one wave of T tokens, K = top_k slots each; D = width of the experts' input, I
// their intermediate size. "act" = activation type: bf16 where the kernels multiply bf16 by bf16
// and rows do not become codes, else f32; rows of it lie in slabs (cpu/isa/isa.h). Offsets in bytes, 64-byte aligned.
struct ForwardPlan {
  bool bf16_activations = false;
  bool coded_activations = false;  // as codes of 8 bits, where weights have a product with them
  int64_t activation_bytes = 4;
  int64_t width = 0;         // D
  int64_t intermediate = 0;  // I
  int64_t shared_intermediate = 0;
  int64_t route_tokens = 0;  // rows per chunk of router logits
  int64_t wave_tokens = 0;

  uint64_t logits = 0;          // [route_tokens, E] f32
  uint64_t router_rows = 0;     // [route_tokens, hidden_size] f32
  uint64_t hidden = 0;          // [T, hidden_size] act
  uint64_t latent = 0;          // [T, D] act
  uint64_t scaled = 0;          // [T * K, D] act: weighted inputs in sorted order
  uint64_t expert_hidden = 0;   // [T * K, I] act, in sorted order
  uint64_t expert_output = 0;   // [T * K, D] f32, row = slot
  uint64_t shared_hidden = 0;   // [T, shared_intermediate] act
  uint64_t shared_output = 0;   // [T, hidden_size] f32
  uint64_t latent_sum = 0;      // [T, D] act
  uint64_t projected = 0;       // [T, hidden_size] f32
  uint64_t gathered = 0;        // act: rows with their columns in the order of weights
  uint64_t coded = 0;           // slabs of codes (cpu/ops/code_rows.h)
  uint64_t expert_offsets = 0;  // [num real experts + 1] i32
  uint64_t sorted_slots = 0;    // [T * K] i32
  uint64_t token_rows = 0;      // [T * K] i32: token of each sorted slot
  uint64_t total_bytes = 0;
};

ForwardPlan plan_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                         const SeLayerOptions& options, int64_t num_tokens);

}  // namespace sparse_experts::cpu
