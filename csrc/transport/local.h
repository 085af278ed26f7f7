// Ranks of one process: messages are copied from one to the other. A network can be made slow, unordered
// and lossy, by a seed: what happens to the n-th message of a pair of ranks depends on nothing else.
#pragma once

#include <cstdint>
#include <memory>

#include "transport/transport.h"

namespace sparse_experts::transport {

struct LocalFaults {
  uint64_t seed = 1;
  int64_t max_delay_ns = 0;       // each message takes up to so long
  bool reorders = false;          // later ones may overtake it
  int32_t lost_per_thousand = 0;  // messages that leave and never arrive
};

class LocalNetwork {
 public:
  explicit LocalNetwork(int32_t num_ranks, const LocalFaults& faults = {});
  ~LocalNetwork();
  LocalNetwork(const LocalNetwork&) = delete;
  LocalNetwork& operator=(const LocalNetwork&) = delete;

  // For SeTransportOptions.network. It outlives the ranks' transports.
  void* handle() { return this; }

  // The rank ends as a killed process does: its peers lose it, nothing more arrives from or at it.
  void kill(int32_t rank);
  // Nothing arrives from or at the rank, and nobody hears why.
  void silence(int32_t rank);

  class Shared;
  Shared& shared() { return *shared_; }

 private:
  std::unique_ptr<Shared> shared_;
};

const SeTransportTable& local_transport();

}  // namespace sparse_experts::transport
