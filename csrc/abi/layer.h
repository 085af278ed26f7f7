/* What a layer is and what a forward takes, as the C ABI between the addon and a compute backend says
 * it (abi/backend.h has its rules): statuses, tensors, routing, weights, the layer, a forward. */
#ifndef SPARSE_EXPERTS_ABI_LAYER_H_
#define SPARSE_EXPERTS_ABI_LAYER_H_

#include <stddef.h>
#include <stdint.h>

#include "abi/enums.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SeCode {
  SE_OK = 0,
  SE_INVALID_ARGUMENT = 1,
  SE_OUT_OF_MEMORY = 2,
  SE_CANCELLED = 3,
  SE_DEVICE_UNAVAILABLE = 4,
  SE_DEVICE_LOST = 5,
  SE_INTERNAL = 6,
  SE_IO = 7,
  SE_WORKSPACE_TOO_SMALL = 8 /* nothing has run; needed_bytes says how much it takes */
} SeCode;

typedef struct SeStatus {
  int32_t code; /* SeCode */
  char message[508];
  uint64_t needed_bytes; /* SE_OUT_OF_MEMORY, SE_WORKSPACE_TOO_SMALL */
  uint64_t free_bytes;
} SeStatus;

#define SE_MAX_RANK 4
typedef struct SeTensor {
  void* data;
  int32_t dtype; /* SeDtype */
  int32_t rank;
  int64_t shape[SE_MAX_RANK];
  int64_t strides[SE_MAX_RANK]; /* in elements */
} SeTensor;

/* ---- routing --------------------------------------------------------------------------------- */

/* How ids and weights come from router logits. Ties go to the lower expert index. A row with any
 * logit that is not finite gets the ids 0..top_k-1, NaN weights, and its non-finite flag. Order of
 * the slots: falling selection score (hash: the table's order). The scaling factor is applied here
 * and nowhere else. */
typedef struct SeRouting {
  int32_t scoring;              /* SeScoring */
  int32_t hash_routed;          /* ids = hash_table[token_id], scores still come from the logits */
  int64_t num_experts;          /* router outputs: real experts, then identity experts */
  int64_t num_identity_experts; /* the last of num_experts */
  int64_t top_k;
  int64_t num_expert_groups; /* 1: no groups; contiguous groups of equal size otherwise */
  int64_t topk_group;
  int32_t group_score;   /* SeGroupScore */
  int32_t normalization; /* SeNormalization */
  double norm_value;
  double scaling_factor;
  double logit_softcap; /* z -> cap * tanh(z / cap) when > 0 */
  double sparsemixer_epsilon;
  int32_t capacity; /* SeCapacity */
  int32_t normalize_before_dropping;
  int32_t batch_prioritized;
  int64_t expert_capacity;        /* <= 0: derived (batch capacity: 2 * ceil(T / E)) */
  double capacity_token_fraction; /* > 0: ceil(fraction * T) */
  const float* selection_bias;    /* [num_experts] or NULL: moves selection, never weights */
  const float*
      per_expert_scale;      /* [num_experts] or NULL: multiplies the weight after normalisation */
  const int32_t* hash_table; /* [vocab_size, top_k] or NULL */
  int64_t vocab_size;
} SeRouting;

/* Per-call routing inputs and outputs. T = num_tokens, K = routing.top_k. */
typedef struct SeSelectArgs {
  int64_t num_tokens;
  const float* router_logits; /* [T, num_experts] f32, row-major; without the softcap */
  const int32_t* token_ids;   /* [T], hash routing only */
  const uint8_t* row_top_k;   /* [T] or NULL: experts kept per row, <= top_k, 0 allowed */
  int64_t call_top_k;         /* used where row_top_k is NULL; top_k = all */
  const double* row_top_p;    /* [T] or NULL: top_p per row */
  double top_p; /* where row_top_p is NULL. 1: off; else keep the fewest slots whose share of weight
                   reaches it */
  const int32_t* sequence_lengths; /* [num_sequences] summing to T, or NULL: one sequence */
  int64_t num_sequences;
  int32_t* topk_ids;   /* out [T, K]; -1 = dropped slot */
  float* topk_weights; /* out [T, K]; 0 in dropped slots */
  uint8_t* non_finite; /* out [T]; 1 where a logit is not finite */
} SeSelectArgs;

