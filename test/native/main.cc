// Self-test of the CPU backend without Node: native_tests [--filter SUITE] [--isa NAME]... [--bench | --bench-panels KIND]
// Every op and whole layers against naive double precision, on every instruction set of the machine; on
// one that differs from the one before by products of rows of codes alone, the suites about those.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpp/runner.h"
#include "cpu/backend.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"

namespace native_test {
namespace {

Context context;

// Opens a device with one instruction set, for the length of a scope.
class Device {
 public:
  Device(const SeBackend* backend, const std::string& isa) {
    setenv("SPARSE_EXPERTS_CPU_ISA", isa.c_str(), 1);
    context = {backend, nullptr, isa};
    SeStatus status{};
    if (backend->device_open(0, &context.device, &status) != SE_OK)
      std::fprintf(stderr, "%s does not open: %s\n", isa.c_str(), status.message);
  }
  ~Device() { context.backend->device_close(context.device); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  bool is_open() const { return context.device != nullptr; }
};

int run(int argc, char** argv) {
  test_runner::Runner runner(&argc, argv);
  if (runner.is_listing()) return runner.list();
  bool bench = false;
  const char* panels = nullptr;  // kinds to measure
  std::vector<std::string> only;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--bench") {
      bench = true;
    } else if (option == "--bench-panels" && i + 1 < argc) {
      panels = argv[++i];
      bench = true;
    } else if (option == "--isa" && i + 1 < argc) {
      only.push_back(argv[++i]);
    } else {
      std::fprintf(stderr,
                   "usage: native_tests [--filter SUITE] [--list] [--isa NAME]... [--bench | "
                   "--bench-panels KIND]\n");
      return 2;
    }
  }
  if (!bench) {
    runner.run_suite("machine", "machine");
    runner.run_suite("memory limits", "memory_limits");
    // Four participants whatever the machine has, so that threads are exercised everywhere; benches
    // take what is there.
    setenv("SPARSE_EXPERTS_THREADS", "4", 1);
  }
  const SeBackend* backend = sparse_experts::cpu_backend();
  const auto isas = sparse_experts::cpu::available_isas();
  for (auto isa = isas; *isa != nullptr; ++isa) {
    const std::string name = (*isa)->name;
    // One with another's functions, but for products of rows of codes.
    const bool is_extension = isa != isas && isa[0]->encode == isa[-1]->encode;
    if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
    const Device device(backend, name);
    if (!device.is_open()) return 1;
    if (panels != nullptr) {
      run_panel_bench(context, panels);
    } else if (bench) {
      run_bench(context);
    } else if (is_extension) {
      runner.run_suite(name, "coded_panels");
      runner.run_suite(name, "guard_pages");
    } else {
      runner.run(name, {"machine"});
    }
  }
  return bench ? 0 : runner.finish();
}

}  // namespace

const Context& current() { return context; }

}  // namespace native_test

int main(int argc, char** argv) { return native_test::run(argc, argv); }
