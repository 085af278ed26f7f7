// Energy of forwards over a window of time.
#pragma once

#include <string>

#include "bench_case.h"
#include "energy_counter.h"

namespace sparse_experts::bench {

// Prints one JSON object: joules of a GPU that has nothing to do for that long.
void print_idle_energy(const EnergyCounter& counter, double seconds);

// Forwards of a graph, weights cold, again and again for at least `seconds`; prints one JSON object.
void print_energy(const EnergyCounter& counter, BenchCase* run, const std::string& shape,
                  int64_t num_tokens, const std::string& routing, int forwards, int copies,
                  double seconds);

}  // namespace sparse_experts::bench
