// Limits of control groups, read from trees of files as kernels, containers and hosts lay them out.
#include "platform/memory_limits.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cpp/check.h"

namespace native_test {
namespace {

using sparse_experts::platform::memory_limit;
using sparse_experts::platform::MemoryLimit;

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A root directory that is filled file by file and removed at the end.
class Root {
 public:
  Root() {
    std::string name = (std::filesystem::temp_directory_path() / "memory-limits-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Root() { std::filesystem::remove_all(path_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = path_ + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void write(const std::string& file, uint64_t value) const {
    write(file, std::to_string(value) + "\n");
  }
  MemoryLimit limit() const { return memory_limit(path_); }

 private:
  std::string path_;
};

const char* const kMountV2 =
    "21 1 0:20 / /proc rw - proc proc rw\n"
    "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST_SUITE_BEGIN("memory_limits");

TEST_CASE("nothing to read is no limit") {
  const Root root;
  CHECK(root.limit().limit_bytes == UINT64_MAX);
  CHECK(root.limit().left_bytes == UINT64_MAX);
  root.write("/proc/self/cgroup", "0::/a\n1:memory:/b\nnonsense\n");
  CHECK(root.limit().left_bytes == UINT64_MAX);
  root.write("/proc/self/mountinfo", kMountV2);
  root.write("/sys/fs/cgroup/a/memory.max", "max\n");
  root.write("/sys/fs/cgroup/a/memory.current", 5 * kMiB);
  CHECK(root.limit().left_bytes == UINT64_MAX);
}

TEST_CASE("version 2: the least of the group and of those around it, high as well as max") {
  const Root root;
  root.write("/proc/self/cgroup", "0::/outer/middle/inner\n");
  root.write("/proc/self/mountinfo", kMountV2);
  const std::string base = "/sys/fs/cgroup/outer";
  root.write(base + "/middle/inner/memory.max", "max\n");
  root.write(base + "/middle/memory.max", 100 * kMiB);
  root.write(base + "/middle/memory.high", 90 * kMiB);
  root.write(base + "/middle/memory.current", 60 * kMiB);
  CHECK(root.limit().limit_bytes == 90 * kMiB);
  CHECK(root.limit().left_bytes == 30 * kMiB);
  // The pages of files that were read are not in anybody's way.
  root.write(base + "/middle/memory.stat",
             "anon 1\nfile 41943040\ninactive_file 31457280\nactive_file 10485760\nshmem 7\n");
  CHECK(root.limit().left_bytes == 70 * kMiB);
  // A wider group that has less left than the narrower one.
  root.write(base + "/memory.max", 500 * kMiB);
  root.write(base + "/memory.current", 499 * kMiB);
  CHECK(root.limit().limit_bytes == 90 * kMiB);
  CHECK(root.limit().left_bytes == kMiB);
  root.write(base + "/memory.current", 501 * kMiB);
  CHECK(root.limit().left_bytes == 0);
}

TEST_CASE("version 2 in a container: the mount shows its own group as the root") {
  const Root root;
  root.write("/proc/self/cgroup", "0::/\n");
  root.write("/proc/self/mountinfo", kMountV2);
  root.write("/sys/fs/cgroup/memory.max", 64 * kMiB);
  root.write("/sys/fs/cgroup/memory.current", 16 * kMiB);
  CHECK(root.limit().left_bytes == 48 * kMiB);
  root.write("/proc/self/cgroup", "0::/../other\n");
  CHECK(root.limit().left_bytes == 48 * kMiB);
}

TEST_CASE("version 1: the memory controller's hierarchy, seen whole or in part") {
  const Root root;
  root.write("/proc/self/cgroup", "7:cpu,cpuacct:/x\n5:memory:/docker/abc/inner\n0::/y\n");
  const auto mounted_at = [&](const std::string& group) {
    root.write("/proc/self/mountinfo",
               "30 29 0:27 /x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
               "31 29 0:28 " +
                   group + " /sys/fs/cgroup/memory rw master:2 - cgroup cgroup rw,memory\n");
  };
  const std::string base = "/sys/fs/cgroup/memory";
  root.write(base + "/memory.limit_in_bytes", 9223372036854771712u);
  root.write(base + "/docker/abc/inner/memory.limit_in_bytes", 9223372036854771712u);
  root.write(base + "/docker/abc/memory.limit_in_bytes", 32 * kMiB);
  root.write(base + "/docker/abc/memory.usage_in_bytes", 30 * kMiB);
  root.write(base + "/docker/abc/memory.stat", "total_inactive_file 1048576\ninactive_file 9\n");
  mounted_at("/");
  CHECK(root.limit().limit_bytes == 32 * kMiB);
  CHECK(root.limit().left_bytes == 3 * kMiB);
  root.write(base + "/inner/memory.limit_in_bytes", 8 * kMiB);
  root.write(base + "/inner/memory.usage_in_bytes", 2 * kMiB);
  mounted_at("/docker/abc");
  CHECK(root.limit().left_bytes == 6 * kMiB);
  // "/docker/ab" is no parent of "/docker/abc".
  mounted_at("/docker/ab");
  CHECK(root.limit().left_bytes == UINT64_MAX);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
