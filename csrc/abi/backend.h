/* The C ABI between the addon and a compute backend (CPU: linked in; CUDA: a sibling shared library
 * opened at run time).
 *
 * A backend exports one symbol, se_backend_entry, that returns a table of functions. Rules that
 * every implementation keeps:
 *  - No exception, abort or exit crosses this boundary: a failure is an SeCode plus a filled
 * SeStatus.
 *  - Views are plain: pointer, dtype, shape, strides in elements. All offsets are 64-bit.
 *  - Pointers are the device's own memory (CPU: the process's; CUDA: device memory) unless a
 * comment says host. What could lead outside of an array (sizes, strides, counts, ids, offsets,
 * slots) is checked by the backend before anything reads through it; a breach is
 * SE_INVALID_ARGUMENT. The rest of the contract (enums, figures, options that exclude each other)
 * is the caller's duty, checked where ops/contract.h says so.
 *  - A failure that leaves the device unusable is SE_DEVICE_LOST; from then on every call on the
 * device returns it at once, with the first cause.
 *  - Expert weights come as per-expert pointer tables, never as a base address plus a stride. A
 * NULL entry is an expert that is not here. Its slots are skipped and their rows left out of the
 * sum, unless the layer is a cached one (SeLayerOptions.cached): there a call that needs an absent
 * expert is SE_INTERNAL.
 *  - Every reduction has a fixed order: the same input gives the same bits, whatever the number of
 * threads, and a row alone gives the bits that it gives inside any batch.
 */
#ifndef SPARSE_EXPERTS_BACKEND_H_
#define SPARSE_EXPERTS_BACKEND_H_

#include <stddef.h>
#include <stdint.h>

#include "abi/enums.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised on any change of a struct or a meaning in this file; the addon refuses a library with
 * another number. */
#define SE_BACKEND_ABI_VERSION 12u

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
 * Backends without a layout of their own (matrix_granule 0) hold row r of a float matrix of expert
 * e at (char*)data[e] + r * row_stride * sizeof(code), columns contiguous; for the others
 * row_stride says nothing. */
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
  void* matrix; /* device memory of matrix_bytes(rows, cols, dtype, format) */
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

/* ---- stages ---------------------------------------------------------------------------------- */

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

/* ---- the table ------------------------------------------------------------------------------- */

typedef enum SeDeviceKind { SE_KIND_CPU = 0, SE_KIND_GPU = 1 } SeDeviceKind;

typedef struct SeDeviceInfo {
  int32_t kind;               /* SeDeviceKind */
  int32_t is_host;            /* device pointers are pointers of this process */
  int32_t is_batch_invariant; /* rows are so whatever SeLayerOptions says */
  char name[128];
  char architecture[64]; /* CPU: instruction set in use; CUDA: sm_XY */
  char unavailable[256]; /* empty: usable; else the reason */
  uint64_t total_bytes;
  uint64_t free_bytes;
  int32_t compute_units; /* threads or SMs */
} SeDeviceInfo;

/* Since the device was opened. */
typedef struct SeDeviceCounters {
  uint64_t device_allocations; /* calls of the driver's allocator, pinned memory included */
  uint64_t device_bytes;       /* held now */
  uint64_t pinned_bytes;       /* held now */
  uint64_t kernel_launches;    /* outside of graphs */
  uint64_t graph_captures;
  uint64_t graph_replays;
  uint64_t copied_to_device_bytes;
  uint64_t copied_to_host_bytes;
} SeDeviceCounters;

typedef struct SeLayerOptions {
  int32_t batch_invariant; /* a row's bits never depend on the rows beside it; where the device's
                              rows are not so by themselves */
  /* Rows become codes of 8 bits, with a scale for each 32 columns in the order in which the matrix
   * stores them, before they meet expert matrices in formats that encodes_activations names. Others,
   * router and latent projections read them as they are. */
  int32_t int8_activations;
  /* Experts come and go by layer_set_experts, and are computed by a run in several steps. One that a
   * call needs must be here when it is computed: an absent one is an error, never a smaller sum. */
  int32_t cached;
} SeLayerOptions;

/* Where the matrices of one expert lie; gate is NULL where the family has none. All NULL: the expert
 * is not here. */
typedef struct SeExpertMatrices {
  const void* gate;
  const void* up;
  const void* down;
} SeExpertMatrices;

