// What a program pays that maps a checkpoint into memory and leaves the reading to page faults: touches
// ranges of files by several threads, a range each at a time, and tells how long that takes.
//
//   mapped_reads THREADS
//
// Standard input: lines "OFFSET BYTES FILE", and an empty line, upon which all of them are touched and
// the milliseconds are printed. Files stay mapped until the end.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Range {
  const uint8_t* data;
  uint64_t bytes;
};

constexpr uint64_t kLine = 64;

const uint8_t* map_file(const std::string& path) {
  static std::map<std::string, const uint8_t*> known;
  const auto found = known.find(path);
  if (found != known.end()) return found->second;
  const int descriptor = open(path.c_str(), O_RDONLY);
  struct stat info = {};
  void* data = MAP_FAILED;
  if (descriptor >= 0 && fstat(descriptor, &info) == 0)
    data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    std::perror(path.c_str());
    std::exit(1);
  }
  close(descriptor);
  return known[path] = static_cast<const uint8_t*>(data);
}

// A load from each cache line, as a matrix product makes.
uint64_t touch(const Range& range) {
  uint64_t sum = 0;
  for (uint64_t at = 0; at < range.bytes; at += kLine) sum += range.data[at];
  return sum;
}

double touch_all(const std::vector<Range>& ranges, int num_threads) {
  const auto began = std::chrono::steady_clock::now();
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(num_threads));
  for (int i = 0; i < num_threads; ++i) {
    threads.emplace_back([&] {
      uint64_t own = 0;
      for (size_t at = next++; at < ranges.size(); at = next++) own += touch(ranges[at]);
      sum += own;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  // Nobody may leave the loads out.
  return sum == UINT64_MAX ? -1 : took.count();
}

}  // namespace

int main(int argc, char** argv) {
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  std::vector<Range> ranges;
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) {
      std::cout << touch_all(ranges, num_threads) << std::endl;
      ranges.clear();
      continue;
    }
    std::istringstream fields(line);
    uint64_t offset = 0;
    uint64_t bytes = 0;
    std::string path;
    fields >> offset >> bytes >> std::ws;
    std::getline(fields, path);
    ranges.push_back({map_file(path) + offset, bytes});
  }
  return 0;
}
