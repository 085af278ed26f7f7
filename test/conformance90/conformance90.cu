// conformance90 [CASE | --list]
//   what the warp-group matmul counts on and only a Hopper can say, each case alone or all in turn: a wrong
//   wait never ends, so whoever runs them on a card gives each a process and a limit of time
// Ends with "N passed, M failed"; status 0 only when M is 0, 3 where the device is no Hopper.
#include <cstdio>
#include <string>

#include "conformance90/cases_boxes.cuh"
#include "conformance90/cases_operands.cuh"
#include "conformance90/cases_order.cuh"
#include "conformance90/cases_rates.cuh"
#include "conformance90/report.h"

namespace conformance90 {
namespace {

struct Group {
  const char* name;
  void (*run)();
};
const Group kGroups[] = {{"products", products_of_wgmma},  {"fragments", fragments_of_wgmma},
                         {"boxes", boxes_of_one_matrix},   {"gated-boxes", boxes_of_gate_and_up},
                         {"maps", maps_without_fence},     {"ring", ring_of_stages},
                         {"proxy", writes_before_wgmma},   {"registers", registers_of_roles},
                         {"chain", chain_of_early_kernels}, {"rates", rates}};

bool is_hopper() {
#if defined(SIMT_EMULATOR)
  return true;
#else
  cudaDeviceProp properties;
  must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.major == 9 && properties.minor == 0;
#endif
}

}  // namespace
}  // namespace conformance90

int main(int argc, char** argv) {
  using namespace conformance90;
  const std::string wanted = argc > 1 ? argv[1] : "";
  if (wanted == "--list") {
    for (const Group& group : kGroups) std::printf("%s\n", group.name);
    return 0;
  }
  if (!is_hopper()) {
    std::printf("no device of compute capability 9.0\n");
    return 3;
  }
  bool found = wanted.empty();
  for (const Group& group : kGroups) {
    if (!wanted.empty() && wanted != group.name) continue;
    found = true;
    group.run();
  }
  if (!found) {
    std::fprintf(stderr, "conformance90: no case %s: --list names them\n", wanted.c_str());
    return 2;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
