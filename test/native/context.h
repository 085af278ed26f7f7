// What the native tests run on: a device of the CPU backend with one instruction set.
#pragma once

#include <string>

#include "abi/backend.h"

namespace native_test {

struct Context {
  const SeBackend* backend;
  SeDevice* device;
  std::string isa;
};

// Of the round that runs. Each round has another instruction set.
const Context& current();

void run_bench(const Context& context);
// Kinds whose name holds `only`.
void run_panel_bench(const Context& context, const std::string& only);

}  // namespace native_test
