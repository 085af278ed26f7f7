#include "read_faults.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

namespace engine_test {
namespace {

std::atomic<bool> is_active{false};
std::atomic<ReadFault> kind{ReadFault::kFails};
std::atomic<int> reads_left{0};
std::atomic<int> waiting{0};
std::atomic<int> reads{0};

// Whether this read is one of those that go wrong.
bool is_meant() { return is_active && reads_left.fetch_sub(1) <= 0; }

template <typename Read>
ssize_t faulty(size_t count, const Read& read) {
  if (!is_meant()) return read(count);
  switch (kind) {
    case ReadFault::kFails:
      errno = EIO;
      return -1;
    case ReadFault::kEnds:
      return 0;
    case ReadFault::kShort:
      return read(std::min<size_t>(count, 100));
    case ReadFault::kWaits:
      ++waiting;
      while (is_active) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --waiting;
      return read(count);
  }
  return -1;
}

}  // namespace

int num_reads() { return reads; }

ReadFaults::ReadFaults(ReadFault fault, int nth) {
  kind = fault;
  reads_left = nth;
  is_active = true;
}

ReadFaults::~ReadFaults() { is_active = false; }

int ReadFaults::num_waiting() const { return waiting; }

void ReadFaults::release() const { is_active = false; }

}  // namespace engine_test

// The linker's --wrap=pread sends the program's calls here.
extern "C" {
ssize_t __real_pread(int descriptor, void* to, size_t count, off_t offset);
ssize_t __wrap_pread(int descriptor, void* to, size_t count, off_t offset) {
  ++engine_test::reads;
  return engine_test::faulty(
      count, [&](size_t wanted) { return __real_pread(descriptor, to, wanted, offset); });
}
}
