// The main of test programs that run their cases once: PROGRAM [--filter TEXT] [--list].
#include <cstdio>

#include "cpp/runner.h"

int main(int argc, char** argv) {
  test_runner::Runner runner(&argc, argv);
  if (argc > 1) {
    std::fprintf(stderr, "usage: %s [--filter TEXT] [--list]\n", argv[0]);
    return 2;
  }
  if (runner.is_listing()) return runner.list();
  runner.run("all");
  return runner.finish();
}
