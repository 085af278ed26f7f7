// What the tests of the emulated runtime share: a runtime as a fresh process has it, checked calls.
#pragma once

#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>

#include "cpp/check.h"

inline bool is(cudaError_t error, cudaError_t expected, const std::string& what) {
  return CHECK_MESSAGE(error == expected, what, ": ", std::string(cudaGetErrorName(error)),
                       ", expected ", std::string(cudaGetErrorName(expected)));
}

inline bool ok(cudaError_t error, const std::string& what) { return is(error, cudaSuccess, what); }

// A kernel as the runtime sees one, without the engine's threads.
inline cudaError_t queue(cudaStream_t stream, std::function<void()> body) {
  simt::KernelLaunch launch;
  launch.name = "body";
  launch.body = std::move(body);
  return simt::enqueue_launch(std::move(launch), stream);
}

// A runtime as a fresh process has it, with these variables.
struct Variable {
  const char* name;
  const char* value;
};

class Fresh {
 public:
  Fresh() : Fresh(std::initializer_list<Variable>()) {}
  Fresh(std::initializer_list<Variable> variables) {
    for (const char* name : kNames) ::unsetenv(name);
    for (const Variable& variable : variables) ::setenv(variable.name, variable.value, 1);
    simt::reset_runtime();
  }
  ~Fresh() {
    for (const char* name : kNames) ::unsetenv(name);
    simt::reset_runtime();
  }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;

 private:
  static constexpr const char* kNames[] = {"SIMT_DEVICES",
                                           "SIMT_DRIVER",
                                           "SIMT_COMPUTE_CAPABILITY",
                                           "SIMT_MULTIPROCESSORS",
                                           "SIMT_MEMORY_BYTES",
                                           "SIMT_FAIL",
                                           "SIMT_POLLS"};
};

template <typename T>
T* device_memory(size_t count) {
  T* pointer = nullptr;
  ok(cudaMalloc(&pointer, count * sizeof(T)), "cudaMalloc");
  return pointer;
}

template <typename T>
T* pinned_memory(size_t count) {
  T* pointer = nullptr;
  ok(cudaMallocHost(&pointer, count * sizeof(T)), "cudaMallocHost");
  return pointer;
}

inline cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  ok(cudaStreamCreateWithFlags(&stream, flags), "cudaStreamCreateWithFlags");
  return stream;
}

inline cudaEvent_t new_event(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  ok(cudaEventCreateWithFlags(&event, flags), "cudaEventCreateWithFlags");
  return event;
}
