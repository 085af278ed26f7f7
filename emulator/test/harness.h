// Runs kernels straight on the engine, without a runtime: options, buffers that the engine knows,
// and what a planted defect must lead to in which flavour.
#pragma once

#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/launch.h>
#include <simt/memory.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "cpp/check.h"

#if defined(SIMT_RACE)
constexpr bool kRaceFlavour = true;
#else
constexpr bool kRaceFlavour = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressFlavour = true;
#else
constexpr bool kAddressFlavour = false;
#endif

using native_test::Every;

struct Setting {
  simt::Schedule schedule;
  uint64_t seed;
  const char* name;
};
// Every schedule, those with chance in it with several seeds.
const std::vector<Setting>& all_settings();

// Sets the schedule (and the other options to their defaults) for its lifetime.
class Scheduled {
 public:
  explicit Scheduled(simt::Schedule schedule, uint64_t seed = 1);
  explicit Scheduled(const simt::Options& options);
  ~Scheduled();
  Scheduled(const Scheduled&) = delete;
  Scheduled& operator=(const Scheduled&) = delete;

 private:
  simt::Options before_;
};

// Global memory of exactly that size, filled with 0xFF.
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t count) : count_(count), data_(new T[count > 0 ? count : 1]) {
    std::memset(static_cast<void*>(data_), 0xFF, count * sizeof(T));
    simt::register_allocation(data_, count * sizeof(T));
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    std::memcpy(static_cast<void*>(data_), values.data(), values.size() * sizeof(T));
  }
  ~Buffer() {
    simt::unregister_allocation(data_);
    delete[] data_;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return count_; }

 private:
  size_t count_;
  T* data_;
};

struct Outcome {
  bool clean;
  simt::Defect defect;
};

template <typename... Parameters, typename... Arguments>
Outcome run(simt::Start start, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, Arguments... arguments) {
  simt::KernelLaunch launch;
  launch.early = start == simt::Start::kEarly;
  launch.function = reinterpret_cast<const void*>(kernel);
  launch.name = simt::function_name(launch.function);
  launch.grid = grid;
  launch.block = block;
  launch.shared_bytes = shared_bytes;
  launch.body = simt::detail::Invocation<Parameters...>{
      kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
  Outcome outcome;
  outcome.clean = simt::run_grid(launch, &outcome.defect);
  return outcome;
}

template <typename... Parameters, typename... Arguments>
Outcome run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments... arguments) {
  return run(simt::Start::kAfter, kernel, grid, block, shared_bytes, arguments...);
}

// The kernel ran to its end without a defect.
bool expect_clean(const Outcome& outcome, const std::string& what);

// It was stopped for one of these reasons; the report has a source line and the text in it.
bool expect_defect(const Outcome& outcome, std::initializer_list<simt::DefectKind> kinds,
                   const std::string& what, const std::string& text = "");

// Runs this program again to execute one planted defect, which must kill it with that text. The
// child runs the function that main.cc knows by the name.
void expect_death(const char* child, const std::string& text);

// A small random generator for inputs.
class Inputs {
 public:
  explicit Inputs(uint64_t seed) : state_(seed * 2654435761u + 88172645463325252u) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f; }  // [-1, 1)
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>((next() >> 32) % bound); }

 private:
  uint64_t state_;
};

inline uint16_t bf16_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float bf16_value(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
