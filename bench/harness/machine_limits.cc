// What this machine can do, as JSON: bytes read from memory per second, f32 multiply-adds and bf16
// dot products per second, each with every given number of threads.
//
//   machine_limits --threads 1,2 [--milliseconds 200] [--mebibytes 256] [--follow]
//
// --follow measures again for every line of standard input, until it ends: each answer is a line.
//
// A figure is the best of rounds that all threads begin and end together: other load can only lower
// it, so the best round is nearest to the limit. `median` says how steady the rounds were.

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "peak_loops.h"

namespace machine_limits {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// All threads leave together; yields, so that fewer cores than threads still get on.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    const int phase = phase_.load();
    if (arrived_.fetch_add(1) + 1 == count_) {
      arrived_.store(0);
      phase_.fetch_add(1);
      return;
    }
    while (phase_.load() == phase) std::this_thread::yield();
  }

 private:
  const int count_;
  std::atomic<int> arrived_{0};
  std::atomic<int> phase_{0};
};

struct Rate {
  double best = 0;
  double median = 0;
};

// Rounds of `work(thread)` on `threads` threads for `budget` seconds, at least 5. `amount` is what
// one round does on all of them.
Rate rate_of(int threads, double amount, double budget, const std::function<void(int)>& work) {
  std::vector<double> rates;
  std::atomic<bool> stop{false};
  Barrier barrier(threads);
  auto body = [&](int thread) {
    work(thread);  // warm: pages, clock
    const auto first = Clock::now();
    while (true) {
      barrier.wait();
      const auto began = Clock::now();
      work(thread);
      barrier.wait();
      if (thread == 0) {
        rates.push_back(amount / seconds_since(began));
        stop = rates.size() >= 5 && seconds_since(first) > budget;
      }
      barrier.wait();
      if (stop) return;
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; thread++) others.emplace_back(body, thread);
  body(0);
  for (auto& other : others) other.join();
  std::sort(rates.begin(), rates.end());
  return {rates.back(), rates[rates.size() / 2]};
}

// Memory in huge pages where the system has them, filled by the thread that will read it.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    void* address =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
      std::fprintf(stderr, "machine_limits: no memory for %zu bytes\n", bytes);
      std::exit(1);
    }
#ifdef MADV_HUGEPAGE
    madvise(address, bytes, MADV_HUGEPAGE);
