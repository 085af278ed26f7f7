// Deferred streams. Work is kept as a graph of operations (each comes after its stream's previous
// one and after what its stream waits for) and runs only when somebody waits for it, on that
// thread, one operation at a time in the whole process. Whatever nobody waited for has not happened
// yet: the most hostile order that CUDA's rules allow.
//   - no more than kQueueDepth operations wait per device: then the submitting thread runs its own
//     stream, as a full hardware queue would make it wait
//   - host functions and what they come after also run on their own, a little later: a program may
//     rest until one calls
#pragma once

#include "runtime/state.h"

namespace simt::runtime {

constexpr int64_t kQueueDepth = 1024;

// Queues work on a stream, or adds it to the graph that the stream captures. *queued (may be null)
// is what to wait for; null when captured. Mutex held.
cudaError_t submit(Runtime& state, CUstream_st* stream, Work&& work, OperationPointer* queued);

// Adds an operation behind the stream's last one. Mutex held; the stream does not capture.
OperationPointer enqueue(Runtime& state, CUstream_st* stream, Work&& work);

// Runs an operation and all that it comes after. The lock (of the mutex) is released meanwhile.
void run_until(Runtime& state, Lock& lock, const OperationPointer& target);

// Runs the stream if the device's queue is full.
void relieve(Runtime& state, Lock& lock, const OperationPointer& queued);

// Runs all that was queued on the device when called.
void run_device(Runtime& state, Lock& lock, int device);

// The last operations of the device's streams that are not done. Mutex held.
std::vector<OperationPointer> open_tails(Runtime& state, int device, bool blocking_only);

// Marks all of a device's queued work as done without running it. Both locks held.
void abandon_work(Runtime& state, int device);

}  // namespace simt::runtime
