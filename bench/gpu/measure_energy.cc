#include "measure_energy.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

namespace sparse_experts::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// What lies in the stream's queue when the window ends must still run: a few milliseconds.
constexpr double kQueuedMicroseconds = 5000;

}  // namespace

void print_idle_energy(const EnergyCounter& counter, double seconds) {
  const uint64_t before = counter.millijoules();
  const Clock::time_point began = Clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const double joules = static_cast<double>(counter.millijoules() - before) * 1e-3;
  const double window = seconds_since(began);
  std::printf("{\"layer\":\"idle\",\"seconds\":%.3f,\"joules\":%.3f,\"watts\":%.1f}\n", window,
              joules, joules / window);
  std::fflush(stdout);
}

void print_energy(const EnergyCounter& counter, BenchCase* run, const std::string& shape,
                  int64_t num_tokens, const std::string& routing, int forwards, int copies,
                  double seconds) {
  const std::unique_ptr<Replay> replay = run->record(forwards, copies);
  const double microseconds = replay->median_microseconds(3);
  const int batch =
      std::clamp(static_cast<int>(kQueuedMicroseconds / std::max(microseconds, 1.0)), 1, 1000);
  // Clocks and voltage settle first.
  for (const Clock::time_point warm = Clock::now(); seconds_since(warm) < seconds / 4;) {
    replay->queue();
    replay->wait();
  }
  const uint64_t before = counter.millijoules();
  const Clock::time_point began = Clock::now();
  int64_t done = 0;
  double window = 0;
  do {
    for (int i = 0; i < batch; ++i) replay->queue();
    replay->wait();
    done += int64_t{batch} * forwards;
    window = seconds_since(began);
  } while (window < seconds);
  const double joules = static_cast<double>(counter.millijoules() - before) * 1e-3;
  const double tokens = static_cast<double>(done) * static_cast<double>(num_tokens);
  std::printf(
      "{\"layer\":\"ours\",\"shape\":\"%s\",\"tokens\":%lld,\"routing\":\"%s\",\"dtype\":\"bf16\","
      "\"copies\":%d,\"forwards\":%lld,\"seconds\":%.3f,\"joules\":%.3f,\"watts\":%.1f,"
      "\"joulesPerToken\":%.6g,\"source\":\"nvmlDeviceGetTotalEnergyConsumption\"}\n",
      shape.c_str(), static_cast<long long>(num_tokens), routing.c_str(), copies,
      static_cast<long long>(done), window, joules, joules / window, joules / tokens);
  std::fflush(stdout);
}

}  // namespace sparse_experts::bench
