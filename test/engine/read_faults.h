// Reads that fail: the engine's tests are linked so that pread goes through here.
#pragma once

#include <atomic>

namespace engine_test {

enum class ReadFault {
  kFails,  // the system reports an error
  kEnds,   // the file ends there
  kShort,  // every read brings a few bytes of what was asked for
  kWaits   // the reads from there on wait for release()
};

// Reads of the program so far.
int num_reads();

// From the `nth` read on (0: the next), for as long as it lives. One at a time.
class ReadFaults {
 public:
  ReadFaults(ReadFault fault, int nth);
  ~ReadFaults();
  ReadFaults(const ReadFaults&) = delete;
  ReadFaults& operator=(const ReadFaults&) = delete;

  int num_waiting() const;
  void release() const;
};

}  // namespace engine_test
