// kernel_variants: the table of csrc/cuda/variants.h, one JSON object per cell, for
// tools/check/kernels.mjs. Runs on the host alone.
#include "cuda/variants.h"

#include <cstdio>

int main() {
  for (const sparse_experts::cuda::KernelCell& cell : sparse_experts::cuda::kernel_cells()) {
    std::printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"least\":%d,\"most\":%d,\"kernels\":[",
                cell.op.c_str(), cell.dtype.c_str(), cell.runs_on.least, cell.runs_on.most);
    const char* comma = "";
    for (const std::string& name : cell.kernels) {
      std::printf("%s\"%s\"", comma, name.c_str());
      comma = ",";
    }
    std::puts("]}");
  }
  return 0;
}