/* A forward in steps, so that a caller can bring experts while others are computed:
 *
 *   forward_begin    checks the call and routes all tokens
 *   forward_wave     begins the next wave of tokens, and says which experts it needs
 *   forward_experts  computes the slots of some of them, in any order and any number of steps
 *   forward_finish   sums the slots of each token; then the next wave
 *   forward_end      forgets the run, whatever has become of it
 *
 * It gives the bits of `forward`, however the experts are cut into steps. */
typedef struct SeForwardRun SeForwardRun;

typedef struct SeForwardWave {
  int64_t first_token;
  int64_t num_tokens; /* 0: every token has been computed */
  /* Host, [experts + 1], until the next call for the run: expert e has expert_offsets[e + 1] -
   * expert_offsets[e] slots of the wave. Rows that are not finite have none. */
  const int32_t* expert_offsets;
} SeForwardWave;

/* What a forward runs, one line per stage. */
typedef struct SeForwardDescription {
  char gate[160];
  char select[160];
  char dispatch[160];
  char gate_up[240];
  char down[240];
  char combine[160];
} SeForwardDescription;

/* Where a layer's time went: nanoseconds of all its forwards so far, cancelled ones included. */
typedef struct SePhaseTimes {
  int64_t routing_ns;  /* gate and selection */
  int64_t dispatch_ns; /* slots sorted by expert, rows converted for the matmuls */
  int64_t experts_ns;  /* matmuls of routed and shared experts, latent projections */
  int64_t combine_ns;
} SePhaseTimes;

typedef struct SeDevice SeDevice;
/* A layer made ready on a device: its description, and what the backend keeps for it (CUDA: stream,
 * graphs, pinned staging). */
typedef struct SeLayer SeLayer;

