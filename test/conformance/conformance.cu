// conformance [--version] [--dump PATH] [--check PATH]…
//   runs every case on the current device and compares it with the plain C++ model
//   --dump    writes the results: to PATH, or to a file of its own in the folder PATH
//   --version asks nothing of a device: whether the program starts on this machine
//   --check   compares with a dump, or with all dumps of a folder (--compare is the same)
// A case that no dump of real hardware covers is "not confirmed on hardware". Ends with
// "N passed, M failed"; status 0 only when M is 0.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "conformance/cases_arithmetic.cuh"
#include "conformance/cases_memory.cuh"
#include "conformance/cases_tensor.cuh"
#include "conformance/cases_warp.cuh"
#include "conformance/dump.h"

namespace conformance {

std::vector<Case> run_cases() {
  std::vector<Case> cases;
  add_tensor_cases(cases);
  add_memory_cases(cases);
  add_warp_cases(cases);
  add_arithmetic_cases(cases);
  return cases;
}

namespace {

#if defined(SIMT_EMULATOR)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

// Two machines may each be off by the bound, in opposite directions.
constexpr double kSlackBetweenMachines = 2;

int passed = 0;
int failed = 0;

bool report(bool good, const std::string& what) {
  ++(good ? passed : failed);
  if (!good) std::printf("FAILED %s\n", what.c_str());
  return good;
}

struct NamedDump {
  std::string name;
  Dump dump;
  bool hardware = false;
};

std::vector<std::pair<std::string, std::string>> about_this_machine() {
  cudaDeviceProp properties;
  int device = 0;
  must(cudaGetDevice(&device), "cudaGetDevice");
  must(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  int driver = 0;
  int runtime = 0;
  must(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  return {{"date", date},
          {"device", properties.name},
          {"architecture", "sm_" + std::to_string(10 * properties.major + properties.minor)},
          {"driver", std::to_string(driver)},
          {"runtime", std::to_string(runtime)},
          {"emulated", kEmulated ? "1" : "0"}};
}

// "2026-11-24-nvidia-h200.txt"
std::string dump_name(const std::vector<std::pair<std::string, std::string>>& about) {
  std::string name = about[0].second + "-";
  for (const char letter : about[1].second) {
    const unsigned char byte = static_cast<unsigned char>(letter);
    if (std::isalnum(byte) != 0) {
      name += static_cast<char>(std::tolower(byte));
    } else if (name.back() != '-') {
      name += '-';
    }
  }
  while (name.back() == '-') name.pop_back();
  return name + ".txt";
}

// False: a dump could not be read.
bool load_dumps(const std::string& path, std::vector<NamedDump>* dumps) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      if (entry.path().extension() == ".txt") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  bool good = true;
  for (const std::filesystem::path& file : files) {
    NamedDump named;
    named.name = file.filename().string();
    std::string why;
    if (!read_dump(file.string(), &named.dump, &why)) {
      good = report(false, named.name + ": " + why);
      continue;
    }
    named.hardware = named.dump.about["emulated"] == "0";
    dumps->push_back(std::move(named));
  }
  return good;
}

std::string verdict_text(const Case& one, const Verdict& verdict) {
  if (verdict.same_bits) return "same bits";
  if (!verdict.good) return verdict.why;
  char text[64];
  std::snprintf(text, sizeof text, "within %.3g of the bound", verdict.worst);
  return one.kind == Kind::kExact ? verdict.why : text;
}

void compare(const Case& one, const std::vector<NamedDump>& dumps) {
  const Verdict verdict = judge(one, one.out, one.model, 1);
  std::string line = "model: " + verdict_text(one, verdict);
  report(verdict.good, one.name + ": model: " + verdict.why);
  bool confirmed = false;
  for (const NamedDump& named : dumps) {
    const auto found = named.dump.entries.find(one.name);
    if (found == named.dump.entries.end()) continue;
    const Dump::Entry& entry = found->second;
    if (entry.kind != kind_name(one.kind) || entry.seed != one.seed || entry.folded != folds(one)) {
      report(false, one.name + ": " + named.name + " is of another form of this case");
      continue;
    }
    const std::vector<uint32_t> mine = folds(one) ? fold(one.out) : one.out;
    const Verdict between = judge(one, mine, entry.words, kSlackBetweenMachines);
    report(between.good, one.name + ": " + named.name + ": " + between.why);
    line += "; " + named.name + ": " + verdict_text(one, between);
    confirmed = confirmed || (named.hardware && between.good);
  }
  if (kEmulated && !confirmed) line += "; not confirmed on hardware";
  std::printf("%-26s %-6s %s\n", one.name.c_str(), kind_name(one.kind), line.c_str());
}

int run(const std::string& dump_path, const std::vector<std::string>& checks) {
  std::vector<NamedDump> dumps;
  for (const std::string& path : checks) load_dumps(path, &dumps);
  const auto about = about_this_machine();
  for (const auto& [key, value] : about) std::printf("%s: %s\n", key.c_str(), value.c_str());
  const std::vector<Case> cases = run_cases();
  for (const Case& one : cases) compare(one, dumps);
  if (!dump_path.empty()) {
    std::error_code error;
    std::filesystem::path path = dump_path;
    if (std::filesystem::is_directory(path, error)) path /= dump_name(about);
    report(write_dump(path.string(), cases, about), "cannot write " + path.string());
    std::printf("written: %s\n", path.string().c_str());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace conformance

int main(int argc, char** argv) {
  std::string dump;
  std::vector<std::string> checks;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--version") {
      std::printf("conformance\n");
      return 0;
    }
    if (option == "--dump" && i + 1 < argc) {
      dump = argv[++i];
    } else if ((option == "--check" || option == "--compare") && i + 1 < argc) {
      checks.push_back(argv[++i]);
    } else {
      std::fprintf(stderr, "usage: conformance [--version] [--dump PATH] [--check PATH]...\n");
      return 2;
    }
  }
  try {
    return conformance::run(dump, checks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "conformance: %s\n", error.what());
    return 2;
  }
}
