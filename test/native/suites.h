// The groups of native tests; each runs on the device it is given.
#pragma once

#include <string>

#include "abi/backend.h"

namespace native_test {

struct Context {
  const SeBackend* backend;
  SeDevice* device;
  std::string isa;
};

void test_activations(const Context& context);  // activation, conversions
void test_routing(const Context& context);      // select_experts against the oracle
void test_stages(const Context& context);       // gate, dispatch, expert_matmul, combine
void test_panels(const Context& context);       // packed weights and the product over them
void test_forward(const Context& context);      // whole layers against the oracle
void test_bits(const Context& context);         // threads, batches, waves, reruns
void test_faults(
    const Context& context);  // NaN rows, replay, cancel, absent experts, bad arguments, memory
void test_concurrency(const Context& context);  // one device from several threads
void run_bench(const Context& context);

}  // namespace native_test
