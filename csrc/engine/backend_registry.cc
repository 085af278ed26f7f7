#include "engine/backend_registry.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "cpu/backend.h"
#include "engine/failure.h"
#include "platform/environment.h"
#include "platform/library.h"

namespace sparse_experts::engine {
namespace {

constexpr BackendRow kRows[] = {
    {"cuda", "CUDA", true, 100, nullptr, "sparse_experts_cuda", "SPARSE_EXPERTS_CUDA_LIBRARY"},
    {"cpu", "CPU", false, 10, cpu_backend, nullptr, nullptr},
};

Backend open_library(const BackendRow& row, const std::string& path) {
  if (!platform::file_exists(path))
    return {&row, nullptr,
            std::string("this build has no ") + row.title + " backend: " + path + " not found"};
  std::string problem;
  void* library = platform::open_library(path, &problem);
  if (library == nullptr) return {&row, nullptr, "cannot open " + path + ": " + problem};
  const auto refuse = [&](const std::string& why) -> Backend {
    platform::close_library(library);
    return {&row, nullptr, path + ": " + why};
  };
  void* symbol = platform::library_symbol(library, "se_backend_entry");
  if (symbol == nullptr) return refuse("no se_backend_entry: this is no backend");
  SeBackendEntry entry = nullptr;
  std::memcpy(&entry, &symbol, sizeof entry);
  const SeBackend* backend = entry();
  if (backend == nullptr) return refuse("the backend refuses to start");
  if (backend->abi_version != SE_BACKEND_ABI_VERSION)
    return refuse("backend interface " + std::to_string(backend->abi_version) +
                  ", this build needs " + std::to_string(SE_BACKEND_ABI_VERSION));
  if (backend->table_bytes != sizeof(SeBackend))
    return refuse("function table of " + std::to_string(backend->table_bytes) +
                  " bytes, this build needs " + std::to_string(sizeof(SeBackend)));
  if (backend->name == nullptr || std::strcmp(backend->name, row.name) != 0)
    return refuse(std::string("it is not the ") + row.name + " backend");
  return {&row, backend, ""};
}

Backend open_backend(const BackendRow& row) {
  if (row.linked != nullptr) return {&row, row.linked(), ""};
  const std::string named = platform::environment_variable(row.library_variable);
  const std::string file = platform::library_file(row.library);
  return open_library(row, named.empty() ? platform::sibling_path(file) : named);
}

struct Entry {
  const BackendRow* row;
  bool is_open = false;
  Backend backend = {};
};

// By falling priority. Never destroyed: at process exit threads may still be looking.
struct Registry {
  std::mutex mutex;
  std::vector<Entry> entries;

  Registry() {
    for (const BackendRow& row : kRows) add(&row);
  }
  void add(const BackendRow* row) {
    const auto place = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) {
      return entry.row->priority < row->priority;
    });
    entries.insert(place, Entry{row});
  }
  static const Backend& open(Entry& entry) {
    if (!entry.is_open) entry.backend = open_backend(*entry.row);
    entry.is_open = true;
    return entry.backend;
  }
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

}  // namespace

std::vector<Backend> backends() {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::vector<Backend> found;
  for (Entry& entry : all.entries) found.push_back(Registry::open(entry));
  return found;
}

Backend find_backend(const std::string& name) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (Entry& entry : all.entries) {
    if (name == entry.row->name) return Registry::open(entry);
  }
  return {nullptr, nullptr, "no backend is named " + name};
}

void add_backend(const BackendRow* row) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.add(row);
}

std::pair<Backend, int32_t> parse_device_id(const std::string& id) {
  const size_t colon = id.find(':');
  Backend backend = find_backend(id.substr(0, colon));
  if (backend.table == nullptr) fail(ErrorCode::kDeviceUnavailable, backend.reason);
  if (colon == std::string::npos) return {std::move(backend), 0};
  const std::string digits = id.substr(colon + 1);
  if (!backend.row->is_numbered || digits.empty() || digits.size() > 4 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    std::string expected;
    for (const Backend& known : backends()) {
      const std::string name = known.row->name;
      expected += (expected.empty() ? "'" : ", '") + name + "'";
      if (known.row->is_numbered) expected += ", '" + name + ":N'";
    }
    fail_argument("Expected one of " + expected + " for device, received '" + id + "'");
  }
  return {std::move(backend), std::stoi(digits)};
}

std::string device_id(const BackendRow& row, int32_t index) {
  return row.is_numbered ? std::string(row.name) + ":" + std::to_string(index) : row.name;
}

}  // namespace sparse_experts::engine