/* ---- experts --------------------------------------------------------------------------------- */

/* gated:   h = act(g) * (u + up_offset), g = min(gate x, gate_limit), u = clamp(up x, -limit,
 * limit) when limit > 0; gate_limit 0: limit. ungated: h = act(up x). SILU is g * sigmoid(alpha * g). SITU caps nothing: its
 * gate is alpha * tanh(g / alpha) * sigmoid(g), its up limit * tanh(u / limit) when limit > 0. */
typedef struct SeActivationSpec {
  int32_t kind; /* SeActivation */
  int32_t gated;
  float alpha;
  float up_offset;
  float limit;      /* 0 = none */
  float gate_limit; /* 0 = limit */
} SeActivationSpec;

/* How a matrix lies: what is stored for each weight, and how that becomes a value. It is not the
 * arithmetic that reads it, which is a dtype. With v = table[code], or the code where there is no
 * table, a weight is
 *
 *   no offset        v * s              SE_OFFSET_F16   v * s + m
 *   SE_OFFSET_ZERO   (v - zero) * s     SE_OFFSET_U8    v * s - m * second super scale
 *
 * where s is the block's scale, times the super block's scale (SE_SCALE_U8, SE_SCALE_I8), times or
 * divided by the matrix's own. Each product, quotient and difference is rounded to f32, that of
 * the scales first; v - zero is exact. A float code without a scale is the value by itself. */
typedef struct SeMatrixFormat {
  int32_t code;       /* SeMatrixCode */
  int32_t table;      /* SeValueTable: code -> value; none for floats, i8 and e4m3 */
  int32_t scale;      /* SeScale */
  int32_t offset;     /* SeOffset */
  int64_t block_rows; /* rows of this matrix, from its first on, that share scales; 1: each has its
                         own. 0 where there is no scale */
  int64_t block_cols; /* columns that share a scale and an offset, a multiple of 16; cols or more:
                         all. 0 where there is no scale */
  int64_t super_cols; /* columns that share a scale of scales, a multiple of block_cols; 0: none */
  int64_t flags;      /* SeFormatFlag bits */
} SeMatrixFormat;

typedef enum SeFormatFlag {
  SE_FORMAT_GLOBAL_MULTIPLIES = 1, /* a scale of the whole matrix multiplies the blocks' scales */
  SE_FORMAT_GLOBAL_DIVIDES = 2,    /* it divides them */
  SE_FORMAT_PERMUTED = 4           /* stored column c is column permutation[c] of the layer */
} SeFormatFlag;

/* One matrix of every expert, as SeBackend.matrix_write wrote it: one opaque allocation each.
 * Backends without a layout of their own for floats hold row r of such a matrix of expert e at
 * (char*)data[e] + r * row_stride * sizeof(code), columns contiguous; elsewhere row_stride says
 * nothing. */
typedef struct SeMatrixTable {
  const void* const*
      data; /* [num_experts], NULL entries allowed; NULL table = the family has no such matrix */
  int64_t rows;
  int64_t cols;
  int64_t row_stride;            /* elements */
  const SeMatrixFormat* formats; /* host; NULL: one format, the values of SeExperts.dtype */
  int64_t num_formats;           /* 1 to 256 where there are formats */
  const uint8_t* format_of;      /* host: [num_experts] index into formats; NULL: all formats[0] */
} SeMatrixTable;

typedef struct SeBiasTable {
  const float* const* data; /* [num_experts] or NULL */
  int64_t stride; /* elements between two entries of one expert's bias (interleaved gate/up biases:
                     2) */
} SeBiasTable;

typedef struct SeExperts {
  int64_t num_experts;
  int32_t dtype;      /* SeDtype of the arithmetic: f32, f16 or bf16; biases are f32 */
  SeMatrixTable gate; /* [I, D] per expert; D = hidden size, or the latent size */
  SeMatrixTable up;   /* [I, D] */
  SeMatrixTable down; /* [D, I] */
  SeBiasTable gate_bias;
  SeBiasTable up_bias;
  SeBiasTable down_bias;
  SeActivationSpec activation;
} SeExperts;

