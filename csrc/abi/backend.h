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
#include "abi/layer.h"
#include "abi/stages.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised on any change of a struct or a meaning in this file and those of abi/ that it includes; the
 * addon refuses a library with another number. */
#define SE_BACKEND_ABI_VERSION 15u

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

  /* Memory of the host that a device with memory of its own copies from by itself, and such copies. NULL,
   * all four: the device's memory is the host's.
   * fill_begin queues a copy into device memory and returns. What forward_experts of any layer of the
   * device computes after it reads what has been copied. `from` may be written to once forward_finish
   * has followed that, or fill_wait, which returns when all copies queued so far are done. */
  int32_t (*pinned_allocate)(SeDevice* device, uint64_t bytes, void** data, SeStatus* status);
  void (*pinned_free)(SeDevice* device, void* data, uint64_t bytes);
  int32_t (*fill_begin)(SeDevice* device, void* to, const void* from, uint64_t bytes,
                        SeStatus* status);
  int32_t (*fill_wait)(SeDevice* device, SeStatus* status);

  /* Whether each matrix of a layer may have a format of its own. 0: those that one matmul reads have
   * one format, or layer_open refuses them: gate and up of all routed experts, their down matrices, and
   * the same two of the shared experts. */
  int32_t mixes_formats;

  /* A layer's matrices may lie in a layout of the backend's own. matrix_granule: rows that it packs
   * together (0: rows lie as they are, whatever their format); matrix_format: whether it computes a dtype with matrices in
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
  /* Places for a call's host arrays in memory that the layer's device copies from and to by itself, so
   * that a small call is copied once on the host each way. Sizes and the arrays that there are (not
   * NULL) are as for forward. Each host array's pointer is replaced by its place, of dense rows,
   * contents arbitrary; what the call has no use for becomes NULL. The caller writes the inputs there,
   * calls forward with these args, reads the results, and ends with unstage_forward.
   * One call of the device at a time has the places: is_staged stays 0, and the args as they are, where
   * another has them, or the call is not small. On any thread, beside forwards of the same layer. NULL:
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

  /* A run, of any layer. A device of the host (is_host) may have several open, each in a workspace of its
   * own, and forwards between their steps; others one, and no forward meanwhile. NULL, all: the backend has
   * none. args, its arrays and the workspace are as for forward, and stay until forward_end. ids, weights
   * and flags are there after forward_begin, flags of overflowed sums after forward_finish. Failed: NULL. */
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
