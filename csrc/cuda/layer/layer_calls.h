// The functions of the C ABI that a layer or a forward of it is handed to: each enters the device,
// checks, runs, and turns every failure into a status.
#pragma once

#include "abi/backend.h"

namespace sparse_experts::cuda {

uint64_t forward_workspace_bytes(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions*,
                                 int64_t num_tokens);
void describe_layer(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                    int64_t num_tokens, SeForwardDescription* description);
int32_t layer_open(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                   SeLayer** opened, SeStatus* status);
void layer_close(SeLayer* layer);
int32_t stage_forward(SeLayer* layer, SeForwardArgs* args, SeStatus* status);
void unstage_forward(SeLayer* layer);
int32_t forward(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                uint64_t workspace_bytes, SeStatus* status);
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

}  // namespace sparse_experts::cuda
