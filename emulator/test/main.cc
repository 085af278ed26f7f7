// The emulator's self-tests: emulator_tests [--filter SUITE] [--list], or --child NAME for a planted
// defect that ends the process. Last line: "N passed, M failed".
#include <cstdio>
#include <string>

#include "cpp/runner.h"

void child_global_read();
void child_global_write();
void child_array_end();
void child_dynamic_end();

namespace {

struct Child {
  const char* name;
  void (*run)();
};
constexpr Child kChildren[] = {
    {"global_read", child_global_read},
    {"global_write", child_global_write},
    {"array_end", child_array_end},
    {"dynamic_end", child_dynamic_end},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--child") {
    for (const Child& child : kChildren) {
      if (std::string(argv[2]) == child.name) child.run();
    }
    return 0;  // it lived
  }
  test_runner::Runner runner(&argc, argv);
  if (argc > 1) {
    std::fprintf(stderr, "usage: emulator_tests [--filter SUITE] [--list]\n");
    return 2;
  }
  if (runner.is_listing()) return runner.list();
  runner.run("emulator");
  return runner.finish();
}
