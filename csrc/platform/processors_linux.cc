#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "platform/processors.h"

namespace sparse_experts::platform {
namespace {

// First line of a small file; empty where it cannot be read.
std::string first_line(const std::string& path) {
  char line[512] = "";
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    if (std::fgets(line, sizeof line, file) == nullptr) line[0] = '\0';
    std::fclose(file);
  }
  line[std::strcspn(line, "\n")] = '\0';
  return line;
}

// CPUs that one control group allows, 0 = no limit. v2: "quota period" or "max period".
double quota_of(const std::string& directory) {
  double quota = 0;
  double period = 0;
  if (std::sscanf(first_line(directory + "/cpu.max").c_str(), "%lf %lf", &quota, &period) == 2 &&
      quota > 0 && period > 0)
    return quota / period;
  return 0;
}

// The tightest quota from the process's own group up to the root; inside a container its own group
// is the root.
double cpu_quota() {
  const std::string root = "/sys/fs/cgroup";
  std::string group = first_line("/proc/self/cgroup");  // v2: "0::/path"
  group = group.rfind("0::/", 0) == 0 ? group.substr(3) : "/";
  double tightest = 0;
  for (;;) {
    const double quota = quota_of(group == "/" ? root : root + group);
    if (quota > 0) tightest = tightest > 0 ? std::min(tightest, quota) : quota;
    if (group == "/" || group.empty()) break;
    const size_t slash = group.rfind('/');
    group = slash == 0 || slash == std::string::npos ? "/" : group.substr(0, slash);
  }
  if (tightest > 0) return tightest;
  double quota = 0;
  double period = 0;
  if (std::sscanf(first_line(root + "/cpu/cpu.cfs_quota_us").c_str(), "%lf", &quota) == 1 &&
      std::sscanf(first_line(root + "/cpu/cpu.cfs_period_us").c_str(), "%lf", &period) == 1 &&
      quota > 0 && period > 0)
    return quota / period;
  return 0;
}

}  // namespace

std::string processor_name() {
  std::string name = "CPU";
  std::FILE* file = std::fopen("/proc/cpuinfo", "re");
  if (file == nullptr) return name;
  char line[256];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    const char* colon = std::strchr(line, ':');
    if (std::strncmp(line, "model name", 10) != 0 || colon == nullptr) continue;
    line[std::strcspn(line, "\n")] = '\0';
    name = colon[1] == ' ' ? colon + 2 : colon + 1;
    break;
  }
  std::fclose(file);
  return name;
}

int available_processors() {
  int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
  const double quota = cpu_quota();
  if (quota > 0) count = std::clamp(static_cast<int>(std::ceil(quota)), 1, count);
  return count;
}

}  // namespace sparse_experts::platform
