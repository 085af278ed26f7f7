#include "runtime/queue.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "runtime/capture.h"

namespace simt::runtime {

namespace {

bool open(const OperationPointer& operation) { return operation != nullptr && !operation->done; }

void finish(Runtime& state, Operation& operation) {
  operation.done = true;
  operation.finished = Clock::now();
  operation.after.clear();
  --state.devices[static_cast<size_t>(operation.device)]->pending;
}

// A host function is waited for by nobody, so it gets a thread that waits for it.
void run_soon(const OperationPointer& operation) {
  std::thread([operation] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    Runtime& state = runtime();
    Lock lock(state.mutex);
    run_until(state, lock, operation);
  }).detach();
}

}  // namespace

OperationPointer enqueue(Runtime& state, CUstream_st* stream, Work&& work) {
  Device& device = *state.devices[static_cast<size_t>(stream->device)];
  auto operation = std::make_shared<Operation>();
  operation->device = stream->device;
  operation->work = std::move(work);
  if (open(stream->tail)) operation->after.push_back(stream->tail);
  if (stream->legacy) {
    // The default stream comes after all blocking streams, and they come after it.
    for (const OperationPointer& tail : open_tails(state, stream->device, true)) {
      if (tail != stream->tail) operation->after.push_back(tail);
    }
  } else if (stream->blocking && open(device.legacy.tail)) {
    operation->after.push_back(device.legacy.tail);
  }
  stream->tail = operation;
  stream->polls = 0;
  ++device.pending;
  if (operation->work.has_host_function) run_soon(operation);
  return operation;
}

cudaError_t submit(Runtime& state, CUstream_st* stream, Work&& work, OperationPointer* queued) {
  if (queued != nullptr) *queued = nullptr;
  if (stream->capture != nullptr) return capture_work(stream, std::move(work));
  if (stream->legacy) {
    const cudaError_t error = refuse_legacy(state, stream->device);
    if (error != cudaSuccess) return error;
  }
  const cudaError_t failure = state.devices[static_cast<size_t>(stream->device)]->failure;
  if (failure != cudaSuccess) return failure;
  OperationPointer operation = enqueue(state, stream, std::move(work));
  if (queued != nullptr) *queued = std::move(operation);
  return cudaSuccess;
}

void run_until(Runtime& state, Lock& lock, const OperationPointer& target) {
  if (!open(target)) return;
  lock.unlock();
  {
    const Lock execution(state.execution);
    std::vector<OperationPointer> path = {target};
    lock.lock();
    while (!path.empty()) {
      const OperationPointer operation = path.back();
      if (operation->done) {
        path.pop_back();
        continue;
      }
      std::vector<OperationPointer>& after = operation->after;
      after.erase(std::remove_if(after.begin(), after.end(),
                                 [](const OperationPointer& one) { return one->done; }),
                  after.end());
      if (!after.empty()) {
        path.push_back(after.back());
        continue;
      }
      Device& device = *state.devices[static_cast<size_t>(operation->device)];
      Work work = std::exchange(operation->work, Work());
      if (work.run && device.failure == cudaSuccess) {
        lock.unlock();
        cudaError_t error;
        try {
          error = work.run();
        } catch (...) {
          error = cudaErrorUnknown;
        }
        work.run = nullptr;  // what it holds goes outside of the mutex
        lock.lock();
        if (error != cudaSuccess && device.failure == cudaSuccess) device.failure = error;
      }
      finish(state, *operation);
      path.pop_back();
    }
    lock.unlock();
  }
  lock.lock();
}

void relieve(Runtime& state, Lock& lock, const OperationPointer& queued) {
  if (queued == nullptr) return;
  if (state.devices[static_cast<size_t>(queued->device)]->pending < kQueueDepth) return;
  run_until(state, lock, queued);
}

std::vector<OperationPointer> open_tails(Runtime& state, int device, bool blocking_only) {
  std::vector<OperationPointer> tails;
  Device& owner = *state.devices[static_cast<size_t>(device)];
  std::vector<OperationPointer>& orphans = owner.orphans;
  orphans.erase(std::remove_if(orphans.begin(), orphans.end(),
                               [](const OperationPointer& one) { return one->done; }),
                orphans.end());
  tails = orphans;
  if (open(owner.legacy.tail)) tails.push_back(owner.legacy.tail);
  for (CUstream_st* stream : state.streams) {
    if (stream->device != device || !open(stream->tail)) continue;
    if (blocking_only && !stream->blocking) continue;
    tails.push_back(stream->tail);
  }
  return tails;
}

void run_device(Runtime& state, Lock& lock, int device) {
  for (const OperationPointer& tail : open_tails(state, device, false)) {
    run_until(state, lock, tail);
  }
}

void abandon_work(Runtime& state, int device) {
  std::vector<OperationPointer> open_ones = open_tails(state, device, false);
  while (!open_ones.empty()) {
    const OperationPointer operation = open_ones.back();
    open_ones.pop_back();
    if (operation->done) continue;
    if (operation->device == device) {
      operation->work = Work();
      for (const OperationPointer& before : operation->after) open_ones.push_back(before);
      finish(state, *operation);
    }
  }
}

}  // namespace simt::runtime
