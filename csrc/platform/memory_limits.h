// Limits that control groups (containers, systemd, batch systems) set on the memory of this
// process. Going beyond one ends the process, whatever the machine has left.
#pragma once

#include <cstdint>
#include <string>

namespace sparse_experts::platform {

struct MemoryLimit {
  uint64_t limit_bytes = UINT64_MAX;  // the least of all groups that this process is in
  uint64_t left_bytes = UINT64_MAX;   // the least that any of them has left
};

// Reads the groups of this process and all that they lie in, version 1 and 2. What cannot be read
// does not limit. `root` stands before every path, for tests.
MemoryLimit memory_limit(const std::string& root = "");

}  // namespace sparse_experts::platform
