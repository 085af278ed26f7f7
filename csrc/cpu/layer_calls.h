// The functions of the C ABI that a layer or a forward of it is handed to: each checks, takes the
// device, runs, and turns every failure into a status.
#pragma once

#include "abi/backend.h"

namespace sparse_experts::cpu {

int32_t layer_open(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                   SeLayer** opened, SeStatus* status);
void layer_close(SeLayer* layer);
int32_t layer_set_experts(SeLayer* layer, const int32_t* experts, int64_t num_experts,
                          const SeExpertMatrices* matrices, SeStatus* status);
int32_t forward_begin(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                      uint64_t workspace_bytes, SeForwardRun** run, SeStatus* status);
int32_t forward_wave(SeForwardRun* run, SeForwardWave* wave, SeStatus* status);
int32_t forward_experts(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                        SeStatus* status);
int32_t forward_slot_rows(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                          SeTensor* rows, SeStatus* status);
int32_t forward_finish(SeForwardRun* run, SeStatus* status);
void forward_end(SeForwardRun* run);
int32_t layer_forward(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                      uint64_t workspace_bytes, SeStatus* status);
void layer_phases(SeLayer* layer, SePhaseTimes* times);

}  // namespace sparse_experts::cpu