typedef struct SeBackend {
  uint32_t abi_version;
  uint32_t table_bytes;      /* sizeof(SeBackend) */
  const char* name;          /* "cpu", "cuda" */
  const char* build;         /* compiler and its flags */
  const char* architectures; /* instruction sets or sm_XY compiled in, separated by spaces */

  int32_t (*device_count)(SeStatus* status);
  int32_t (*device_info)(int32_t index, SeDeviceInfo* info, SeStatus* status);
  int32_t (*device_open)(int32_t index, SeDevice** device, SeStatus* status);
  void (*device_close)(SeDevice* device);

  int32_t (*memory_allocate)(SeDevice* device, uint64_t bytes, void** data,
                             SeStatus* status); /* 64-byte aligned at least */
  void (*memory_free)(SeDevice* device, void* data, uint64_t bytes);
  int32_t (*copy_to_device)(SeDevice* device, void* to, const void* from, uint64_t bytes,
                            SeStatus* status);
  int32_t (*copy_to_host)(SeDevice* device, void* to, const void* from, uint64_t bytes,
                          SeStatus* status);

  /* A layer's matrices may lie in a layout of the backend's own. matrix_granule: rows that it packs
   * together (0: rows lie as they are); matrix_format: whether it computes a dtype with matrices in
   * a format, and if only after conversion, the format to convert to (in place of the one asked
   * for); matrix_bytes: memory that one matrix takes in a format that it holds; matrix_write may
   * run on several threads at once for rows that share no granule. */
  int64_t (*matrix_granule)(SeDevice* device);
  int32_t (*matrix_format)(SeDevice* device, int32_t dtype,
                           SeMatrixFormat* format); /* SeFormatSupport */
  uint64_t (*matrix_bytes)(SeDevice* device, int64_t rows, int64_t cols, int32_t dtype,
                           const SeMatrixFormat* format);
  int32_t (*matrix_write)(SeDevice* device, const SeMatrixRows* rows, SeStatus* status);
  /* Whether rows of codes (SeLayerOptions.int8_activations) are multiplied by matrices in a format that
   * it holds: 1 or 0. NULL: by none, and no layer may ask for it. */
  int32_t (*encodes_activations)(SeDevice* device, const SeMatrixFormat* format);

  int32_t (*gate)(SeDevice* device, const SeGateArgs* args, SeStatus* status);
  int32_t (*select_experts)(SeDevice* device, const SeRouting* routing, const SeSelectArgs* args,
                            SeStatus* status);
  int32_t (*dispatch)(SeDevice* device, const SeDispatchArgs* args, SeStatus* status);
  int32_t (*expert_matmul)(SeDevice* device, const SeExpertMatmulArgs* args, SeStatus* status);
  int32_t (*combine)(SeDevice* device, const SeCombineArgs* args, SeStatus* status);

  /* Pure functions of their arguments and the device's limits. The layer's pointers may be anything
   * but its NULLs (they say what the family lacks).
   * Scratch for one forward of num_tokens: grows with num_tokens up to a ceiling; larger calls run
   * in waves of tokens. */
  uint64_t (*forward_workspace_bytes)(SeDevice* device, const SeMoeLayer* layer,
                                      const SeLayerOptions* options, int64_t num_tokens);
  void (*describe_forward)(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                           int64_t num_tokens, SeForwardDescription* description);

  /* The layer's memory must outlive the SeLayer. */
  int32_t (*layer_open)(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                        SeLayer** opened, SeStatus* status);
  void (*layer_close)(SeLayer* layer);
  /* Places for a call's host arrays in memory of the layer's own that its device copies from and to
   * by itself, so that a small call is copied once on the host each way. Sizes and the arrays that
   * there are (not NULL) are as for forward. Each host array's pointer is replaced by its place, of
   * dense rows, contents arbitrary; what the call has no use for becomes NULL. The caller writes the
   * inputs there, calls forward with these args, reads the results, and ends with unstage_forward.
   * One call at a time has the places: is_staged stays 0, and the args as they are, where another
   * has them, or the call is not small. On any thread, beside forwards of the same layer. NULL:
   * nothing would be gained. */
  int32_t (*stage_forward)(SeLayer* layer, SeForwardArgs* args, SeStatus* status);
  void (*unstage_forward)(SeLayer* layer);
  /* Returns when the results are in place. workspace: at least forward_workspace_bytes(num_tokens)
   * bytes of the device, contents arbitrary on entry and exit. The caller brings what it has: where
   * that is less, SE_WORKSPACE_TOO_SMALL comes before anything else happens. */
  int32_t (*forward)(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                     uint64_t workspace_bytes, SeStatus* status);

  /* Cached layers only, and between the calls of a run too: where the matrices of experts[i] lie from
   * now on. They hold what matrix_write wrote. NULL in place of the function: the backend has no
   * cached layers, and layer_open refuses them. */
  int32_t (*layer_set_experts)(SeLayer* layer, const int32_t* experts, int64_t num_experts,
                               const SeExpertMatrices* matrices, SeStatus* status);

  /* A run, of any layer; one at a time on a device, and no forward meanwhile. NULL, all of them: the
   * backend has none. args, its arrays and the workspace are as for forward, and stay until
   * forward_end. ids, weights and flags are written when forward_begin returns, flags of overflowed
   * sums by forward_finish. On failure *run is NULL. */
  int32_t (*forward_begin)(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                           uint64_t workspace_bytes, SeForwardRun** run, SeStatus* status);
  int32_t (*forward_wave)(SeForwardRun* run, SeForwardWave* wave, SeStatus* status);
  /* Each expert at most once in a wave. NULL: all that the wave still needs. An expert with slots
   * that is absent is SE_INTERNAL, and nothing is computed then. */
  int32_t (*forward_experts)(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                             SeStatus* status);
  /* The wave's slot rows: device memory, [num_tokens * top_k, width of the experts' output] f32, what
   * forward_finish sums. The rows of the slots of `experts` are the caller's to write from here on,
   * in place of forward_experts; none may be named. */
  int32_t (*forward_slot_rows)(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                               SeTensor* rows, SeStatus* status);
  /* SE_INTERNAL where the rows of an expert with slots have been neither computed nor given to the
   * caller. */
  int32_t (*forward_finish)(SeForwardRun* run, SeStatus* status);
  void (*forward_end)(SeForwardRun* run);

  void (*device_counters)(SeDevice* device, SeDeviceCounters* counters);
  /* At any time, on any thread, until layer_close. NULL: the backend does not measure it. */
  void (*layer_phases)(SeLayer* layer, SePhaseTimes* times);
} SeBackend;

typedef const SeBackend* (*SeBackendEntry)(void);

#ifdef __cplusplus
}
#endif

#endif /* SPARSE_EXPERTS_BACKEND_H_ */
