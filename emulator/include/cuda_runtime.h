// Stands in for the CUDA toolkit's header of this name when kernels are compiled for the emulator:
// keywords, vector types, built-in variables, intrinsics and the runtime's functions.
#pragma once

#if !defined(SIMT_EMULATOR)
#define SIMT_EMULATOR 1
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// No __shared__: see SIMT_STATIC_SHARED and simt::dynamic_shared in simt/thread.h.

#include "simt/atomics.h"
#include "simt/bits.h"
#include "simt/math.h"
#include "simt/runtime_api.h"
#include "simt/thread.h"
#include "simt/types.h"
#include "simt/warp.h"
