// Generated from spec/vectors.json by tools/build/spec.mjs: do not edit.
// Small tensors of a block: E counts router outputs, H the hidden size, D the latent or hidden size.
#pragma once

namespace sparse_experts {

enum VectorRole {
  kRouterWeight,      // [E, H]
  kRouterBias,        // [E]
  kSelectionBias,     // [E]
  kPerExpertScale,    // [E]
  kRouterInputScale,  // [H]
  kHashTable,         // [vocabSize, topK]
  kSharedGate,        // [H]
  kSharedLogitBias,   // [1]
  kLatentNorm,        // [latentSize]
  kOutputBias,        // [H]
  kGateBias,          // [numExperts, I], gate and up apart, whatever the checkpoint's layout
  kUpBias,            // [numExperts, I]
  kDownBias,          // [numExperts, D]
  kSharedGateBias,    // [sharedIntermediateSize]
  kSharedUpBias,      // [sharedIntermediateSize]
  kSharedDownBias,    // [H]
  kNumVectors
};

// Their names in JavaScript, by role.
constexpr const char* kVectorNames[kNumVectors] = {
    "routerWeight",     "routerBias",     "selectionBias", "perExpertScale",
    "routerInputScale", "hashTable",      "sharedGate",    "sharedLogitBias",
    "latentNorm",       "outputBias",     "gateBias",      "upBias",
    "downBias",         "sharedGateBias", "sharedUpBias",  "sharedDownBias",
};

}  // namespace sparse_experts