/* Rows [first_row, first_row + num_rows) of one matrix of a layer. */
typedef struct SeMatrixRows {
  void* matrix;      /* device memory of matrix_bytes(rows, cols, dtype, format) */
  int32_t is_pinned; /* the matrix lies in memory of pinned_allocate instead, in the same layout */
  int64_t rows;
  int64_t cols;
  int32_t dtype;                /* SeDtype of the arithmetic: f32, f16 or bf16 */
  const SeMatrixFormat* format; /* of the matrix and of the source; as matrix_format answered */
  int64_t first_row; /* a multiple of matrix_granule, and so is num_rows but at the matrix's end */
  int64_t num_rows;
  /* Host. Row r of the codes begins at (r - first_row) * source_stride codes; floats lie as they
   * are, every other code takes a byte. */
  const void* source;
  int64_t source_stride; /* codes, at least cols */
  /* Host, dense, of these rows; NULL where the format has none. A block that several rows share is
   * repeated for each of them. */
  const void* scales;            /* [num_rows, blocks] of the format's scale */
  const void* offsets;           /* [num_rows, blocks] of the format's offset */
  const uint16_t* super_scales;  /* [num_rows, super blocks] f16 */
  const uint16_t* super_offsets; /* [num_rows, super blocks] f16: the second ones */
  const int32_t* permutation;    /* [cols], the same in every call for one matrix */
  float global;                  /* the scale of the whole matrix; 1: none */
} SeMatrixRows;

/* One MoE block: everything that does not change from call to call. All pointers are device
 * pointers of the backend. */
typedef struct SeMoeLayer {
  int64_t hidden_size;
  int64_t latent_size; /* 0: experts work in hidden_size */
  SeRouting routing;
  const float* router_weight;      /* [num_experts, hidden_size] f32 */
  const float* router_bias;        /* [num_experts] or NULL: added to the logits */
  const float* router_input_scale; /* [hidden_size] or NULL: q = r / rms(r) * scale *
                                      hidden_size^-0.5 before the router matmul */
  double router_norm_epsilon;
  int32_t weight_on_input; /* the routing weight multiplies the expert's input (Llama 4) */
  SeExperts experts;
  SeExperts shared;               /* num_experts 1, or 0 where the family has none */
  int32_t shared_gate_mode;       /* SeSharedGate */
  const float* shared_gate;       /* [hidden_size] or NULL */
  const float* shared_logit_bias; /* [1] or NULL: added to shared_gate . x */
  SeMatrixTable latent_down;      /* one matrix [latent_size, hidden_size], of the experts' dtype */
  SeMatrixTable latent_up;        /* one matrix [hidden_size, latent_size] */
  const float* latent_norm; /* [latent_size] or NULL: s = s / rms(s) * latent_norm of the sum over
                                the experts, before latent_up */
  double latent_norm_epsilon;
  const float* output_bias; /* [hidden_size] or NULL */
} SeMoeLayer;

typedef enum SeForwardArray {
  SE_ARRAY_HIDDEN = 1,
  SE_ARRAY_ROUTER_INPUT = 2,
  SE_ARRAY_OUTPUT = 4
} SeForwardArray;

/* Arrays are host memory, but for those that device_arrays names. */
typedef struct SeForwardArgs {
  uint32_t device_arrays; /* SeForwardArray bits: these lie in device memory */
  SeTensor hidden;        /* [T, hidden_size] f32, f16 or bf16; row-major contiguous */
  SeTensor router_input;  /* same shape; data NULL: the router reads hidden */
  SeTensor output;        /* [T, hidden_size] of hidden's dtype; every element is written */
  SeSelectArgs select;    /* router_logits is ignored; outputs are written unless replay is set */
  int32_t replay;         /* topk_ids and topk_weights are inputs: the gate does not run */
  const int32_t* cancel;  /* host; polled between experts (CPU) or before the launch (CUDA); not 0:
                             stop with SE_CANCELLED. May be NULL */
  int32_t num_threads;    /* CPU: participants at most; 0 = all */
  int32_t is_staged;      /* set by stage_forward, and by nobody else */
} SeForwardArgs;

#ifdef __cplusplus
}
#endif

#endif /* SPARSE_EXPERTS_ABI_LAYER_H_ */
