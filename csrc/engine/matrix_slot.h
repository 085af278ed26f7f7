// Where one matrix of a checkpoint goes in a layer's memory.
#pragma once

#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::engine {

enum class MatrixRole : int32_t { kExpert, kShared, kLatent };
enum class MatrixKind : int32_t { kGate, kUp, kGateUp, kDown };

// Into one matrix of the device, or, fused gate and up, into two. What lies there is the backend's
// affair (SeBackend.matrix_write).
struct MatrixSlot {
  uint8_t* data = nullptr;
  uint8_t* up_data = nullptr;   // kGateUp: the second half, or the odd rows
  bool is_interleaved = false;  // kGateUp: even rows gate, odd rows up; else the first half is gate
  int64_t rows = 0;             // kGateUp: of both
  int64_t cols = 0;
  int32_t dtype = SE_F32;                  // the arithmetic that reads it
  const SeMatrixFormat* format = nullptr;  // as it is held; of both
  bool is_pinned = false;                  // in memory of the host that the device copies from
};

}  // namespace sparse_experts::engine
