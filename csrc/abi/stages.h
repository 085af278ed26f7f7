/* The five stages one by one, as the C ABI between the addon and a compute backend takes them
 * (abi/backend.h has its rules). */
#ifndef SPARSE_EXPERTS_ABI_STAGES_H_
#define SPARSE_EXPERTS_ABI_STAGES_H_

#include <stdint.h>

#include "abi/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SeGateArgs {
  SeTensor hidden;        /* [T, H] f32, f16, bf16 */
  SeTensor router_weight; /* [E, H] f32, f16, bf16 */
  const float* bias;      /* [E] or NULL */
  float* router_logits;   /* out [T, E] */
  int32_t num_threads;
} SeGateArgs;

typedef struct SeDispatchArgs {
  int64_t num_slots; /* T * K */
  int64_t num_experts;
  const int32_t* topk_ids; /* [num_slots]; -1 = no expert */
  int32_t* expert_offsets; /* out [num_experts + 1] */
  int32_t* sorted_slots;   /* out [num_slots]; by expert, rising within one; the tail behind
                              expert_offsets[E] is -1 */
} SeDispatchArgs;

typedef struct SeExpertMatmulArgs {
  SeTensor x;       /* [T, K'] when gather, else [num_slots, K'] */
  SeTensor weights; /* [E, N', K'] f32, f16, bf16; N' = 2N when gated */
  SeTensor bias;    /* [E, N'] f32; data NULL: none */
  int64_t num_slots;
  int64_t top_k; /* slot / top_k = token, when gather */
  int32_t gather;
  int32_t interleaved;      /* gated: even rows gate, odd rows up (else first half gate) */
  int32_t apply_activation; /* 0: out = x W^T + b */
  SeActivationSpec activation;
  const int32_t* expert_offsets; /* [E + 1] */
  const int32_t* sorted_slots;   /* [num_slots] */
  SeTensor output; /* [num_slots, N] f32, row = slot; rows of undispatched slots become 0 */
  int32_t num_threads;
} SeExpertMatmulArgs;

typedef struct SeCombineArgs {
  SeTensor expert_output; /* [T * K, H] f32, row = slot */
  int64_t num_tokens;
  int64_t top_k;
  const int32_t* topk_ids;       /* [T * K] or NULL; slots with -1 are left out and never read */
  const int32_t* expert_offsets; /* [num_experts + 1] or NULL: with sorted_slots, only the slots
                                    that dispatch listed count; topk_ids is NULL then */
  const int32_t* sorted_slots;   /* [T * K] */
  int64_t num_experts;
  const float* topk_weights; /* [T, K] */
  SeTensor output; /* [T, H] f32, f16, bf16; sum over k in rising slot order, one rounding */
  int32_t num_threads;
} SeCombineArgs;

#ifdef __cplusplus
}
#endif

#endif /* SPARSE_EXPERTS_ABI_STAGES_H_ */
