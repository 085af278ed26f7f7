#include "platform/environment.h"
#include "platform/windows.h"

namespace sparse_experts::platform {

// Not getenv: the C library's copy of the environment does not see what Node sets later.
std::string environment_variable(const char* name) {
  const std::wstring wide_name = wide(name);
  std::wstring value;
  DWORD needed = 256;
  for (;;) {
    value.resize(needed);
    const DWORD got = GetEnvironmentVariableW(wide_name.c_str(), value.data(), needed);
    if (got < needed) {
      value.resize(got);
      return utf8(value);
    }
    needed = got;  // with the end of the string; another thread may have made it longer meanwhile
  }
}

}  // namespace sparse_experts::platform