#endif
    data_ = static_cast<char*>(address);
  }
  ~Buffer() { munmap(data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void fill() {
    for (size_t at = 0; at < bytes_; at += 8) {
      const uint64_t value = (at + 1) * 0x9e3779b97f4a7c15ULL;
      std::memcpy(data_ + at, &value, 8);
    }
  }
  const char* data() const { return data_; }

 private:
  size_t bytes_;
  char* data_;
};

// Reads with a number of threads, each from memory of its own.
class Reader {
 public:
  Reader(int threads, size_t total_bytes)
      : threads_(threads), each_(total_bytes / static_cast<size_t>(threads) / 4096 * 4096) {
    buffers_.reserve(static_cast<size_t>(threads));
    for (int thread = 0; thread < threads; thread++)
      buffers_.push_back(std::make_unique<Buffer>(each_));
    std::vector<std::thread> fillers;
    fillers.reserve(buffers_.size());
    for (auto& buffer : buffers_) fillers.emplace_back([&buffer] { buffer->fill(); });
    for (auto& filler : fillers) filler.join();
  }

  // All loops share the budget the first time; later the fastest has it alone.
  Rate measure(double budget) {
    if (fastest_ != nullptr) return rate(*fastest_, budget);
    Rate best;
    for (int i = 0; i < kNumReadLoops; i++) {
      const ReadLoop& loop = read_loops()[i];
      const Rate found = rate(loop, budget / kNumReadLoops);
      if (found.best <= best.best) continue;
      best = found;
      fastest_ = &loop;
    }
    return best;
  }

 private:
  Rate rate(const ReadLoop& loop, double budget) const {
    return rate_of(threads_, static_cast<double>(each_) * threads_, budget,
                   [&](int thread) { loop.run(buffers_[thread]->data(), each_); });
  }

  const int threads_;
  const size_t each_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  const ReadLoop* fastest_ = nullptr;
};

Rate compute_rate(const ComputeLoop& loop, int threads, double budget) {
  constexpr int64_t kRounds = 400'000;  // some 2 ms
  return rate_of(threads, static_cast<double>(loop.flops_per_round) * kRounds * threads, budget,
                 [&](int) { loop.run(kRounds); });
}

std::string json_of(const char* name, const Rate& rate) {
  char text[128];
  std::snprintf(text, sizeof text, "\"%s\":{\"best\":%.2f,\"median\":%.2f}", name, rate.best / 1e9,
                rate.median / 1e9);
  return text;
}

// CPU time of all threads so far, so that who watches the machine can tell this program's load.
double cpu_milliseconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// One line. make_reader(i): that of the i-th number of threads.
void print_limits(const std::vector<int>& thread_counts, double budget,
                  const std::function<Reader&(size_t)>& make_reader) {
  const ComputeLoop fma = fma_loop();
  const ComputeLoop bf16 = bf16_loop();
  auto quoted = [](const char* name) {
    return name == nullptr ? std::string("null") : '"' + std::string(name) + '"';
  };
  std::printf("{\"fmaInstruction\":%s,\"bf16Instruction\":%s,\"threads\":[",
              quoted(fma.name).c_str(), quoted(bf16.name).c_str());
  for (size_t i = 0; i < thread_counts.size(); i++) {
    const int threads = thread_counts[i];
    std::printf("%s{\"threads\":%d,%s", i == 0 ? "" : ",", threads,
                json_of("readGBs", make_reader(i).measure(budget)).c_str());
    if (fma.run)
      std::printf(",%s", json_of("fmaGflops", compute_rate(fma, threads, budget)).c_str());
    if (bf16.run)
      std::printf(",%s", json_of("bf16Gflops", compute_rate(bf16, threads, budget)).c_str());
    std::printf("}");
  }
  std::printf("],\"cpuMs\":%.1f}\n", cpu_milliseconds());
  std::fflush(stdout);
}

// Keeps the memory that it reads between the answers.
void follow(const std::vector<int>& thread_counts, double budget, size_t bytes) {
  std::vector<std::unique_ptr<Reader>> readers;
  readers.reserve(thread_counts.size());
  for (const int threads : thread_counts)
    readers.push_back(std::make_unique<Reader>(threads, bytes));
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    if (c == '\n')
      print_limits(thread_counts, budget, [&](size_t i) -> Reader& { return *readers[i]; });
  }
}

int main_of(int argc, char** argv) {
  std::vector<int> thread_counts = {1};
  double budget = 0.2;
  size_t bytes = size_t{256} << 20;
  bool follows = false;
  for (int i = 1; i < argc; i++) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--follow") {
      follows = true;
      continue;
    }
    i++;
    if (option == "--threads") {
      thread_counts.clear();
      for (const char* at = value; *at != '\0';) {
        char* end = nullptr;
        thread_counts.push_back(static_cast<int>(std::strtol(at, &end, 10)));
        if (end == at) thread_counts.back() = 0;
        at = end == at || *end == ',' ? end + (*end != '\0') : end;
      }
    } else if (option == "--milliseconds") {
      budget = std::atof(value) / 1000;
    } else if (option == "--mebibytes") {
      bytes = static_cast<size_t>(std::atoll(value)) << 20;
    } else {
      std::fprintf(stderr, "machine_limits: unknown option %s\n", argv[i - 1]);
      return 2;
    }
  }
  for (const int threads : thread_counts) {
    if (threads >= 1 && threads <= 1024 && bytes >= (size_t{1} << 20)) continue;
    std::fprintf(stderr, "machine_limits: threads from 1 to 1024, at least 1 MiB\n");
    return 2;
  }
  if (follows) {
    follow(thread_counts, budget, bytes);
    return 0;
  }
  std::unique_ptr<Reader> reader;
  print_limits(thread_counts, budget, [&](size_t i) -> Reader& {
    reader.reset();
    reader = std::make_unique<Reader>(thread_counts[i], bytes);
    return *reader;
  });
  return 0;
}

}  // namespace
}  // namespace machine_limits

int main(int argc, char** argv) { return machine_limits::main_of(argc, argv); }
