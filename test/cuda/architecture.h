// An emulated device of another architecture for the length of a scope.
#pragma once

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>

#include <cstdlib>
#include <string>

namespace native_test {

class Architecture {
 public:
  explicit Architecture(const char* capability) {
    const char* before = std::getenv(kVariable);
    had_one_ = before != nullptr;
    if (had_one_) before_ = before;
    setenv(kVariable, capability, 1);
    simt::reset_runtime();
  }
  ~Architecture() {
    if (had_one_) {
      setenv(kVariable, before_.c_str(), 1);
    } else {
      unsetenv(kVariable);
    }
    simt::reset_runtime();
  }
  Architecture(const Architecture&) = delete;
  Architecture& operator=(const Architecture&) = delete;

 private:
  static constexpr const char* kVariable = "SIMT_COMPUTE_CAPABILITY";
  bool had_one_ = false;
  std::string before_;
};

}  // namespace native_test
#endif
