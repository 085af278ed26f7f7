// Backends by name. "cpu" is linked in; "cuda" is a shared library beside this one, opened at first
// use.
#pragma once

#include <string>

#include "abi/backend.h"

namespace sparse_experts::engine {

struct BackendLookup {
  const SeBackend* backend = nullptr;
  std::string reason;  // why there is none
};

// The answer for a name is found once and kept; callable from any thread. A library once opened
// stays open.
//
// "cuda": the file named by SPARSE_EXPERTS_CUDA_LIBRARY, else libsparse_experts_cuda.so in the
// directory of this library. It must export se_backend_entry and have this build's abi_version and
// table size.
BackendLookup find_backend(const char* name);

}  // namespace sparse_experts::engine
