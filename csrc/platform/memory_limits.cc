#include "platform/memory_limits.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

namespace sparse_experts::platform {
namespace {

// Without a limit version 1 reports the largest multiple of a page.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

// Where a hierarchy of groups is mounted, and which of its groups is seen there.
struct Mount {
  std::string point;
  std::string root;
};

// The names of one version's files.
struct Files {
  std::vector<const char*> limits;
  const char* usage;
  // Pages of files, which the kernel drops before it ends a process: what a load has read stands
  // there, among others.
  std::vector<std::string> reclaimable;
};

const Files kVersion1 = {{"memory.limit_in_bytes"},
                         "memory.usage_in_bytes",
                         {"total_inactive_file", "total_active_file"}};
// Above memory.high a process is slowed down so much that it may as well be ended.
const Files kVersion2 = {
    {"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}};

uint64_t read_bytes(const std::string& file) {
  std::ifstream stream(file);
  uint64_t value = 0;
  return stream >> value ? value : UINT64_MAX;  // "max" is no number
}

uint64_t read_reclaimable(const std::string& file, const std::vector<std::string>& names) {
  std::ifstream stream(file);
  std::string name;
  uint64_t value = 0;
  uint64_t sum = 0;
  while (stream >> name >> value) {
    if (std::find(names.begin(), names.end(), name) != names.end()) sum += value;
  }
  return sum;
}

void apply_group(const std::string& directory, const Files& files, MemoryLimit* out) {
  uint64_t limit = UINT64_MAX;
  for (const char* name : files.limits) {
    limit = std::min(limit, read_bytes(directory + "/" + name));
  }
  if (limit >= kUnlimited) return;
  uint64_t used = read_bytes(directory + "/" + files.usage);
  if (used == UINT64_MAX) used = 0;
  used -= std::min(used, read_reclaimable(directory + "/memory.stat", files.reclaimable));
  out->limit_bytes = std::min(out->limit_bytes, limit);
  out->left_bytes = std::min(out->left_bytes, limit > used ? limit - used : 0);
}

// A group, and the groups that it lies in, up to the mount.
void apply_groups(const std::string& root, const Mount& mount, const std::string& group,
                  const Files& files, MemoryLimit* out) {
  // In a container the mount may show a part of the hierarchy only. A group outside of it cannot be
  // seen; the mount itself is what limits this process as far as anybody here can tell.
  std::string inner;
  const std::string above = mount.root == "/" ? "" : mount.root;
  const bool is_inside = group.compare(0, above.size(), above) == 0 &&
                         (group.size() == above.size() || group[above.size()] == '/');
  if (is_inside && group.find("/..") == std::string::npos) inner = group.substr(above.size());
  while (!inner.empty() && inner.back() == '/') inner.pop_back();
  const std::string top = root + mount.point;
  for (std::string directory = top + inner;; directory.resize(directory.rfind('/'))) {
    apply_group(directory, files, out);
    if (directory.size() <= top.size()) return;
  }
}

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) {
    if (item == word) return true;
  }
  return false;
}

// The first mount of a file system whose options name `option`, where that is not empty.
bool find_mount(const std::string& root, const std::string& type, const std::string& option,
                Mount* out) {
  std::ifstream stream(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(stream, line);) {
    // "id parent device ROOT POINT options tags - TYPE source OPTIONS"
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string id, parent, device, found_type, source, options;
    Mount mount;
    before >> id >> parent >> device >> mount.root >> mount.point;
    after >> found_type >> source >> options;
    if (found_type == type && (option.empty() || has_word(options, option))) {
      *out = mount;
      return true;
    }
  }
  return false;
}

}  // namespace

MemoryLimit memory_limit(const std::string& root) {
  MemoryLimit limit;
  std::ifstream stream(root + "/proc/self/cgroup");
  for (std::string line; std::getline(stream, line);) {
    // "number:controllers:group"; version 2 has the number 0 and no controllers.
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    Mount mount;
    if (controllers.empty()) {
      if (find_mount(root, "cgroup2", "", &mount)) {
        apply_groups(root, mount, group, kVersion2, &limit);
      }
    } else if (has_word(controllers, "memory") && find_mount(root, "cgroup", "memory", &mount)) {
      apply_groups(root, mount, group, kVersion1, &limit);
    }
  }
  return limit;
}

}  // namespace sparse_experts::platform
